"""A change reaches a fleet in the same milliseconds; that it was applied is told one by one."""

import json
from collections import Counter

import pytest

from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.reports import REPORT_S, Reports, place_of
from heatshield.clock import ManualClock
from heatshield.contract import (
    MAX_SPREAD_MS,
    BreakerEntry,
    ContractError,
    PlatformMode,
    Report,
    ReportAnswer,
    Snapshot,
    StateVersion,
)
from heatshield.export.answer import Answer
from heatshield_alerts.instances import SPREAD_FROM, SPREAD_PER_S, Instances

SPREAD_S = 4.0
LATE = next(n for n in range(100) if 0.6 < place_of(f"i-{n}") < 0.8)
"""The number of an instance whose place is a late one."""


class Fleet:
    """Instances that follow one collector, and what it gets of them: (second, report)."""

    def __init__(self, count: int, spread_s: float, first: int = 0) -> None:
        self.clock = ManualClock()
        self.spread_s = spread_s
        self.got: list[tuple[float, Report]] = []
        self.tables = [BreakerTable("shop") for _ in range(count)]
        self.reports = [
            Reports(
                self,
                table,
                service="shop",
                instance=lambda n=n: f"i-{first + n}",
                workers=1,
                clock=self.clock,
            )
            for n, table in enumerate(self.tables)
        ]
        self.version = 0
        self.change()
        self.run(0.05)
        self.got.clear()  # each has been told by now over how long to spread

    def request(self, _method, _path, *, body, headers, timeout_s):
        del headers, timeout_s
        report = Report.from_json(json.loads(body))
        self.got.append((self.now, report))
        answer = ReportAnswer(report.applied, spread_ms=round(self.spread_s * 1_000))
        return Answer(200, {}, json.dumps(answer.to_json()).encode())

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def change(self, *users: str) -> None:
        """Another version reaches all, with these users refused."""
        self.version += 1
        entries = tuple(BreakerEntry(f"b-{n}", user, "shop", "buy") for n, user in enumerate(users))
        state = Snapshot(StateVersion(1, self.version), PlatformMode.PROTECT, entries)
        for table, reports in zip(self.tables, self.reports, strict=True):
            table.apply(state, self.now)
            reports.send_due(self.now)

    def run(self, seconds: float) -> None:
        """Have each instance do what is due, at the moment at which it says that it is."""
        end = self.now + seconds
        while (due := min(one.due_at for one in self.reports)) <= end:
            self.clock.advance(max(0.0, due - self.now))
            for one in self.reports:
                if one.due_at <= self.now:
                    one.send_due(self.now)
        self.clock.advance(end - self.now)


def test_the_reports_of_a_large_fleet_are_spread_evenly_and_each_instance_sends_one():
    fleet = Fleet(500, SPREAD_S)
    changed_at = fleet.now
    fleet.change("u")
    fleet.run(SPREAD_S)
    assert Counter(report.instance for _, report in fleet.got) == Counter(
        f"i-{n}" for n in range(500)
    )
    assert {report.applied for _, report in fleet.got} == {StateVersion(1, 2)}
    by_tenth = Counter(int((at - changed_at) / SPREAD_S * 10) for at, _ in fleet.got)
    assert set(by_tenth) == set(range(10))
    assert max(by_tenth.values()) <= 75  # 50 each, give or take what chance does


def test_what_is_enforced_does_not_wait():
    fleet = Fleet(20, SPREAD_S)
    fleet.change("u")
    assert fleet.got == []
    assert not any(table.decide("u", "buy", fleet.now).allowed for table in fleet.tables)


def test_a_small_fleet_reports_at_once():
    fleet = Fleet(20, 0.0)
    changed_at = fleet.now
    fleet.change("u")
    assert [(at, report.applied) for at, report in fleet.got] == [
        (changed_at, StateVersion(1, 2))
    ] * 20


def test_refusals_are_reported_as_soon_as_without_a_change_and_say_what_is_applied():
    fleet = Fleet(1, SPREAD_S, LATE)
    assert SPREAD_S * place_of(f"i-{LATE}") > REPORT_S  # else this proves nothing
    fleet.change("u")
    assert not fleet.tables[0].decide("u", "buy", fleet.now).allowed
    fleet.run(REPORT_S)
    ((_, report),) = fleet.got
    assert (report.applied, [row.count for row in report.rejected]) == (StateVersion(1, 2), [1])
    fleet.run(SPREAD_S)
    assert len(fleet.got) == 1  # it has been said


def test_changes_in_quick_succession_are_reported_once_and_not_put_off():
    fleet = Fleet(1, SPREAD_S, LATE)
    changed_at = fleet.now
    for _ in range(8):
        fleet.change("u")
        fleet.run(SPREAD_S / 8)
    first_at, first = fleet.got[0]
    assert first_at - changed_at == pytest.approx(SPREAD_S * place_of(f"i-{LATE}"))
    assert StateVersion(1, 2) < first.applied < StateVersion(1, 9)
    fleet.run(SPREAD_S)
    assert fleet.got[-1][1].applied == StateVersion(1, 9)
    assert len(fleet.got) == 2


def test_the_time_grows_with_the_fleet_and_is_bounded():
    instances, spread = Instances(), {}
    for n in range(20_000):
        instances.attend("shop", f"i-{n}", 0.0)
        spread[n + 1] = instances.spread_ms
    assert (spread[20], spread[SPREAD_FROM - 1]) == (0, 0)
    assert spread[1_000] == 1_000 * 1_000 / SPREAD_PER_S
    assert (spread[10_000], spread[20_000]) == (4_000, MAX_SPREAD_MS)
    assert list(spread.values()) == sorted(spread.values())


@pytest.mark.parametrize(
    ("said", "taken"), [({}, 0), ({"spread_ms": 10**12}, MAX_SPREAD_MS), ({"spread_ms": -1}, 0)]
)
def test_an_answer_puts_no_report_off_for_long(said, taken):
    assert ReportAnswer.from_json({"at": "1.1", **said}).spread_ms == taken


def test_what_is_no_time_is_no_answer():
    with pytest.raises(ContractError, match="spread_ms"):
        ReportAnswer.from_json({"at": "1.1", "spread_ms": "soon"})
