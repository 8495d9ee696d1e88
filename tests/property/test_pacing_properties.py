"""What pacing promises over every history of calls: one instance alone, and a fleet with shares."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatshield.breakers.pacing import SAVED_S, TIMER_S, Pacer
from heatshield.breakers.tally import Tally
from heatshield.contract import BreakerEntry, BreakerMode, Offered, Report
from heatshield_alerts.shares import Shares

EPS = 1e-6
ENTRY = BreakerEntry(
    "b-1-1",
    "ann",
    "shop",
    "GET /a",
    BreakerMode.PACE,
    budget=0.5,
    cost_per_call=0.1,
    waiting=4,
    wait_ms=2_000,
)

entries = st.builds(
    replace,
    st.just(ENTRY),
    budget=st.sampled_from([0.05, 0.5, 4.0]),
    cost_per_call=st.sampled_from([0.0, 0.02, 0.1, 1.0]),
    waiting=st.integers(0, 5),
    wait_ms=st.sampled_from([0, 300, 2_000]),
)
gaps = st.sampled_from([0.0, 0.0, 0.001, 0.03, 0.2, 1.0, 7.0])
steps = st.lists(
    st.tuples(
        gaps,
        st.sampled_from(["call", "call", "call", "leave", "deal"]),
        st.sampled_from([0.0, 0.5, 60.0]),
        st.integers(0, 9),
    ),
    max_size=60,
)


@dataclass
class Call:
    """One that was let through. ``starts_s``: when its turn comes."""

    came_s: float
    starts_s: float
    most_s: float
    cost: float
    left: bool = False


class Instance:
    """One process that paces the key, and all that it let through.

    Args:
        entry: that paces.
    """

    def __init__(self, entry: BreakerEntry) -> None:
        self.entry = entry
        self.tally = Tally(entry)
        self.ran: list[Call] = []

    @property
    def pacer(self) -> Pacer:
        assert self.tally.pacer is not None
        return self.tally.pacer

    def call(self, now: float, most_s: float) -> Call | None:
        pacer = self.tally.paced(now)
        turn = pacer.turn(now, most_s)
        if not turn.runs:
            assert turn.delay_s > 0, "when another try makes sense is said"
            return None
        made = Call(now, now + turn.delay_s, most_s, pacer.cost)
        self.ran.append(made)
        return made

    def waiting(self, now: float) -> list[Call]:
        return [one for one in self.ran if one.starts_s > now and not one.left]

    def leave(self, call: Call) -> None:
        call.left = True
        self.pacer.leave(call.starts_s)


def history(entry: BreakerEntry, done: list, *, deals: bool) -> Instance:
    """An instance after these steps, each of which looked at its line."""
    instance, now = Instance(entry), 100.0
    for gap_s, what, most_s, n in done:
        now += gap_s
        line = instance.waiting(now)
        if what == "leave" and line:
            instance.leave(line[n % len(line)])
        elif what == "deal" and deals:
            instance.tally.share, instance.tally.share_until = n / 9, now + 3.0
        elif what == "call":
            call = instance.call(now, most_s)
            in_line = len(instance.waiting(now))
            assert in_line <= entry.waiting
            if call is not None and call.starts_s > now:
                assert call.starts_s - now <= min(most_s, entry.wait_ms / 1_000) + EPS
    return instance


def spent(calls: list[Call], since_s: float, until_s: float) -> float:
    return sum(one.cost for one in calls if since_s <= one.starts_s <= until_s)


@given(entries, steps)
def test_no_more_is_let_through_than_the_budget_pays_for_and_one_call(entry, done):
    """From the first call on. A user who pauses may then spend what the pause has saved."""
    instance = history(entry, done, deals=False)
    ran = [one for one in instance.ran if not one.left]
    begun_s = instance.ran[0].came_s if instance.ran else 0.0
    for last in ran:
        budget = entry.budget * (last.starts_s - begun_s + TIMER_S)
        assert spent(ran, begun_s, last.starts_s) <= budget + last.cost + EPS
        for first in (one for one in ran if one.starts_s <= last.starts_s):
            budget = entry.budget * (last.starts_s - first.starts_s + SAVED_S + TIMER_S)
            assert spent(ran, first.starts_s, last.starts_s) <= budget + last.cost + EPS


@given(entries, steps)
def test_first_come_first_served_whoever_leaves_and_whatever_is_dealt(entry, done):
    instance = history(entry, done, deals=True)
    starts = [one.starts_s for one in instance.ran if not one.left]
    assert all(next_s >= one_s - TIMER_S - EPS for one_s, next_s in pairwise(starts))


def test_a_call_that_comes_later_does_not_overtake_when_two_left_or_the_budget_grew():
    slow = replace(ENTRY, budget=0.2, wait_ms=3_000)
    instance = Instance(slow)
    line = [instance.call(100.0, 60.0) for _ in range(5)]
    for gone in line[1:3]:
        instance.leave(gone)
    assert instance.call(100.0, 60.0).starts_s >= line[-1].starts_s
    instance.entry = instance.tally.entry = replace(slow, budget=4.0)
    assert instance.call(100.5, 60.0).starts_s >= line[-1].starts_s


@given(entries.filter(lambda entry: entry.waiting > 0 and entry.wait_ms >= 300), st.integers(1, 30))
def test_who_leaves_the_line_leaves_a_place(entry, calls):
    instance, now = Instance(entry), 100.0
    for _ in range(calls):
        instance.call(now, 60.0)
    line = instance.waiting(now)
    if len(line) == entry.waiting:
        assert instance.call(now, 60.0) is None
        instance.leave(line[-1])
        again = instance.call(now, 60.0)
        assert again is not None
        assert again.starts_s == pytest.approx(line[-1].starts_s)


@given(entries, st.integers(1, 20))
def test_the_first_call_of_a_paced_user_always_runs_at_once(entry, instances):
    instance = Instance(replace(entry, instances=instances))
    assert instance.call(100.0, 0.0) is not None


@settings(deadline=None)
@given(
    entries,
    st.integers(1, 4),
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.01, 0.1, 0.25, 4.0]),
            st.integers(0, 3),
            st.sampled_from(["call", "call", "call", "report"]),
        ),
        max_size=120,
    ),
)
def test_a_fleet_lets_through_no_more_than_the_one_budget_and_a_call_each(entry, count, done):
    """Shares follow the calls from one instance to another, and are never more than the whole."""
    entry = replace(entry, instances=count)
    fleet = {f"i-{n}": Instance(entry) for n in range(count)}
    shares, now, reported = Shares(), 100.0, dict.fromkeys(fleet, 99.75)
    for turn, (gap_s, n, what) in enumerate(done, 1):
        now += gap_s
        name = f"i-{n % count}"
        tally = fleet[name].tally
        if what == "call":
            fleet[name].call(now, 0.0)
            continue
        pacer = tally.paced(now)
        per_s = pacer.offered / max(now - reported[name], 0.25)
        pacer.offered, reported[name] = 0.0, now
        report = Report("shop", name, 1, None, turn=turn)
        row = Offered(entry.id, per_s, tally.share or 0.0)
        tally.share = shares.deal(report, row, entry.budget, fleet.keys(), now)
        tally.share_until = now + 3.0
        tally.paced(now).begin(now)
        assert shares.held(fleet.keys(), now) <= 1 + EPS
    ran = sorted((one for each in fleet.values() for one in each.ran), key=lambda one: one.starts_s)
    for last in ran:
        budget = entry.budget * (last.starts_s - 100.0 + SAVED_S + TIMER_S)
        assert spent(ran, 100.0, last.starts_s) <= budget + count * last.cost + EPS
