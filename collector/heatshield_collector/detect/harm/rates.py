"""How many requests of a service are usually answered, so that those who get no turn are missed.

A synchronous worker sees a request when it takes it. Those that wait for one wait in the backlog of
the socket, where no span and no report tells of them: the users wait, and all that are served are
quick. What shows is that far fewer are served than just before.
"""

import math
from collections import deque
from typing import Final

__all__ = ["UsualRate", "is_starved"]

PANE_S: Final = 5.0
LAG: Final = 12
"""Panes that are too new: a minute."""

PANES: Final = 72
"""Panes that are kept: six minutes."""

LEAST_S: Final = 60.0
"""Seconds of history without which nothing is known."""

LEAST: Final = 25.0
"""Requests that must be usual in the time that is looked at. Few people come in bursts, a page with
its pictures, so that seconds without anybody are nothing unusual."""

MISSING: Final = 0.5
"""Least part of them that must be missing."""

TAIL: Final = 1e-5
"""Probability under which it is no chance."""


class UsualRate:
    """Requests a second of one service, from one to six minutes ago."""

    def __init__(self) -> None:
        self._panes: deque[list[float]] = deque(maxlen=PANES)  # number, requests, seconds

    def add(self, requests: float, seconds: float, now_s: float) -> None:
        """Take in how many were answered in so many seconds until now (monotonic)."""
        number = now_s // PANE_S
        if not self._panes or self._panes[-1][0] < number:
            self._panes.append([number, 0.0, 0.0])
        self._panes[-1][1] += requests
        self._panes[-1][2] += seconds

    def usual(self, now_s: float) -> float:
        """Requests a second; 0: not known."""
        now = now_s // PANE_S
        old = [pane for pane in self._panes if now - PANES <= pane[0] <= now - LAG]
        seconds = math.fsum(pane[2] for pane in old)
        return math.fsum(pane[1] for pane in old) / seconds if seconds >= LEAST_S else 0.0


def is_starved(served: float, expected: float) -> bool:
    """Whether far fewer were served than is usual, and not by chance (Poisson)."""
    if expected < LEAST or served > (1.0 - MISSING) * expected:
        return False
    term = total = math.exp(-expected)
    for count in range(1, int(served) + 1):
        term *= expected / count
        total += term
    return total < TAIL
