"""How long the end of a process may wait for the collector, however many notice that it ends.

A web server ends in steps: the application's shutdown, the server's own end, a signal, the exit
handlers. Each may be the last that anybody hears of, so each sends what is queued; but all of them
together wait for two seconds and no more.
"""

import time
from collections.abc import Callable
from typing import Final

from heatshield.counters import fail_open

__all__ = ["FAREWELL_S", "Farewell"]

FAREWELL_S: Final = 2.0
"""Seconds that the end of a process may be delayed by. Platforms kill after ten or thirty."""

ANEW_AFTER_S: Final = 10.0
"""After so many seconds it was not the end: an application in a test begins and ends often."""


class Farewell:
    """Sends what is queued, within what is left of the time for it.

    Args:
        send: sends for at most the seconds given.
        monotonic: where the time comes from.
    """

    def __init__(
        self,
        send: Callable[[float], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._monotonic = monotonic
        self._spent_s = 0.0
        self._last_s = float("-inf")

    @property
    def left_s(self) -> float:
        """Seconds that may still be waited."""
        if self._monotonic() - self._last_s > ANEW_AFTER_S:
            self._spent_s = 0.0
        return max(0.0, FAREWELL_S - self._spent_s)

    @fail_open("farewell", None)
    def say(self) -> None:
        """Send what is queued; does nothing once the time is spent."""
        most_s = self.left_s
        if most_s:
            self.spend(lambda: self._send(most_s))

    def spend(self, work: Callable[[], object]) -> None:
        """Do something whose duration counts."""
        began = self._monotonic()
        try:
            work()
        finally:
            self._last_s = self._monotonic()
            self._spent_s += self._last_s - began
