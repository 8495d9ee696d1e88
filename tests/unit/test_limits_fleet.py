"""A fleet of tables and one dealer on virtual time: what limits let through, wherever they come."""

import random
from collections.abc import Sequence

import pytest

from heatshield.breakers.lease_table import BreakerTable
from heatshield.contract import (
    DeclaredLimit,
    PlatformMode,
    Report,
    Snapshot,
)
from heatshield.declared_limit import LimitPer, LimitUnit
from heatshield_alerts.breaker_control import BreakerControl

CALL = "GET /p"
DEAL_S = 0.25


class Fleet:
    """Instances that report to one registry; a part of reports and of answers is lost."""

    def __init__(
        self,
        limit: DeclaredLimit,
        count: int = 4,
        *,
        lossy: float = 0.0,
        round_trip_s: float = 0.02,
        seed: int = 1,
    ) -> None:
        self.random = random.Random(seed)
        self.control = BreakerControl(1, PlatformMode.PROTECT)
        self.tables = [BreakerTable("shop", instance=lambda: "?") for _ in range(count)]
        self.lossy, self.round_trip_s = lossy, round_trip_s
        self.now = 0.0
        self.turns = [0] * count
        self.next_report = [self.random.uniform(0, DEAL_S) for _ in range(count)]
        self.answers: list[tuple[float, int, float, dict[str, float]]] = []
        self.admitted: list[float] = []
        self.refused = 0
        for number in range(count):
            self.control.report(Report("shop", f"i-{number}", 1, self.control.at), 0.0)
        self.control.declare([limit], "human:file", 0.0)
        snapshot = Snapshot.from_json(self.control.snapshot().to_json())
        for table in self.tables:
            table.apply(snapshot, 0.0)

    def run(self, until: float, per_s: float, weights: Sequence[float], user: str = "u") -> None:
        """Calls come at random times, to instances by their weights."""
        while True:
            comes = self.now + self.random.expovariate(per_s)
            self._report_until(min(comes, until))
            if comes > until:
                self.now = until
                return
            self.now = comes
            (number,) = self.random.choices(range(len(self.tables)), weights)
            table = self.tables[number]
            table.renewed(table.at, self.now)  # type: ignore[arg-type]
            if table.decide(user, CALL, self.now).allowed:
                self.admitted.append(self.now)
            else:
                self.refused += 1

    def _report_until(self, until: float) -> None:
        while True:
            number = min(range(len(self.tables)), key=self.next_report.__getitem__)
            at = self.next_report[number]
            due = min([row[0] for row in self.answers], default=float("inf"))
            if min(at, due) > until:
                return
            if due <= at:
                row = min(self.answers)
                self.answers.remove(row)
                _, number, sent_at, shares = row
                self.tables[number].deal(shares, sent_at, due)
                continue
            self.next_report[number] = at + DEAL_S
            self._report(number, at)

    def _report(self, number: int, at: float) -> None:
        offered = self.tables[number].offered(DEAL_S)
        if not offered:
            return
        self.turns[number] += 1
        report = Report(
            "shop", f"i-{number}", 1, self.control.at, offered=offered, turn=self.turns[number]
        )
        if self.random.random() < self.lossy:
            return
        self.control.report(report, at)
        shares = self.control.deal(report, at)
        if self.random.random() >= self.lossy:
            self.answers.append((at + self.round_trip_s, number, at, shares))

    def per_s(self, since: float, until: float) -> list[int]:
        """Calls that were let through in each second."""
        return [
            sum(start <= at < start + 1 for at in self.admitted)
            for start in range(int(since), int(until))
        ]


def requests(rate: float, per: LimitPer = LimitPer.USER) -> DeclaredLimit:
    return DeclaredLimit("buys", per, LimitUnit.REQUESTS, rate, service="shop")


@pytest.mark.parametrize(
    "weights",
    [(70, 20, 10, 0), (1, 1, 1, 1), (1, 0, 0, 0), (97, 1, 1, 1), (1,) * 20, (50, *(1,) * 19)],
    ids=str,
)
@pytest.mark.parametrize("times", [1.5, 5.0])
def test_a_limit_holds_fleet_wide_wherever_the_calls_come(
    weights: tuple[int, ...], times: float
) -> None:
    fleet = Fleet(requests(200.0), len(weights))
    # what each instance may let through at once after a pause is spent first
    steady_s = 30.0 if len(weights) > 4 and times < 2 else 6.0
    fleet.run(steady_s + 10, 200.0 * times, weights)
    steady = fleet.per_s(steady_s, steady_s + 10)
    assert all(abs(count - 200) <= 20 for count in steady)


def test_it_follows_calls_that_go_elsewhere() -> None:
    fleet = Fleet(requests(200.0))
    for number, weights in enumerate([(70, 20, 10, 0), (0, 10, 20, 70), (0, 0, 100, 0)]):
        fleet.run(10.0 * (number + 1), 800.0, weights)
    for start in (0, 10, 20):
        steady = fleet.per_s(start + 5, start + 10)
        assert all(abs(count - 200) <= 20 for count in steady), (start, steady)


@pytest.mark.parametrize("rate", [10.0, 50.0, 400.0])
@pytest.mark.parametrize("count", [1, 4, 12])
def test_a_user_at_half_the_limit_is_never_refused(rate: float, count: int) -> None:
    fleet = Fleet(requests(rate), count)
    fleet.run(60.0, rate / 2, (1,) * count)
    assert fleet.refused == 0


def test_nor_one_who_stays_at_one_instance_and_moves_on() -> None:
    fleet = Fleet(requests(100.0))
    for number in range(6):
        weights = [0, 0, 0, 0]
        weights[number % 4] = 1
        fleet.run(10.0 * (number + 1), 50.0, weights)
    assert fleet.refused == 0


def test_lost_reports_and_answers_let_no_more_through() -> None:
    fleet = Fleet(requests(200.0), lossy=0.3)
    fleet.run(30.0, 800.0, (70, 20, 10, 0))
    assert max(fleet.per_s(8, 30)) <= 220
