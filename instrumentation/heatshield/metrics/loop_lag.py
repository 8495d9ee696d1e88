"""How late an event loop runs what is due: whatever blocks it holds up every request in it.

A timer in each loop that serves requests notes by how much it was late, four times a second. A loop
that is blocked for a second shows up as one lag of three quarters to a whole one.
"""

from asyncio import AbstractEventLoop, _get_running_loop
from collections.abc import Callable
from contextvars import Context
from typing import Final
from weakref import WeakKeyDictionary, ref

from heatshield.clock import Clock, SystemClock
from heatshield.metrics.distribution import REQUEST_BUCKETS_S, Distribution

__all__ = ["INTERVAL_S", "LOOP_LAG", "LoopLag"]

INTERVAL_S: Final = 0.25
"""Seconds between looks: costs a loop some 50 µs a second."""


def _none() -> None:
    """Stands for a reference to a loop while there is none."""


class LoopLag:
    """Lags of the loops that :meth:`follow` was called in.

    Args:
        clock: measures; a loop's own time may be as old as its last round.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget what was measured and follow no loop any more."""
        self._lags = Distribution(REQUEST_BUCKETS_S)
        self._longest_s = 0.0
        # Of each loop the second at which its timer is due.
        self._followed: WeakKeyDictionary[AbstractEventLoop, float] = WeakKeyDictionary()
        self._last: Callable[[], AbstractEventLoop | None] = _none

    def follow(self) -> None:
        """Measure the loop that runs here, if one does; again for the same one is next to free."""
        loop = _get_running_loop()
        if loop is None or self._last() is loop:
            return
        self._last = ref(loop)
        if loop not in self._followed:
            self._wait(loop, self._followed)

    def _wait(
        self, loop: AbstractEventLoop, followed: "WeakKeyDictionary[AbstractEventLoop, float]"
    ) -> None:
        due_s = followed[loop] = self._clock.monotonic() + INTERVAL_S
        # In a context of its own: a copy of this one would keep its request alive for good.
        loop.call_later(INTERVAL_S, self._look, loop, followed, due_s, context=Context())

    def _look(
        self,
        loop: AbstractEventLoop,
        followed: "WeakKeyDictionary[AbstractEventLoop, float]",
        due_s: float,
    ) -> None:
        if followed is self._followed:  # else it was forgotten since
            lag_s = max(0.0, self._clock.monotonic() - due_s)
            self._lags.add(lag_s)
            self._longest_s = max(self._longest_s, lag_s)
            self._wait(loop, followed)

    def take_longest_s(self) -> float:
        """The longest lag since this was asked last; one that lasts is in it. From any thread."""
        now_s, longest_s, self._longest_s = self._clock.monotonic(), self._longest_s, 0.0
        for loop, due_s in tuple(self._followed.items()):
            if loop.is_running():
                longest_s = max(longest_s, now_s - due_s)
        return longest_s

    def counts(self) -> Distribution:
        """What has been measured."""
        return self._lags.copy()


LOOP_LAG: Final = LoopLag(SystemClock())
"""This process's."""
