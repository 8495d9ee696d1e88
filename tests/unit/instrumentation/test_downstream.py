"""What stands before an outgoing call: when it asks, what it says, that it never fails one."""

import asyncio
import os

import pytest
from opentelemetry.context import attach, detach
from opentelemetry.trace import SpanKind, set_span_in_context
from prometheus_client import CollectorRegistry

import heatshield
from heatshield.clock import ManualClock
from heatshield.context.deadline import DeadlineScope
from heatshield.context.request import Request, with_request
from heatshield.counters import COUNTERS
from heatshield.integrations.clients.http_outcome import http_outcome
from heatshield.metrics.downstream import downstream_families
from heatshield.names import REJECTED
from heatshield.resilience import downstream as module
from heatshield.resilience.attempts import RETRIES, Retries
from heatshield.resilience.downstream import FAIR_S, Downstream
from heatshield.resilience.local_breaker import Outcome, State
from heatshield.settings import ServiceSettings
from heatshield.tracing.provider import PROVIDER

PEER, CALL = "shop:8000", "GET"


@pytest.fixture
def clock(monkeypatch):
    for name, value in vars(Retries()).items():
        monkeypatch.setattr(RETRIES, name, value)
    return ManualClock()


@pytest.fixture
def make(clock):
    def made(**settings):
        downstream = Downstream()
        downstream.install("test", ServiceSettings(**settings), clock)
        return downstream

    return made


def call(downstream, outcome, times=1, peer=PEER):
    for _ in range(times):
        begun = downstream.begin(peer, CALL)
        if begun is not None:
            begun.end(outcome)


def trip(downstream, clock):
    call(downstream, Outcome.FAILURE, 10)
    clock.advance(1)
    call(downstream, Outcome.FAILURE)
    assert downstream.states()[0].state is State.OPEN


def test_before_it_is_installed_and_after_it_is_removed_it_asks_nothing(clock):
    downstream = Downstream()
    with DeadlineScope(-1, clock.monotonic):
        assert downstream.begin(PEER, CALL) is None
        downstream.install("one", ServiceSettings(local_breakers=True), clock)
        downstream.install("two", ServiceSettings(local_breakers=True), clock)
        downstream.remove("one")
        with pytest.raises(heatshield.DeadlineExceeded):
            downstream.begin(PEER, CALL)
        downstream.remove("two")
        assert downstream.begin(PEER, CALL) is None
    assert downstream.states() == ()


def test_with_nothing_to_ask_it_is_idle(make, clock):
    downstream = make()
    assert downstream.idle
    assert downstream.begin(PEER, CALL) is None
    with DeadlineScope(1, clock.monotonic):
        assert not downstream.idle
    assert not make(local_breakers=True).idle
    heatshield.retry.on()
    assert not downstream.idle


def test_with_all_switched_off_it_does_not_want_to_be_installed(clock):
    downstream = Downstream()
    assert not downstream.install("test", ServiceSettings(deadlines=False), clock)
    assert downstream.idle


def test_a_refusal_says_which_when_and_marks_the_span_of_the_call(make, clock):
    downstream = make(local_breakers=True)
    trip(downstream, clock)
    span = PROVIDER.get_tracer("test").start_span("GET", kind=SpanKind.CLIENT)
    token = attach(set_span_in_context(span))
    with pytest.raises(heatshield.BreakerOpen) as refusal:
        downstream.begin(PEER, CALL)
    detach(token)
    assert refusal.value.entry_id == "local:shop:8000:GET"
    assert 8 <= refusal.value.retry_after_s <= 12
    assert span.attributes[REJECTED] == "local:shop:8000:GET"


def test_a_span_that_is_not_of_the_call_is_not_marked(make, clock):
    """Whoever catches the refusal and has another answer has not been refused himself."""
    downstream = make(local_breakers=True)
    trip(downstream, clock)
    span = PROVIDER.get_tracer("test").start_span("GET /buy", kind=SpanKind.SERVER)
    token = attach(set_span_in_context(span))
    with pytest.raises(heatshield.BreakerOpen):
        downstream.begin(PEER, CALL)
    detach(token)
    assert REJECTED not in span.attributes


def test_ids_are_what_a_header_can_carry(make, clock):
    downstream = make(local_breakers=True)
    for _ in range(2):
        for _ in range(10):
            try:
                begun = downstream.begin("shöp\r\n:8000", "x" * 1_000)
            except heatshield.BreakerOpen as refusal:
                found = refusal.entry_id
            else:
                begun.end(Outcome.FAILURE)
        clock.advance(1)
    assert found.startswith("local:sh?p??:8000:xxx")
    assert len(found) == 256


@pytest.mark.parametrize(
    ("left_s", "own_s", "expected"),
    [(None, None, None), (None, 5.0, 5.0), (2.0, None, 2.0), (2.0, 5.0, 2.0), (2.0, 1.0, 1.0)],
)
def test_a_call_waits_no_longer_than_is_left(make, clock, left_s, own_s, expected):
    downstream = make(local_breakers=True)
    with DeadlineScope(float("inf") if left_s is None else left_s, clock.monotonic):
        begun = downstream.begin(PEER, CALL)
    assert begun.timeout_s(own_s) == expected


@pytest.mark.parametrize(
    ("left_s", "own_s", "failures"),
    [(FAIR_S - 0.01, None, 0), (FAIR_S - 0.01, 0.5, 1), (FAIR_S, None, 1), (60.0, 5.0, 1)],
)
def test_a_timeout_is_a_failure_if_the_peer_had_a_fair_time(make, clock, left_s, own_s, failures):
    downstream = make(local_breakers=True)
    with DeadlineScope(left_s, clock.monotonic):
        begun = downstream.begin(PEER, CALL)
    begun.timeout_s(own_s)
    begun.timed_out()
    clock.advance(1)
    call(downstream, Outcome.SUCCESS)
    assert downstream.states()[0].failures == failures


def test_an_error_within_lets_the_call_through_and_is_counted(make, clock, monkeypatch):
    downstream = make(local_breakers=True)

    def broken(*_):
        raise RuntimeError

    before = COUNTERS.errors.get("downstream", 0)
    monkeypatch.setattr(module.LocalBreakers, "at", broken)
    assert downstream.begin(PEER, CALL) is None
    monkeypatch.undo()
    begun = downstream.begin(PEER, CALL)
    monkeypatch.setattr(begun._breaker.__class__, "record", broken)
    begun.end(Outcome.SUCCESS)
    assert COUNTERS.errors["downstream"] == before + 2


def test_callers_are_told_apart_and_asked_for_only_where_there_are_breakers(make, clock):
    assert make().begin(PEER, CALL, lambda: 1 / 0) is None
    downstream = make(local_breakers=True)
    token = attach(with_request(Request(call="POST /purchases")))
    from heatshield.context.request import call_in

    downstream.begin(PEER, CALL, call_in)
    detach(token)
    assert [state.caller for state in downstream.states()] == ["POST /purchases"]
    assert downstream.status()["local_breakers"] == {"shop:8000:GET in POST /purchases": "closed"}


def test_first_attempts_pay_and_the_retry_that_was_allowed_does_not(make, clock):
    downstream = make()
    RETRIES.wanted = True
    budget = RETRIES.budgets.of(PEER)
    for _ in range(5):
        call(downstream, Outcome.SUCCESS)
    assert budget.balance(clock.monotonic()) == 101
    call(downstream, Outcome.FAILURE)
    assert RETRIES.may_retry(clock.monotonic())
    for _ in range(4):
        call(downstream, Outcome.SUCCESS)  # the first of them is the retry: three first attempts
    assert budget.balance(clock.monotonic()) == 100
    call(downstream, Outcome.SUCCESS)
    assert budget.balance(clock.monotonic()) == 101


def test_requests_side_by_side_know_only_their_own_failures(make, clock):
    downstream = make()
    RETRIES.wanted = True

    async def request(peer):
        call(downstream, Outcome.FAILURE, peer=peer)
        await asyncio.sleep(0)
        return RETRIES.may_retry(clock.monotonic())

    async def both():
        return await asyncio.gather(request("a:1"), request("b:2"))

    assert asyncio.run(both()) == [True, True]
    assert RETRIES.budgets.balances(clock.monotonic()) == {"a:1": 99, "b:2": 99}


def test_metrics_show_breakers_that_opened_and_what_was_not_done(make, clock, monkeypatch):
    downstream = make(local_breakers=True)
    monkeypatch.setattr(module, "DOWNSTREAM", downstream)
    call(downstream, Outcome.SUCCESS, peer="talk:8000")
    trip(downstream, clock)
    with pytest.raises(heatshield.BreakerOpen):
        downstream.begin(PEER, CALL)
    with DeadlineScope(-1, clock.monotonic), pytest.raises(heatshield.DeadlineExceeded):
        downstream.begin(PEER, CALL)
    RETRIES.may_retry(clock.monotonic())

    class Shown:
        collect = staticmethod(downstream_families)

    registry = CollectorRegistry()
    registry.register(Shown())
    key = {"peer": PEER, "call": CALL, "caller": ""}

    def value(name, **labels):
        return registry.get_sample_value(name, labels)

    states = {s: value("heatshield_local_breaker_state", **key, state=s) for s in State}
    assert states == {State.CLOSED: 0, State.OPEN: 1, State.HALF_OPEN: 0}
    assert value("heatshield_local_breaker_refused_total", **key) == 1
    assert value("heatshield_calls_not_started_total") == 1
    assert value("heatshield_retries_total", outcome="allowed") == 1
    assert value("heatshield_retries_total", outcome="refused") == 0
    talk = {"peer": "talk:8000", "call": CALL, "caller": ""}
    assert value("heatshield_local_breaker_state", **talk, state="closed") is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_meets_its_peers_anew_though_a_lock_was_held(make, clock):
    downstream = make(local_breakers=True)
    trip(downstream, clock)
    with downstream._breakers._lock:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                begun = downstream.begin(PEER, CALL)
                begun.end(Outcome.SUCCESS)
                code = 0 if downstream.states()[0].state is State.CLOSED else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert downstream.states()[0].state is State.OPEN


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {}, Outcome.SUCCESS),
        (404, {}, Outcome.SUCCESS),
        (429, {}, Outcome.SUCCESS),
        (429, {"heatshield-breaker": "per-user"}, Outcome.REJECTED),
        (500, {}, Outcome.FAILURE),
        (503, {}, Outcome.FAILURE),
        (503, {"retry-after": "5"}, Outcome.FAILURE),
        (503, {"heatshield-breaker": "b-1"}, Outcome.REJECTED),
        (500, {"heatshield-breaker": "b-1"}, Outcome.FAILURE),
        (504, {}, Outcome.FAILURE),
        (504, {"heatshield-deadline": "0"}, Outcome.REJECTED),
    ],
)
def test_what_an_answer_says_of_its_peer(status, headers, outcome):
    import httpx

    assert http_outcome(httpx.Response(status, headers=headers)) is outcome
