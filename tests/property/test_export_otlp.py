"""Whatever a service puts on a span or into a log, what is exported is OTLP that says it.

Read back with the generated classes of opentelemetry-proto.
"""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from heatshield.context.request import Request
from heatshield.counters import COUNTERS
from heatshield.export.attributes import forget
from heatshield.export.logs import LogEvent
from heatshield.export.payloads import encode
from heatshield.identity.identify import Identity
from heatshield.names import CALL, ENDUSER_ID
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.settings import ServiceSettings
from heatshield.tracing.span import Span
from heatshield.tracing.span_records import Scope
from heatshield.tracing.values import MAX_TEXT, plain


@pytest.fixture(autouse=True)
def _all_is_shown():
    """What is redacted is proved elsewhere; Hypothesis finds the names of secrets."""
    SANITIZER.install(ServiceSettings(redaction=False), None)
    forget()
    yield
    SANITIZER.remove()
    forget()


RESOURCE = {"service.name": "shop", "service.instance.id": "i-1", "heatshield.workers": 2}


class Raising:
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


class Endless(dict):
    def items(self):
        raise RuntimeError("no")


class Odd(str):
    __slots__ = ()

    def __len__(self):
        raise RuntimeError("no")


texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
scalars = st.one_of(
    texts, st.booleans(), st.integers(), st.floats(), st.binary(max_size=40), st.none(),
    st.builds(Raising), st.builds(object), st.builds(lambda: 10**5000),
    st.builds(Endless, a=st.just(1)),
    st.builds(Odd, st.just("odd")), st.complex_numbers(), st.just("x" * (MAX_TEXT + 1)),
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner) | st.tuples(inner)
)
attributes = st.dictionaries(texts, values, max_size=6)
ids = st.integers(1, 2**64 - 1)


def said(value):
    """An AnyValue as the Python value it stands for."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return tuple(said(item) for item in value.array_value.values)
    if kind == "kvlist_value":
        return {pair.key: said(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind)


def expected(value):
    """What a value is after it went over UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, tuple):
        return tuple(expected(item) for item in value)
    if isinstance(value, dict):
        return {expected(key): expected(item) for key, item in value.items()}
    return value


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def assert_said(pairs, given):
    found = {pair.key: said(pair.value) for pair in pairs}
    for key, value in given.items():
        wanted = {expected(other) for other in given if expected(other) == expected(key)}
        if len(wanted) == 1 and list(map(expected, given)).count(expected(key)) == 1:
            assert same(found[expected(key)], expected(plain(value)))


def made(name, set_attributes, request=None, kind=SpanKind.SERVER):
    span = Span(name, 2**127 + 5, 7, kind, {}, Scope("test", "1"), request, "", lambda _: None)
    span.set_attributes(set_attributes)
    return span


@given(texts, attributes, texts)
def test_any_span_is_exported_as_valid_otlp(name, set_attributes, described):
    span = made(name, set_attributes, Request(user="u-1"))
    span.add_event("event", set_attributes)
    span.add_link(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)), set_attributes)
    span.set_status(Status(StatusCode.ERROR, described))
    span.end()
    (payload,) = encode([span], [], RESOURCE)
    (of_resource,) = ExportTraceServiceRequest.FromString(payload.body).resource_spans
    assert {a.key: said(a.value) for a in of_resource.resource.attributes} == RESOURCE
    (scope,) = of_resource.scope_spans
    assert (scope.scope.name, scope.scope.version) == ("test", "1")
    (read,) = scope.spans
    assert read.name == expected(name)
    assert int.from_bytes(read.trace_id, "big") == span.trace_id
    assert int.from_bytes(read.span_id, "big") == span.span_id
    assert int.from_bytes(read.parent_span_id, "big") == 7
    assert read.start_time_unix_nano == span.start_time
    assert read.end_time_unix_nano == span.end_time
    assert read.kind == read.SPAN_KIND_SERVER
    assert (read.status.code, read.status.message) == (2, expected(described))
    assert_said(read.attributes, set_attributes)
    assert_said(read.events[0].attributes, set_attributes)
    assert_said(read.links[0].attributes, set_attributes)
    found = {pair.key: said(pair.value) for pair in read.attributes}
    assert (found[ENDUSER_ID], found.get(CALL, "")) == ("u-1", expected(name))


@given(st.lists(st.tuples(texts, attributes), max_size=5), st.lists(texts, max_size=5))
def test_a_batch_holds_each_record_once(spans, logs):
    ended = [made(name, given) for name, given in spans]
    for span in ended:
        span.end()
    events = [LogEvent.here(1, 20, body, {"b": body}, "shop") for body in logs]
    payloads = encode(ended, events, RESOURCE)
    assert sum(payload.records for payload in payloads) == len(spans) + len(logs)
    for payload in payloads:
        if payload.path == "/v1/traces":
            request = ExportTraceServiceRequest.FromString(payload.body)
            names = [s.name for r in request.resource_spans for c in r.scope_spans for s in c.spans]
            assert names == [expected(name) for name, _ in spans]
        else:
            request = ExportLogsServiceRequest.FromString(payload.body)
            records = [
                r for x in request.resource_logs for c in x.scope_logs for r in c.log_records
            ]
            assert [r.body.string_value for r in records] == [expected(body) for body in logs]


@given(st.integers(-5, 2**64 + 5), st.integers(-5, 2**64 + 5))
def test_times_of_a_broken_clock_cost_no_batch(start, end):
    span = made("s", {})
    span.end()
    span.start_time, span.end_time = start, end
    good = made("good", {})
    good.end()
    payloads = encode([span, good], [], RESOURCE)
    assert sum(payload.records for payload in payloads) >= 1


@given(attributes)
def test_a_span_of_the_sdk_is_read_whatever_it_holds(held):
    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
    foreign = SimpleNamespace(
        name="theirs", kind=SpanKind.CLIENT, parent=None, start_time=1, end_time=2,
        attributes=held, events=(), links=(), dropped_attributes=0, dropped_events=0,
        dropped_links=0, status=Status(StatusCode.OK), instrumentation_scope=None,
        get_span_context=lambda: context, resource=SimpleNamespace(attributes={"zone": "z"}),
    )  # fmt: skip
    (payload,) = encode([foreign], [], RESOURCE)
    (of_resource,) = ExportTraceServiceRequest.FromString(payload.body).resource_spans
    assert {a.key for a in of_resource.resource.attributes} == {"zone", *RESOURCE}
    assert_said(of_resource.scope_spans[0].spans[0].attributes, held)


@given(texts, attributes, texts, st.sampled_from(["ann", "7", "zoe-8841", "İ%", "password", "="]))
def test_redacted_and_masked_it_is_otlp_still(name, held, described, user):
    settings = ServiceSettings(user_key="a key for tests", redact=("n",))
    reads = Identity(settings)
    SANITIZER.install(settings, reads.aliases)
    request = Request()
    reads.name(request, user)
    span = made(name, {**held, "password": held, "of": f"{described}{user}"}, request)
    span.add_event(described, held)
    span.set_status(Status(StatusCode.ERROR, described))
    span.end()
    event = LogEvent.here(1, 20, f"{described} {user}", {**held, "n": held}, "shop")
    dropped = COUNTERS.dropped
    traces, logs = encode([span], [event], RESOURCE)
    assert COUNTERS.dropped == dropped
    (of_resource,) = ExportTraceServiceRequest.FromString(traces.body).resource_spans
    (read,) = of_resource.scope_spans[0].spans
    found = {pair.key: said(pair.value) for pair in read.attributes}
    assert found.get("password" if user != "password" else request.user) == "REDACTED"
    assert found[ENDUSER_ID] == request.user
    (of_resource,) = ExportLogsServiceRequest.FromString(logs.body).resource_logs
    assert len(of_resource.scope_logs[0].log_records) == 1
