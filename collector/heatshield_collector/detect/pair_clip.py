"""How much of a reported pair counts towards a trip: as much as its requests would one by one.

A pair of a charge report is the cost of many requests, which are not told apart. What it may count
within a window is what one request may, times the requests that it can be the cost of: those that
ended in the window, and those that run now. So one long request counts no more in twenty reports
than in one span, and four costly ones are needed, as everywhere.

As in :mod:`heatshield_collector.detect.clip` counters are shared by hash, in two generations; here
each knows whose it is. Where a second pair meets the same counter, only the requests of its report
at hand count: less than they might, never more.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["PairClip"]

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

LOG2_COUNTERS: Final = 18
"""Counters of a generation; with 10,000 pairs within it one in fifty shares."""


@dataclass(slots=True)
class _Generation:
    """What was counted since a moment.

    Attributes:
        owner: the hash of the pair that a counter is of; 0: of none.
        counted_us: what its costs counted.
        ended: its requests that ended.
    """

    owner: Hashes
    counted_us: Integers
    ended: Integers

    @classmethod
    def empty(cls) -> "_Generation":
        size = 2**LOG2_COUNTERS
        return cls(np.zeros(size, np.uint64), np.zeros(size, np.int64), np.zeros(size, np.int64))


class PairClip:
    """Counts pairs up to what their requests may count.

    Args:
        window_s: length of the window it feeds, seconds.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._young, self._old = _Generation.empty(), _Generation.empty()
        self._born_s = 0.0

    def counts(
        self,
        hashes: Hashes,
        busy_us: Integers,
        limit_us: Integers,
        ended: Integers,
        running: Integers,
        now_s: float,
    ) -> Integers:
        """Microseconds that count, of pairs that were reported together.

        Args:
            hashes: uint64[n], of each pair and its process.
            busy_us: what each cost since the last report.
            limit_us: what one request of each may count within a window.
            ended: its requests that ended since the last report.
            running: its requests that run.
            now_s: monotonic seconds.
        """
        if now_s - self._born_s >= self._window_s:
            self._old, self._young, self._born_s = self._young, _Generation.empty(), now_s
        counted = np.zeros(len(hashes), dtype=np.int64)
        at = (hashes >> np.uint64(64 - LOG2_COUNTERS)).astype(np.int64)
        rest = np.arange(len(hashes))
        # Pairs that meet the same counter count one after the other.
        while len(rest):
            _, first = np.unique(at[rest], return_index=True)
            rows = rest[first]
            counted[rows] = self._count(
                hashes[rows], at[rows], busy_us[rows], limit_us[rows], ended[rows], running[rows]
            )
            rest = np.delete(rest, first)
        return counted

    def _count(
        self, hashes: Hashes, at: Integers, busy_us: Integers, limit_us: Integers, ended: Integers,
        running: Integers,
    ) -> Integers:  # fmt: skip
        young, old = self._young, self._old
        free = young.owner[at] == 0
        young.owner[at[free]] = hashes[free]
        own = young.owner[at] == hashes
        young.ended[at[own]] += ended[own]
        before = np.where(old.owner[at] == hashes, old.ended[at], 0)
        requests = np.where(own, young.ended[at] + before, ended) + running
        room = limit_us * requests - young.counted_us[at] - old.counted_us[at]
        counted: Integers = np.maximum(0, np.minimum(busy_us, room))
        young.counted_us[at] += counted
        return counted
