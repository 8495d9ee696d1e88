"""Windows of several costs of the same keys: what came within one pane is summed up exactly first.

To update a sketch costs some 0.2 µs a key and cost. Charges of a pane are added to arrays, where a
key is looked up once for all costs, and the sketches are given the sums: when they are asked for,
at the latest when the pane has passed. A sketch holds a few thousand keys; of more the heaviest
are handed on, and the heaviest of the others bounds what any of them may weigh.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count, islice
from typing import Final

import numpy as np
import numpy.typing as npt

from heatshield_collector.detect.windows import PANE_S, Windows

__all__ = ["CostWindows"]

Integers = npt.NDArray[np.int64]

ROWS_MOST: Final = 2**16
"""Rows that are summed up before sketches are given the sums, also within a pane: 0.5 MiB a cost,
and 10 MiB of keys."""

WEIGHT_MOST: Final = 2**45
"""A year of microseconds: the sum of so many rows, each clamped here, can't wrap around."""


class CostWindows:
    """The weights of one kind of key by cost, over all windows. Not thread-safe.

    Args:
        costs: names of the costs.
    """

    def __init__(self, costs: Iterable[str]) -> None:
        self._windows = {cost: Windows() for cost in costs}
        self._row = {cost: row for row, cost in enumerate(self._windows)}
        self._places: dict[str, int] = {}
        self._rows = 0
        self._sums = np.zeros((len(self._windows), 0), dtype=np.int64)
        self._fresh: set[str] = set()
        self._at_s = 0.0
        self._began = False

    def add(self, keys: Sequence[str], costs: Mapping[str, Integers], now_s: float) -> list[str]:
        """Add weights that were received at ``now_s`` (monotonic seconds).

        Args:
            keys: may stand more than once.
            costs: int64[n] a cost, one weight a key; those that are not positive count for nothing.
            now_s: monotonic seconds.

        Returns:
            The keys that are new within this pane, in their order.
        """
        if not self._began:
            # A baseline speaks of the time since then, also of a cost that nothing has yet.
            self._began = True
            for windows in self._windows.values():
                windows.begin(now_s)
        if int(now_s / PANE_S) != int(self._at_s / PANE_S) or self._rows + len(keys) > ROWS_MOST:
            self._close()
        self._at_s = now_s
        # Of a key that is known the number that it has counts; so some numbers stay unused.
        numbers = count(self._rows)
        known = len(self._places)
        at = np.fromiter(map(self._places.setdefault, keys, numbers), np.int64, len(keys))
        self._rows += len(keys)
        if self._rows > self._sums.shape[1]:
            more = np.zeros((len(self._windows), 2 * self._rows), dtype=np.int64)
            more[:, : self._sums.shape[1]] = self._sums
            self._sums = more
        for cost, weights in costs.items():
            if len(weights) and weights.max() > 0:
                self._fresh.add(cost)
                np.add.at(self._sums[self._row[cost]], at, np.clip(weights, 0, WEIGHT_MOST))
        return list(islice(self._places, known, None))

    def of(self, cost: str) -> Windows:
        """The windows of a cost with all that was added; to be asked at once, and not kept."""
        if cost in self._fresh:
            self._hand_on(cost)
        return self._windows[cost]

    def _close(self) -> None:
        self._hand_on(*sorted(self._fresh))
        self._places.clear()
        self._rows = 0

    def _hand_on(self, *costs: str) -> None:
        keys = np.array(list(self._places), dtype=object)
        at = np.fromiter(self._places.values(), np.int64, len(self._places))
        for cost in costs:
            self._fresh.discard(cost)
            sums = self._sums[self._row[cost]]
            weights = sums[at]
            some = np.flatnonzero(weights)
            self._windows[cost].add_sums(keys[some].tolist(), weights[some], self._at_s)
            sums[:] = 0
