"""The thread that reports costs, at a real collector, on a clock that tests move."""

import time

import pytest

from heatshield.charge_report import REPORT_S, ProcessState
from heatshield.charges.meter import Meter
from heatshield.charges.open_call import OpenCall
from heatshield.charges.reporter import EARLY_S, IDLE_S, UNKNOWN_S, WAITING_MOST, Reporter
from heatshield.clock import ManualClock
from heatshield.context.request import Request

ENOUGH_S = 1_000.0
"""On a clock that stands still."""


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def meter():
    return Meter()


@pytest.fixture
def reporter(collector, clock, meter):
    made = Reporter(
        collector.endpoint,
        meter,
        clock,
        service="shop",
        instance=lambda: "c0ffee",
        perf_ns=time.perf_counter_ns,
        state=ProcessState,
    )
    made.start()
    yield made
    made.stop(ENOUGH_S)


def numbers(collector):
    return [report["number"] for report in collector.charges]


def runs(meter):
    meter.calls[1] = OpenCall(Request(user="u-1", call="GET /"), 1, time.perf_counter_ns(), 0)


def test_reports_are_numbered_and_say_how_long_they_cover(reporter, collector, clock):
    reporter.flush(ENOUGH_S)
    clock.advance(0.125)
    reporter.flush(ENOUGH_S)
    assert numbers(collector) == [1, 2]
    assert collector.charges[1]["seconds"] == 0.125


def test_what_a_collector_could_not_take_waits_the_oldest_going_first(reporter, collector):
    collector.charges_status = 503
    for _ in range(WAITING_MOST + 10):
        reporter.flush(ENOUGH_S)
    assert reporter.dropped == 10
    collector.charges.clear()
    collector.charges_status = 200
    reporter.flush(ENOUGH_S)
    last = WAITING_MOST + 11
    assert numbers(collector) == list(range(last - WAITING_MOST + 1, last + 1))


def test_a_report_that_is_refused_for_good_is_not_sent_again(reporter, collector):
    collector.charges_status = 413
    reporter.flush(ENOUGH_S)
    collector.charges_status = 200
    reporter.flush(ENOUGH_S)
    assert numbers(collector) == [1, 2]


def test_a_collector_that_knows_no_reports_is_left_alone_for_a_minute(reporter, collector, clock):
    collector.charges_status = 404
    reporter.flush(ENOUGH_S)
    collector.charges_status = 200
    clock.advance(UNKNOWN_S - 1)
    reporter.flush(ENOUGH_S)
    assert len(collector.charges) == 1
    assert not reporter.is_heard
    clock.advance(2)
    reporter.flush(ENOUGH_S)
    assert numbers(collector)[1:] == [max(numbers(collector))]
    assert reporter.is_heard


def test_an_idle_process_reports_each_second(reporter, collector, clock, until):
    reporter.flush(ENOUGH_S)
    clock.advance(IDLE_S - 0.1)
    clock.advance(0.2)
    until(lambda: len(collector.charges) == 2)
    assert collector.charges[1]["seconds"] == pytest.approx(IDLE_S + 0.1)
    assert len(str(collector.charges[1])) < 300


def test_a_process_that_serves_reports_five_times_a_second(
    reporter, collector, clock, meter, until
):
    runs(meter)
    reporter.flush(ENOUGH_S)
    clock.advance(REPORT_S)
    until(lambda: len(collector.charges) == 2)
    assert collector.charges[1]["seconds"] == pytest.approx(REPORT_S)


def test_what_is_urgent_is_reported_at_once(reporter, collector, clock, meter, until):
    runs(meter)
    reporter.flush(ENOUGH_S)
    reporter.hurry()
    clock.advance(EARLY_S)
    until(lambda: len(collector.charges) == 2)
    assert collector.charges[1]["seconds"] == pytest.approx(EARLY_S)


def test_nothing_is_reported_of_spans_that_are_not_ours(collector, clock, meter):
    theirs = Reporter(
        collector.endpoint,
        meter,
        clock,
        service="shop",
        instance=lambda: "c0ffee",
        perf_ns=time.perf_counter_ns,
        state=ProcessState,
        is_ours=lambda: False,
    )
    theirs.start()
    theirs.flush(ENOUGH_S)
    theirs.stop(ENOUGH_S)
    assert collector.charges == []


def test_a_last_report_is_sent_at_the_end(reporter, collector, meter):
    runs(meter)
    reporter.stop(ENOUGH_S)
    (report,) = collector.charges
    assert report["users"] == ["u-1"]


def test_a_child_process_begins_anew(reporter, collector, meter):
    runs(meter)
    reporter.flush(ENOUGH_S)
    reporter.stop(ENOUGH_S)  # of the parent
    collector.charges.clear()
    reporter.after_fork()
    assert not meter.is_on
    assert not meter.calls
    reporter.start()
    reporter.flush(ENOUGH_S)
    assert numbers(collector) == [1]
