"""Deals out budgets: which part of a budget each instance of a service may spend.

Each instance is dealt what comes there, and an equal part of what is left. Where more comes than
the budget, it is dealt by what comes. What all hold together is never more than the whole: an
instance gets what the others don't hold. So a share that is to shrink has to be reported on once
more before another grows, which takes a quarter of a second.

What an instance holds is not only what it was dealt last: an answer gets lost, and it goes on with
the share of an earlier one. So each report says what share it goes by, and reports are counted: one
that is late, or comes twice, deals nothing.

An instance that was dealt nothing spends an equal part; it has told of less than ``reserve`` of
that, or it would have been dealt a share. One whose share has ended spends at most an equal part.

Pure; not thread-safe. Times are seconds on a clock that never goes back.
"""

from collections.abc import Collection, Mapping
from typing import Final

from heatshield.call_key import SEPARATOR
from heatshield.contract import REPORTED_PART, SHARE_S, Offered, Report

__all__ = ["LEAST_PART", "Dealer", "Shares"]

LEAST_PART: Final = 0.1
"""Of an equal part: what an instance keeps where nothing comes, for calls that may come yet."""

SMOOTHING: Final = 0.8
"""How much the newest report counts; calls come in no steady stream."""

SUMMED_S: Final = 0.5
"""Seconds after which sums are made anew: a share ends without a word."""

FORGET_S: Final = 60.0
"""Seconds without a report after which a budget is forgotten."""

MAX_BUDGETS: Final = 50_000
"""Budgets whose shares are dealt at once. Names of users stand in those of limits, and whoever may
send reports can make names up."""


class _Hand:
    """What one instance holds of a budget."""

    __slots__ = ("at_s", "held", "offered", "turn")

    def __init__(self) -> None:
        self.held = 0.0
        self.offered = 0.0
        self.at_s = float("-inf")
        self.turn = 0


class Shares:
    """One budget's shares.

    Args:
        reserve: of an equal part: what is left to an instance that has not reported. 1: it spends
            all of its part without a word.
        least: of an equal part: what an instance is dealt at least.
    """

    def __init__(self, reserve: float = 1.0, least: float = LEAST_PART) -> None:
        self._reserve, self._least = reserve, least
        self._hands: dict[str, _Hand] = {}
        self._members: Collection[str] = frozenset()
        self._summed_s = float("-inf")
        self._held = self._offered = 0.0  # of all hands
        self.seen_s = float("-inf")

    def deal(
        self,
        report: Report,
        row: Offered,
        whole: float,
        members: Collection[str],
        now: float,
    ) -> float | None:
        """The share of an instance that reports what came there; ``None``: as it was.

        Args:
            report: of the instance.
            row: what came there each second, and which share it goes by.
            whole: the budget, in the same unit.
            members: the live instances of the service; others hold nothing.
            now: the time.
        """
        self.seen_s = now
        instance = report.instance
        if members is not self._members or now - self._summed_s >= SUMMED_S:
            self._sum(members, instance, now)
        count = len(members) + (instance not in members)
        hand = self._hands.get(instance)
        if hand is None:
            hand = self._hands[instance] = _Hand()
            hand.offered = row.per_s
            self._offered += row.per_s
        elif report.turn and report.turn <= hand.turn:
            return None
        else:
            self._held -= self._of(hand, count, now)
            change = SMOOTHING * (row.per_s - hand.offered)
            hand.offered += change
            self._offered += change
        equal = 1 / count
        silent = max(0, count - len(self._hands)) * self._reserve * equal
        share = max(0.0, min(self._target(hand, whole, count), 1.0 - self._held - silent))
        hand.held, hand.at_s, hand.turn = max(share, row.share), now, report.turn
        self._held += hand.held
        return share

    def held(self, members: Collection[str], now: float) -> float:
        """What all hold together at most."""
        count = max(1, len(members))
        hands = (self._hands.get(name) for name in members)
        left = self._reserve / count
        return sum(left if hand is None else self._of(hand, count, now) for hand in hands)

    def _sum(self, members: Collection[str], instance: str, now: float) -> None:
        """Forget the instances that are gone, and make the sums anew."""
        for gone in [name for name in self._hands if name not in members and name != instance]:
            del self._hands[gone]
        count = len(members) + (instance not in members)
        self._held = sum(self._of(hand, count, now) for hand in self._hands.values())
        self._offered = sum(hand.offered for hand in self._hands.values())
        self._members, self._summed_s = members, now

    def _of(self, hand: _Hand, count: int, now: float) -> float:
        """What an instance that has reported may spend now, for all that is known here."""
        equal = 1 / count
        silent_s = now - hand.at_s
        if silent_s <= SHARE_S:
            return hand.held
        if silent_s <= 2 * SHARE_S or self._reserve == 1:
            return min(hand.held, equal)
        self._offered -= hand.offered
        hand.offered = 0.0
        return self._reserve * equal

    def _target(self, hand: _Hand, whole: float, count: int) -> float:
        """What the instance would get if all that was dealt could be dealt anew."""
        equal, total = 1 / count, max(0.0, self._offered)
        if total <= whole:
            return hand.offered / whole + (1 - total / whole) * equal
        least = self._least * equal
        return least + (1.0 - least * count) * hand.offered / total


class Dealer:
    """The shares of all budgets, by the service that spends them and the budget's name."""

    def __init__(self) -> None:
        self._budgets: dict[tuple[str, str], Shares] = {}

    def deal(
        self,
        report: Report,
        entries: Mapping[str, float],
        limits: Mapping[str, float],
        members: Collection[str],
        now: float,
    ) -> dict[str, float]:
        """The shares that an instance may spend from now on, by budget.

        Args:
            report: of the instance.
            entries: the budgets of entries that are held, by id; what has no budget is not dealt.
            limits: the rates of limits that are declared, by id.
            members: the live instances of its service.
            now: the time.
        """
        dealt = {}
        for row in report.offered:
            name = row.budget.partition(SEPARATOR)[0]
            whole = limits.get(name) or entries.get(name)
            if not whole:
                continue
            shares = self._budgets.get((report.service, row.budget))
            if shares is None:
                if len(self._budgets) >= MAX_BUDGETS:
                    continue  # its instances spend equal parts, as where nothing is dealt
                parts = (REPORTED_PART, REPORTED_PART) if name in limits else (1.0, LEAST_PART)
                shares = self._budgets[report.service, row.budget] = Shares(*parts)
            share = shares.deal(report, row, whole, members, now)
            if share is not None:
                dealt[row.budget] = share
        return dealt

    def forget(self, now: float) -> None:
        """Let go of the budgets that no instance has reported on for a while."""
        silent = [name for name, one in self._budgets.items() if now - one.seen_s > FORGET_S]
        for name in silent:
            del self._budgets[name]
