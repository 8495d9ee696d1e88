"""Sliding windows of load: panes of 250 ms, rolled into seconds and tens of seconds.

::

    now ─┐
    [p][p][p][p]   panes of 250 ms; the last is filling        1 s  = the last 4 panes
          [ s ][ s ] ... seconds that have closed             10 s  = 9 seconds + open panes
                 [ t ][ t ] ... tens that have closed          1 m  = 5 tens + open seconds
                                                               5 m  = 29 tens + open seconds

A window ends now and is at most a pane, a second or ten seconds shorter than its name, never
longer, and loads divide by the name: so a load is never overstated. The *baseline* is made of
closed tens alone, so that a burst of the last seconds is not in what it is compared with.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from heatshield_collector.detect.sketch import LG_SLOTS, HeavyHitters

__all__ = ["PANE_S", "TENS", "WINDOWS_S", "WindowName", "Windows"]

Integers = npt.NDArray[np.int64]

PANE_S: Final = 0.25
"""Length of a pane: the resolution of the 1 s window, and how often rules are evaluated."""

WindowName = Literal["1s", "10s", "1m", "5m"]
WINDOWS_S: Final[dict[WindowName, float]] = {"1s": 1.0, "10s": 10.0, "1m": 60.0, "5m": 300.0}

_PANES_A_SECOND: Final = 4
_PANES_A_TEN: Final = 40
TENS: Final = 30
"""Tens of seconds that a baseline is made of."""

_PANES_IN_ALL: Final = (TENS + 1) * _PANES_A_TEN


class _Level:
    """Closed stretches of one length: the number of each and its sketch; no empty ones."""

    def __init__(self, panes: int, most: int) -> None:
        self.panes = panes
        self._most = most
        self._closed: deque[tuple[int, HeavyHitters]] = deque()

    def close(self, number: int, sketch: HeavyHitters | None) -> None:
        if sketch is not None and sketch.total:
            self._closed.append((number, sketch))
        while self._closed and self._closed[0][0] <= number - self._most:
            self._closed.popleft()

    def since(self, number: int) -> list[HeavyHitters]:
        """Sketches of the stretches from ``number`` on."""
        return [sketch for _, sketch in self.numbered(number)]

    def numbered(self, number: int) -> list[tuple[int, HeavyHitters]]:
        """The same with their numbers."""
        return [(at, sketch) for at, sketch in self._closed if at >= number]


class Windows:
    """The weights of one kind of key and one cost, over all windows. Not thread-safe.

    Args:
        lg_slots: size of each sketch; see :mod:`heatshield_collector.detect.sketch`.
    """

    def __init__(self, lg_slots: int = LG_SLOTS) -> None:
        self._lg_slots = lg_slots
        self._pane: int | None = None
        self._first = 0
        self._open: HeavyHitters | None = None
        self._reset()

    def _reset(self) -> None:
        self._before: list[tuple[int, HeavyHitters]] = []
        self._panes = _Level(1, _PANES_A_SECOND)
        self._seconds = _Level(_PANES_A_SECOND, _PANES_A_TEN // _PANES_A_SECOND)
        self._tens = _Level(_PANES_A_TEN, TENS)
        self._merged: dict[str, tuple[int, HeavyHitters]] = {}

    def add(self, keys: list[str], weights: list[int], now_s: float) -> None:
        """Add weights that were received at ``now_s`` (monotonic seconds); each key stands once."""
        self._advance(now_s)
        if max(weights, default=0) <= 0:
            return  # many batches have none of a cost
        if self._open is None:
            self._open = HeavyHitters(self._lg_slots)
        self._open.update(keys, weights, each_once=True)
        self._merged.pop("1s", None)

    def add_sums(self, keys: list[str], weights: Integers, now_s: float) -> None:
        """Add many positive weights at once: :meth:`HeavyHitters.update_heaviest`."""
        self._advance(now_s)
        if not keys:
            return
        if self._open is None:
            self._open = HeavyHitters(self._lg_slots)
        self._open.update_heaviest(keys, weights)
        self._merged.pop("1s", None)

    def begin(self, now_s: float) -> None:
        """Something was received, though of no weight: a baseline speaks of the time from now."""
        self._advance(now_s)

    def window(self, name: WindowName, now_s: float) -> HeavyHitters:
        """Everything of the last second, ten seconds, minute or five minutes.

        An answer may be one pane old, but not that of the 1 s window, which trips.
        """
        pane = self._advance(now_s)
        return self._remembered(name, pane, lambda: self._parts(name, pane))

    def most(self, name: WindowName, now_s: float) -> int:
        """No key weighs more than this in a window. Nothing is merged for it."""
        pane = self._advance(now_s)
        return sum(part.most for part in self._parts(name, pane))

    def baseline(self, now_s: float) -> tuple[HeavyHitters, float]:
        """Everything of the closed tens of the last five minutes, and the seconds they cover."""
        covered_s = self.covered_s(now_s)
        ten = self._advance(now_s) // _PANES_A_TEN
        return self._remembered("baseline", ten, lambda: self._usual(ten)), covered_s

    def covered_s(self, now_s: float) -> float:
        """Seconds that a baseline speaks of now."""
        ten = self._advance(now_s) // _PANES_A_TEN
        return 10.0 * min(ten - self._first // _PANES_A_TEN, TENS)

    def _usual(self, ten: int) -> list[HeavyHitters]:
        before = [sketch for at, sketch in self._before if at >= ten - TENS]
        return before + self._tens.since(ten - TENS)

    def closed(self, now_s: float) -> tuple[list[tuple[int, HeavyHitters]], int]:
        """What :meth:`baseline` is made of, to be kept over a restart.

        Returns:
            The closed tens, each with its age (1: it ended as the present ten began), and how many
            tens they cover. What has closed never changes, so the sketches may be read later.
        """
        ten = self._advance(now_s) // _PANES_A_TEN
        rows = [*self._before, *self._tens.numbered(ten - TENS)]
        covered = round(self.covered_s(now_s) / 10.0)
        return [(ten - at, sketch) for at, sketch in rows if at >= ten - TENS], covered

    def restore(self, closed: list[tuple[int, HeavyHitters]], covered: int, now_s: float) -> None:
        """Go on with the :meth:`closed` tens of an earlier process, as if no time had passed.

        They count for the baseline alone: the windows are of what comes from now on. To be called
        before anything is added.
        """
        pane = self._advance(now_s)
        ten = pane // _PANES_A_TEN
        self._before = [(ten - age, sketch) for age, sketch in closed]
        self._first = (ten - covered) * _PANES_A_TEN
        self._merged.pop("baseline", None)

    def _remembered(
        self, name: str, until: int, parts: Callable[[], list[HeavyHitters]]
    ) -> HeavyHitters:
        """Merging is expensive, so an answer is kept until the stretch ``until`` has passed."""
        found = self._merged.get(name)
        if found is None or found[0] != until:
            found = self._merged[name] = (until, HeavyHitters.merged(parts(), self._lg_slots))
        return found[1]

    def _closed_tens(self, ten: int, most: int) -> HeavyHitters:
        return self._remembered(f"{most} tens", ten, lambda: self._tens.since(ten - most))

    def _parts(self, name: WindowName, pane: int) -> list[HeavyHitters]:
        filling = [self._open] if self._open is not None else []
        second, ten = pane // _PANES_A_SECOND, pane // _PANES_A_TEN
        of_second = self._panes.since(second * _PANES_A_SECOND) + filling
        if name == "1s":
            return self._panes.since(pane - _PANES_A_SECOND + 1) + filling
        if name == "10s":
            return self._seconds.since(second - 9) + of_second
        of_ten = self._seconds.since(ten * _PANES_A_TEN // _PANES_A_SECOND)
        tens = self._closed_tens(ten, 5 if name == "1m" else TENS - 1)
        return [tens, *of_ten, *of_second]

    def _advance(self, now_s: float) -> int:
        """Close what has ended; the number of the pane that is filling."""
        now = int(now_s / PANE_S)
        if self._pane is None:
            self._pane = self._first = now
        if now - self._pane > _PANES_IN_ALL:
            # After so long a silence no window holds anything that came before it.
            self._reset()
            self._open, self._pane = None, now
        while self._pane < now:
            self._close(self._pane)
            self._pane += 1
        return self._pane

    def _close(self, pane: int) -> None:
        self._panes.close(pane, self._open)
        self._open = None
        following = pane + 1
        if following % _PANES_A_SECOND == 0:
            parts = self._panes.since(following - _PANES_A_SECOND)
            self._seconds.close(pane // _PANES_A_SECOND, self._merge(parts))
        if following % _PANES_A_TEN == 0:
            parts = self._seconds.since((following - _PANES_A_TEN) // _PANES_A_SECOND)
            self._tens.close(pane // _PANES_A_TEN, self._merge(parts))

    def _merge(self, parts: list[HeavyHitters]) -> HeavyHitters | None:
        """One sketch of closed stretches; what has closed never changes, so one alone stands."""
        if len(parts) <= 1:
            return parts[0] if parts else None
        return HeavyHitters.merged(parts, self._lg_slots)
