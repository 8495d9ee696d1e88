"""Time, injected: everything that waits or expires is handed a :class:`Clock`.

State machines take a ``now`` in seconds as an argument; the thin edges around them hold a
``Clock`` to get it from. Unit tests hand in a :class:`ManualClock` and never sleep.
"""

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """Where the time comes from."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back. For leases, windows, timeouts."""
        ...

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch; may jump. For what people read and the wire carries."""
        ...


class SystemClock:
    """The operating system's clocks."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()


class ManualClock:
    """A clock that stands still until it is told to move: for tests and simulations.

    Args:
        monotonic_s: where the monotonic clock starts, in seconds.
        epoch_ns: where the wall clock starts, in nanoseconds since the Unix epoch.
    """

    def __init__(self, monotonic_s: float = 1_000.0, epoch_ns: int = 1_700_000_000 * 10**9) -> None:
        self._monotonic_s = monotonic_s
        self._epoch_ns = epoch_ns

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self._monotonic_s

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return self._epoch_ns

    def advance(self, seconds: float) -> None:
        """Move both clocks forward.

        Raises:
            ValueError: if ``seconds`` is negative; use :meth:`step_wall_clock` for a jump back.
        """
        if seconds < 0:
            raise ValueError(f"a monotonic clock can't go back {-seconds} s")
        self._monotonic_s += seconds
        self._epoch_ns += round(seconds * 1e9)

    def step_wall_clock(self, seconds: float) -> None:
        """Jump the wall clock alone, forward or back, as NTP or an operator may."""
        self._epoch_ns += round(seconds * 1e9)
