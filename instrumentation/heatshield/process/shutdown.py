"""How long the end of a process may wait for the collector, however many steps it ends in.

A web server ends in steps: the application's shutdown, the server's own end, a signal, the exit
handlers. Any of them may be the last one that runs, so each sends what is queued; but all of them
together wait for two seconds and no more.
"""

from collections.abc import Callable
from typing import Final

from heatshield.clock import Clock
from heatshield.counters import fail_open

__all__ = ["SHUTDOWN_S", "ShutdownBudget"]

SHUTDOWN_S: Final = 2.0
"""Seconds that the end of a process may be delayed by. Platforms kill after ten or thirty."""

ANEW_AFTER_S: Final = 10.0
"""After so many seconds it was not the end: an application in a test begins and ends often."""


class ShutdownBudget:
    """Sends what is queued, within what is left of :data:`SHUTDOWN_S`.

    Args:
        send: sends for at most the seconds given.
        clock: measures what was spent.
    """

    def __init__(self, send: Callable[[float], object], clock: Clock) -> None:
        self._send = send
        self._clock = clock
        self._spent_s = 0.0
        self._last_s = float("-inf")

    @property
    def left_s(self) -> float:
        """Seconds that may still be waited."""
        if self._clock.monotonic() - self._last_s > ANEW_AFTER_S:
            self._spent_s = 0.0
        return max(0.0, SHUTDOWN_S - self._spent_s)

    @fail_open("shutdown", None)
    def send(self) -> None:
        """Send what is queued; does nothing once the budget is spent."""
        most_s = self.left_s
        if most_s:
            self.spend(lambda: self._send(most_s))

    def spend(self, work: Callable[[], object]) -> None:
        """Do something whose duration counts."""
        began = self._clock.monotonic()
        try:
            work()
        finally:
            self._last_s = self._clock.monotonic()
            self._spent_s += self._last_s - began
