"""Which spans are calls, and how they went."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, Status, StatusCode

from heatshield.metrics import calls
from heatshield.metrics.red import Red
from heatshield.names import GUARD, REJECTED
from heatshield.tracing.provider import Provider

PROVIDERS = {"ours": Provider, "the SDK's": TracerProvider}


@pytest.fixture
def red(monkeypatch):
    made = Red()
    monkeypatch.setattr(calls, "RED", made)
    return made


@pytest.fixture(params=PROVIDERS)
def ended(request):
    """Makes a span of either provider that has ended."""
    tracer = PROVIDERS[request.param]().get_tracer("tests")

    def make(kind=SpanKind.SERVER, status=None, **attributes):
        span = tracer.start_span("GET /x", kind=kind, attributes=attributes, start_time=10**9)
        if status is not None:
            span.set_status(status)
        span.end(10**9 + 20_000_000)
        return span

    return make


def outcomes(red):
    return {one.call: one.outcomes for one in red.counts()}


@pytest.mark.parametrize("kind", [SpanKind.SERVER, SpanKind.CONSUMER])
def test_what_work_enters_with_is_a_call_and_no_longer_in_flight(red, ended, kind):
    red.begin()
    span = ended(kind)
    calls.count(span)
    (counts,) = red.counts()
    assert (counts.call, counts.outcomes, red.in_flight) == ("GET /x", (1, 0, 0), 0)
    assert counts.durations.total == pytest.approx(0.02)
    trace_id = span.get_span_context().trace_id
    assert [one for one in counts.durations.recent if one] == [(trace_id, 0.02, 1_020_000_000)]


def test_a_guard_is_a_call_within_one_and_ends_no_request(red, ended):
    red.begin()
    calls.count(ended(SpanKind.INTERNAL, **{GUARD: True}))
    assert (outcomes(red), red.in_flight) == ({"GET /x": (1, 0, 0)}, 1)


@pytest.mark.parametrize("kind", [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.PRODUCER])
def test_nothing_else_is_a_call(red, ended, kind):
    calls.count(ended(kind))
    assert outcomes(red) == {}


def test_an_error_is_one_and_a_rejection_is_none(red, ended):
    calls.count(ended(status=Status(StatusCode.ERROR, "broken")))
    calls.count(ended(status=Status(StatusCode.ERROR, "503"), **{REJECTED: "b-1"}))
    assert outcomes(red) == {"GET /x": (0, 1, 1)}


def test_a_request_that_was_not_sampled_is_counted_and_is_no_exemplar(red, ended):
    """Nobody would find it."""

    class Unsampled:
        def __init__(self, span):
            self.__dict__.update(name=span.name, kind=span.kind, attributes=span.attributes)
            self.status, self.start_time, self.end_time = span.status, 1, 2

        def get_span_context(self):
            return TracerProvider(ALWAYS_OFF).get_tracer("t").start_span("x").get_span_context()

    calls.count(Unsampled(ended()))
    (counts,) = red.counts()
    assert counts.outcomes == (1, 0, 0)
    assert not any(counts.durations.recent)
