"""Virtual time: what happens next, in the order of its moments."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any

__all__ = ["Engine"]


class Engine:
    """A discrete-event engine. Things of one moment happen in the order in which they were planned.

    Attributes:
        now_s: seconds since the start.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._numbers = itertools.count()

    def at(self, at_s: float, act: Callable[..., object], *args: Any) -> None:
        """Do something at a moment; one that has passed is now."""
        heapq.heappush(self._events, (max(at_s, self.now_s), next(self._numbers), act, args))

    def after(self, seconds: float, act: Callable[..., object], *args: Any) -> None:
        """Do something in a while."""
        heapq.heappush(self._events, (self.now_s + seconds, next(self._numbers), act, args))

    def run(self, until_s: float) -> None:
        """Let time pass, with all that happens in it."""
        events = self._events
        while events and events[0][0] <= until_s:
            self.now_s, _, act, args = heapq.heappop(events)
            act(*args)
        self.now_s = max(self.now_s, until_s)
