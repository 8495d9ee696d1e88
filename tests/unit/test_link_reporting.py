"""Whether a process is charged by its spans or its reports: no work twice, and none not at all.

Told on virtual time, with the messages of a process whose work is known.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from charge_rows import charge, charge_table
from report_bodies import START_NS, body
from span_rows import table
from told_work import Call, reports_of, spans_of, truth

from heatshield.clock import Instant
from heatshield_collector.link import reporting
from heatshield_collector.link.reporting import SILENT_S, Reporting
from heatshield_collector.simulation import Simulation

CALLS = [
    Call(0, "ann", 10, 50, 30, elements=7),
    Call(1, "bob", 150, 100),
    Call(2, "ann", 190, 20, 400, elements=2),
    Call(3, "ann", 500, 60),
]
UNTIL_MS = 800


class Platform:
    """A simulation, told of work message by message."""

    def __init__(self) -> None:
        self.simulation = Simulation()

    def spans(self, *calls: Call, service: str = "shop", instance: str = "i-1") -> None:
        rows = [row for call in calls for row in spans_of(call, service, instance)]
        self.simulation.charge(table(rows))

    def reports(self, *reports) -> None:
        self.simulation.report(*(body(one) for one in reports))

    def pass_s(self, seconds: float) -> None:
        self.simulation.advance(seconds)

    def charged(self, service: str = "shop") -> dict:
        """What each (user, call, cost) was charged within a minute, in seconds and pieces."""
        now_s = self.simulation.clock.monotonic()
        loads = self.simulation.detection.loads
        return {
            (row.key.user, row.key.call, cost): round(row.load * 60, 6)
            for cost in ("busy", "cpu", "backend", "calls", "elements")
            for row in loads.top(cost, "1m", 99, now_s)
            if row.key.service == service
        }

    def eligible_s(self, user: str) -> float:
        """Busy seconds that may count towards a trip."""
        loads = self.simulation.detection.loads
        busy, late = (
            loads._by_user_call.of(cost).window("1m", self.simulation.clock.monotonic())
            for cost in ("busy", "refused busy")
        )
        return sum(
            (row.estimate - late.bounds(row.key).estimate) / 1e6
            for row in busy.top(99)
            if row.key.endswith(f"\x1f{user}")
        )


def test_spans_of_a_process_that_reports_are_charged_by_its_reports_alone():
    platform = Platform()
    reports = list(reports_of(CALLS, UNTIL_MS))
    platform.reports(*reports[:1])
    platform.spans(*CALLS)
    platform.reports(*reports[1:])
    platform.pass_s(SILENT_S + 1)
    assert platform.charged() == truth(CALLS)


def test_spans_that_came_before_the_first_report_are_charged_once():
    """The user is charged at once; reports then charge only what they have beyond it."""
    platform = Platform()
    reports = list(reports_of(CALLS, UNTIL_MS))
    platform.spans(CALLS[0])
    assert platform.charged() == truth(CALLS[:1])
    platform.spans(CALLS[1], CALLS[2])
    platform.reports(*reports)
    platform.spans(CALLS[3])
    platform.pass_s(SILENT_S + 1)
    assert platform.charged() == truth(CALLS)


def test_spans_that_no_report_covers_are_charged_late_and_not_towards_a_trip():
    """The process has lost its reporter: no gap, but no trip for what is ten seconds old."""
    platform = Platform()
    calls = [*CALLS[:2], Call(2, "ann", 190, 420), CALLS[3]]
    first, second, *_ = reports_of(calls, UNTIL_MS)
    platform.reports(first, second)
    reported_s = 0.08 + 0.21  # calls 0 and 2, until 400 ms
    platform.spans(*calls)
    assert platform.charged()["ann", "POST /p", "busy"] == reported_s
    platform.pass_s(SILENT_S + 1)
    assert platform.charged() == truth(calls)
    assert platform.eligible_s("ann") == pytest.approx(reported_s)


def test_a_process_that_reports_no_more_is_charged_by_its_spans_at_once_again():
    platform = Platform()
    platform.reports(*reports_of(CALLS, UNTIL_MS))
    platform.pass_s(SILENT_S + 0.5)
    later = Call(9, "ann", 11_000, 300)
    platform.spans(later)
    assert platform.charged() == truth([*CALLS, later])
    assert platform.eligible_s("ann") == pytest.approx(0.08 + 0.42 + 0.06 + 0.3)


def test_reports_that_come_back_do_not_charge_again_what_spans_have():
    platform = Platform()
    platform.reports(*reports_of(CALLS, UNTIL_MS))
    platform.pass_s(SILENT_S + 0.5)
    later = [Call(9, "ann", 11_000, 300), Call(10, "ann", 11_100, 50, 200, elements=3)]
    platform.spans(*later)
    platform.reports(*reports_of(later, 11_600, begin_ms=10_800, first=100))
    platform.pass_s(SILENT_S + 1)
    assert platform.charged() == truth([*CALLS, *later])


def test_a_call_in_flight_at_the_last_report_is_charged_once():
    """It ends long after the reporter has: of its span only what no report has told is charged."""
    long = Call(5, "ann", 100, 15_000)
    platform = Platform()
    platform.reports(*reports_of([long], 1_000))
    platform.pass_s(15)
    platform.spans(long)
    assert platform.charged() == truth([long])


def test_spans_from_before_the_first_report_of_a_process_that_ran_already_are_charged():
    """The collector has restarted: reports it never got are an earlier collector's."""
    old, new = Call(1, "ann", 100, 50), Call(2, "ann", 2_100, 50)
    platform = Platform()
    platform.reports(*reports_of([new], 2_400, begin_ms=2_000, first=11))
    platform.spans(old, new)
    assert platform.charged() == truth([old, new])
    platform.pass_s(SILENT_S + 1)
    assert platform.charged() == truth([old, new])


def test_of_an_instance_that_restarts_both_lives_are_charged():
    platform = Platform()
    platform.reports(*reports_of(CALLS, UNTIL_MS))
    platform.reports(*reports_of(CALLS, UNTIL_MS, instance="i-2"))
    platform.spans(*CALLS, instance="i-1")
    platform.pass_s(SILENT_S + 1)
    assert platform.charged() == {key: 2 * cost for key, cost in truth(CALLS).items()}


def test_of_two_services_one_may_report_while_the_other_sends_spans_alone():
    platform = Platform()
    platform.reports(*reports_of(CALLS, UNTIL_MS))
    others = [Call(20 + one.number, one.user, one.start_ms, one.cpu_ms) for one in CALLS]
    platform.spans(*CALLS)
    platform.spans(*others, service="stock", instance="s-1")
    platform.pass_s(SILENT_S + 1)
    assert platform.charged("shop") == truth(CALLS)
    assert platform.charged("stock") == truth(others)


def test_spans_without_a_user_wait_for_none_where_reports_say_whose_they_are():
    platform = Platform()
    anonymous = [Call(number, None, 10 * number, 5) for number in range(30)]
    reports = list(reports_of([Call(99, "ann", 0, 90)], 400))
    platform.reports(*reports)
    platform.spans(*anonymous)
    assert len(platform.simulation._analysis._linker.pending) == 0
    platform.pass_s(SILENT_S + 1)
    assert platform.charged() == truth([Call(99, "ann", 0, 90)])


def test_charges_that_waited_for_a_user_when_reports_began_are_not_charged():
    platform = Platform()
    platform.spans(Call(1, None, 10, 50))
    platform.reports(*reports_of([Call(1, "ann", 10, 50)], 400))
    platform.pass_s(SILENT_S + 5)
    assert platform.charged() == truth([Call(1, "ann", 10, 50)])


def test_a_backlog_of_reports_counts_but_not_towards_a_trip():
    """Half a minute told at once is no load thirty times as high."""
    calls = [Call(number, "ann", 1_000 * number, 500) for number in range(30)]
    platform = Platform()
    reports = list(reports_of(calls, 30_000))
    for one in reports[:10]:
        platform.pass_s(0.2)
        platform.reports(one)
    platform.pass_s(28.0)
    platform.reports(*reports[10:])
    assert platform.charged() == truth(calls)
    assert platform.eligible_s("ann") == pytest.approx(2 * 0.5 + 2 * 0.5)
    assert 129 <= platform.simulation.reports()["late"] <= 130  # one is late by two seconds


@pytest.mark.parametrize("skew_s", [-3_600.0, -5.0, 5.0, 3_600.0])
def test_a_process_whose_clock_is_off_is_known_to_be_after_a_second(skew_s: float):
    calls = [Call(number, "ann", 200 * number, 100) for number in range(25)]
    platform = Platform()
    for one in reports_of(calls, 5_000):
        platform.pass_s(0.2)
        platform.reports(replace(one, at_ns=one.at_ns + round(skew_s * 1e9)))
    assert platform.charged() == truth(calls)
    assert platform.eligible_s("ann") >= 2.0
    assert platform.simulation.reports()["late"] == (5 if skew_s < 0 else 0)


def test_a_clock_that_is_set_back_is_followed():
    calls = [Call(number, "ann", 200 * number, 100) for number in range(200)]
    platform = Platform()
    for one in reports_of(calls, 40_000):
        platform.pass_s(0.2)
        back_ns = 60 * 10**9 if one.number > 50 else 0
        platform.reports(replace(one, at_ns=one.at_ns - back_ns))
    assert 50 <= platform.simulation.reports()["late"] <= 100


def test_what_waits_and_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(reporting, "ROWS_MOST", 50)
    keeper, at_ns = Reporting(), START_NS + 10**9

    def rows(numbers: Sequence[int], instance: str):
        return charge_table(
            [charge("u", 1, trace=at, instance=instance, start_ns=at_ns) for at in numbers]
        )

    for batch in range(10):
        assert keeper.charged(rows(range(20 * batch, 20 * batch + 20), "s-1"), 1.0).num_rows == 20
    assert keeper.dropped == {"waiting": 0, "remembered": 160}
    keeper.covers(next(reports_of([], 200, instance="i-1")), Instant(1.0, START_NS))
    for batch in range(10):
        assert keeper.charged(rows(range(20 * batch, 20 * batch + 20), "i-1"), 1.0).num_rows == 0
    assert keeper.dropped["waiting"] == 160
    assert keeper.charged(rows([], "i-1"), 20.0).num_rows == 40
