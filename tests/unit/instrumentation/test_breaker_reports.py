"""Reports of refusals to a collector that is away, or whose answers get lost: each counts once."""

import json

import pytest

from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.reports import Reports
from heatshield.clock import ManualClock
from heatshield.contract import (
    BreakerEntry,
    ContractError,
    EntryScope,
    PlatformMode,
    Report,
    Snapshot,
    StateVersion,
)
from heatshield.export.answer import Answer, Unreachable
from heatshield_alerts.report_numbers import ReportNumbers


class Line:
    """Takes reports; each time it has the next fate: a status, or what gets lost."""

    def __init__(self, *fates):
        self.fates, self.counted, self._numbers = list(fates), 0, ReportNumbers()

    def request(self, _method, _path, *, body, headers, timeout_s):
        del headers, timeout_s
        fate = self.fates.pop(0) if self.fates else 200
        report = Report.from_json(json.loads(body))
        if fate in (200, "answer lost") and self._numbers.is_new(report):
            self.counted += sum(row.count for row in report.rejected)
        if isinstance(fate, str):
            raise Unreachable(fate)
        return Answer(fate, {}, b'{"at": "1.1"}')


@pytest.fixture
def table():
    made = BreakerTable("shop")
    entry = BreakerEntry("b-1", "u", "shop", "buy", lease_ms=1_000_000)
    made.apply(Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, (entry,)), 0.0)
    return made


def reported(table, line, rounds):
    who = {"service": "shop", "instance": lambda: "i-1", "workers": 1}
    reports = Reports(line, table, clock=ManualClock(), **who)
    failures = 0
    for second in range(rounds):
        if second < 3:
            assert not table.decide("u", "buy", float(second)).allowed
        try:
            reports.send_due(float(second))
        except Unreachable:
            failures += 1
    return failures


@pytest.mark.parametrize(
    "fates",
    [
        (),
        ("report lost",),
        ("answer lost",),
        ("answer lost", "answer lost", "report lost", "answer lost"),
        (503, "answer lost", 503),
    ],
)
def test_each_refusal_counts_once_whatever_gets_lost(table, fates):
    line = Line(*fates)
    assert reported(table, line, 10) == sum(isinstance(fate, str) for fate in fates)
    assert line.counted == 3
    assert table.drain_rejections() == ()


def test_a_report_that_no_collector_takes_does_not_hold_up_those_after_it(table):
    line = Line(400)
    reported(table, line, 10)
    assert line.counted == 2


def test_what_is_left_is_reported_when_the_process_ends_with_what_was_on_its_way(table):
    """Within a second of a report nothing is due: who ends does not wait for that."""
    line = Line("answer lost")
    who = {"service": "shop", "instance": lambda: "i-1", "workers": 1}
    reports = Reports(line, table, clock=ManualClock(), **who)
    for second in range(3):
        assert not table.decide("u", "buy", float(second)).allowed
        if second == 0:
            with pytest.raises(Unreachable):
                reports.send_due(0.0)
    reports.send_rest(lambda: 1.0)
    assert line.counted == 3


def test_nothing_is_sent_at_the_end_where_nothing_was_refused_or_no_time_is_left(table):
    line = Line()
    who = {"service": "shop", "instance": lambda: "i-1", "workers": 1}
    reports = Reports(line, table, clock=ManualClock(), **who)
    reports.send_rest(lambda: 1.0)
    assert not table.decide("u", "buy", 0.0).allowed
    reports.send_rest(lambda: 0.0)
    assert line.counted == 0
    reports.send_rest(lambda: 1.0)
    assert line.counted == 1


def test_a_thrown_kill_switch_is_reported_within_a_second(table):
    class Kept(Line):
        said = ()

        def request(self, method, path, *, body, **more):
            self.said = (*self.said, json.loads(body)["enforcing"])
            return super().request(method, path, body=body, **more)

    line = Kept()
    who = {"service": "shop", "instance": lambda: "i-1", "workers": 1}
    reports = Reports(line, table, clock=ManualClock(), **who)
    for second, enforce in enumerate((True, True, False, False, True)):
        table.enforce = enforce
        reports.send_due(float(second))
    assert line.said == (True, False, True)


def test_a_report_of_an_older_client_enforces():
    told = {"service": "shop", "instance": "i-1", "workers": 1, "applied": None}
    assert Report.from_json(told).enforcing
    assert not Report.from_json({**told, "enforcing": False}).enforcing


@pytest.mark.parametrize(
    ("scope", "user", "call"),
    [(EntryScope.USER_SERVICE, "u", ""), (EntryScope.TENANT_CALL, "", "buy")],
)
def test_refusals_by_an_entry_that_leaves_a_part_open_are_taken(scope, user, call):
    """A report that is refused for such a row is lost whole: demand, shares and all."""
    made = BreakerTable("shop")
    entry = BreakerEntry("b-1", user, "shop", call, lease_ms=1_000_000, scope=scope)
    made.apply(Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, (entry,)), 0.0)
    line = Line()
    reported(made, line, 5)
    assert line.counted == 3


@pytest.mark.parametrize("per_s", [10**400, -(10**400), float("inf"), float("nan"), -1, True, "1"])
def test_a_report_with_what_is_no_rate_is_refused_as_such(per_s):
    told = {"service": "shop", "instance": "i-1", "offered": [{"budget": "b-1", "per_s": per_s}]}
    with pytest.raises(ContractError, match="per_s is not a rate"):
        Report.from_json(told)


@pytest.mark.parametrize(
    "change",
    [
        {"instance": "i" * 1_025},
        {"service": "s" * 1_025},
        {"offered": [{"budget": "b" * 1_025, "per_s": 1.0}]},
        {"rejected": [{"id": "b-1", "count": 1, "user": "", "service": "s", "call": "c" * 1_025}]},
    ],
)
def test_no_name_in_a_report_is_of_any_length(change):
    """Thousands of each are remembered, some for as long as the collector lives."""
    with pytest.raises(ContractError, match="more than 1024 characters"):
        Report.from_json({"service": "shop", "instance": "i-1", **change})
