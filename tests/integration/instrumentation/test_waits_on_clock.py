"""Every background thread waits on the clock: hours pass when a test says so, and never before."""

import socket
import time

import pytest
from opentelemetry.trace import SpanKind, get_tracer

from heatshield import runtime
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.watch import MAX_RECONNECT_S, Watch
from heatshield.clock import ManualClock
from heatshield.contract import RENEW_S, SILENCE_S
from heatshield.counters import COUNTERS
from heatshield.settings import ServiceSettings

HOUR_S = 3_600.0


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def begin(collector, clock):
    def start(**settings):
        given = {"endpoint": collector.endpoint, "service": "shop", **settings}
        runtime.begin(ServiceSettings(**given), clock)
        running = runtime._RUNNING.get()
        if not given.get("metrics_interval_s"):
            running.watch.stop()
        return running

    yield start
    runtime.end()


def settled(condition, seconds=0.2):
    """Whether something stays true for a while."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        if not condition():
            return False
        time.sleep(0.01)
    return True


def test_a_batch_leaves_when_the_clock_has_passed_its_interval(begin, collector, clock, until):
    begin(flush_interval_s=HOUR_S, metrics_interval_s=0.0)
    get_tracer("test").start_span("a").end()
    until(lambda: clock.waiting)
    clock.advance(HOUR_S - 1)
    assert settled(lambda: not collector.spans)
    clock.advance(1)
    until(lambda: len(collector.spans) == 1)


def test_a_retry_waits_on_the_clock(begin, collector, clock, until):
    begin(flush_interval_s=0.01, metrics_interval_s=0.0)
    collector.statuses = [(503, {"retry-after": "20"})]
    get_tracer("test").start_span("a").end()
    until(lambda: clock.waiting)
    clock.advance(0.01)
    until(lambda: len(collector.payloads) == 1)
    for _ in range(19):
        clock.advance(1.0)
    assert settled(lambda: len(collector.payloads) == 1)
    clock.advance(1.0)
    until(lambda: [status for *_, status in collector.payloads] == [503, 200])


def test_an_answer_is_waited_for_as_long_as_the_clock_allows(begin, clock, until):
    """A collector that takes a connection and says nothing, with a minute to answer in."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begin(
            endpoint=endpoint, flush_interval_s=0.01, export_timeout_s=60.0, metrics_interval_s=0.0
        )
        get_tracer("test").start_span("a").end()
        until(lambda: clock.waiting)
        clock.advance(0.01)
        silent.settimeout(10)
        peer, _ = silent.accept()
        with peer:
            until(lambda: peer.recv(65_536))
            clock.advance(59.0)
            before = COUNTERS.dropped.get("unanswered", 0)
            assert settled(lambda: COUNTERS.dropped.get("unanswered", 0) == before)
            clock.advance(1.0)
            until(lambda: COUNTERS.dropped.get("unanswered", 0) == before + 1)


def test_snapshots_of_metrics_leave_by_the_clock(begin, collector, clock, until):
    begin(metrics_interval_s=HOUR_S)
    get_tracer("test").start_span("GET /", kind=SpanKind.SERVER).end()
    assert settled(lambda: not collector.snapshots)
    clock.advance(1.0)
    until(lambda: len(collector.snapshots) == 1)
    assert settled(lambda: len(collector.snapshots) == 1)
    clock.advance(HOUR_S)
    until(lambda: len(collector.snapshots) == 2)


@pytest.fixture
def watch(collector, clock):
    made = Watch(
        collector.endpoint, BreakerTable("shop"), clock,
        service="shop", instance=lambda: "i-1", workers=1, chance=lambda: 1.0,
    )  # fmt: skip
    made.start()
    yield made
    made.stop()


def test_leases_are_renewed_by_the_clock(watch, collector, clock, until):
    until(lambda: len(collector.renewals) == 1)
    assert settled(lambda: len(collector.renewals) == 1)
    clock.advance(RENEW_S / 2)
    assert settled(lambda: len(collector.renewals) == 1, 3 * collector.heartbeat_s)
    clock.advance(RENEW_S / 2)
    until(lambda: len(collector.renewals) == 2)
    assert len(collector.listeners) == 1


def test_a_silent_stream_is_opened_again_by_the_clock(watch, collector, clock, until):
    collector.heartbeat_s = HOUR_S
    until(lambda: len(collector.listeners) == 1 and len(collector.renewals) == 1)
    time.sleep(0.3)  # a heartbeat that was on its way
    clock.advance(SILENCE_S)
    assert settled(lambda: len(collector.listeners) == 1)
    clock.advance(MAX_RECONNECT_S)
    until(lambda: len(collector.listeners) == 2)
