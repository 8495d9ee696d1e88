"""Deals out budgets: which part of a budget each instance of a service may spend.

Each instance is dealt by what comes there, and what all hold together is never more than the whole:
an instance gets what the others don't hold. So a share that is to shrink has to be reported on once
more before another grows, which takes a quarter of a second. An instance that was dealt nothing
spends an equal part, and one whose share has ended at most that.

Pure; not thread-safe. Times are seconds on a clock that never goes back.
"""

from collections.abc import Collection
from typing import Final

from heatshield.call_key import SEPARATOR
from heatshield.contract import SHARE_S, Report

__all__ = ["LEAST_PART", "Dealer", "Shares"]

LEAST_PART: Final = 0.1
"""Of an equal part: what an instance keeps where nothing comes, for calls that may come yet."""

SMOOTHING: Final = 0.5
"""How much the newest report counts; calls come in no steady stream."""

FORGET_S: Final = 60.0
"""Seconds without a report after which a budget is forgotten."""


class _Hand:
    __slots__ = ("at_s", "offered", "share")

    def __init__(self) -> None:
        self.share: float | None = None
        self.offered = 0.0
        self.at_s = float("-inf")


class Shares:
    """One budget's shares."""

    def __init__(self) -> None:
        self._hands: dict[str, _Hand] = {}
        self.seen_s = float("-inf")

    def deal(self, instance: str, offered: float, members: Collection[str], now: float) -> float:
        """The share of an instance that reports what came there.

        Args:
            instance: that reports.
            offered: what came there each second, in any unit that all report in.
            members: the live instances of the service; others hold nothing.
            now: the time.
        """
        self.seen_s = now
        for gone in [name for name in self._hands if name not in members and name != instance]:
            del self._hands[gone]
        names = {*members, instance}
        hand = self._hands.setdefault(instance, _Hand())
        is_first = hand.share is None
        hand.offered = offered if is_first else hand.offered + SMOOTHING * (offered - hand.offered)
        equal = 1 / len(names)
        others = sum(self._held(name, equal, now) for name in names if name != instance)
        hand.share = max(0.0, min(self._target(hand, names, equal), 1.0 - others))
        hand.at_s = now
        return hand.share

    def held(self, members: Collection[str], now: float) -> float:
        """What all hold together at most."""
        equal = 1 / max(1, len(members))
        return sum(self._held(name, equal, now) for name in members)

    def _held(self, instance: str, equal: float, now: float) -> float:
        """What an instance may spend now, for all that is known here."""
        hand = self._hands.get(instance)
        if hand is None or hand.share is None:
            return equal
        return hand.share if now - hand.at_s <= SHARE_S else min(hand.share, equal)

    def _target(self, hand: _Hand, names: Collection[str], equal: float) -> float:
        """What the instance would get if all that was dealt could be dealt anew."""
        offered = [self._hands[name].offered for name in names if name in self._hands]
        total, count = sum(offered), sum(one > 0 for one in offered)
        if total <= 0:
            return equal
        least = LEAST_PART * equal
        if hand.offered <= 0:
            return least
        return least + (1.0 - least * len(names)) * hand.offered / total if count else equal


class Dealer:
    """The shares of all budgets, by the service that spends them and the budget's name."""

    def __init__(self) -> None:
        self._budgets: dict[tuple[str, str], Shares] = {}

    def deal(
        self, report: Report, names: Collection[str], members: Collection[str], now: float
    ) -> dict[str, float]:
        """The shares that an instance may spend from now on, by budget.

        Args:
            report: of the instance.
            names: of the entries and limits that have a budget; any other is nobody's to spend.
            members: the live instances of its service.
            now: the time.
        """
        dealt = {}
        for row in report.offered:
            if row.budget.partition(SEPARATOR)[0] in names:
                shares = self._budgets.setdefault((report.service, row.budget), Shares())
                dealt[row.budget] = shares.deal(report.instance, row.per_s, members, now)
        return dealt

    def forget(self, now: float) -> None:
        """Let go of the budgets that no instance has reported on for a while."""
        silent = [name for name, one in self._budgets.items() if now - one.seen_s > FORGET_S]
        for name in silent:
            del self._budgets[name]
