"""Time, injected: everything that waits or expires is handed a :class:`Clock`.

State machines take a ``now`` in seconds, or an :class:`Instant`, as an argument; the thin edges
around them hold a ``Clock`` to get it from, and wait on it. Unit tests and simulations hand in a
:class:`ManualClock`, which moves only when it is told to, and never sleep.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple, Protocol

__all__ = ["Clock", "Instant", "ManualClock", "Selectable", "SystemClock", "Waitable"]

POLL_S: Final = 0.0005
"""Real seconds between the looks of a thread that waits on a :class:`ManualClock`."""


class Instant(NamedTuple):
    """One moment on both axes of time. A batch is stamped once, and all of it happens then.

    Attributes:
        monotonic_s: seconds since an arbitrary start; never goes back. For leases and windows.
        epoch_ns: nanoseconds since the Unix epoch; may jump. For what people read and the wire
            carries.
    """

    monotonic_s: float
    epoch_ns: int


class Waitable(Protocol):
    """What a thread waits for: a :class:`threading.Event`, or something with its methods."""

    def is_set(self) -> bool:
        """Whether the wait is over."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Return when it is set, or after ``timeout`` seconds; whether it is set."""
        ...


class Selectable(Protocol):
    """What a thread waits for files with: a selector of :mod:`selectors`, or one like them."""

    def select(self, timeout: float | None = None) -> Collection[object]:
        """Return what is ready, after ``timeout`` seconds at the latest."""
        ...


class Clock(Protocol):
    """Where the time comes from, and what a thread or task waits on."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back. For leases, windows, timeouts."""
        ...

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch; may jump. For what people read and the wire carries."""
        ...

    def now(self) -> Instant:
        """Both at once: the stamp of a batch."""
        ...

    def wait(self, event: Waitable, seconds: float | None = None) -> bool:
        """Block until ``event`` is set or ``seconds`` of this clock have passed.

        Args:
            event: what ends the wait early.
            seconds: at most this long; ``None`` waits for the event alone.

        Returns:
            Whether the event is set.
        """
        ...

    def wait_for(
        self,
        condition: threading.Condition,
        holds: Callable[[], bool],
        seconds: float | None = None,
    ) -> bool:
        """Block until ``holds()`` or until ``seconds`` of this clock have passed.

        Args:
            condition: held by the caller; notified when what ``holds`` looks at changes.
            holds: called with the condition held.
            seconds: at most this long; ``None`` waits for ``holds`` alone.

        Returns:
            What ``holds()`` said last.
        """
        ...

    def select(self, selector: Selectable, seconds: float | None = None) -> bool:
        """Block until a file of ``selector`` is ready or ``seconds`` of this clock have passed.

        A thread that waits for a socket can't wait for an event as well; a pipe in the selector
        wakes it up.

        Args:
            selector: holds what is waited for.
            seconds: at most this long; ``None`` waits for the files alone.

        Returns:
            Whether a file is ready.
        """
        ...

    async def wait_async(self, event: asyncio.Event, seconds: float | None = None) -> bool:
        """The same as :meth:`wait` for a task, which gives way to others meanwhile."""
        ...


class SystemClock:
    """The operating system's clocks."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()

    def now(self) -> Instant:
        """Both at once."""
        return Instant(time.monotonic(), time.time_ns())

    def wait(self, event: Waitable, seconds: float | None = None) -> bool:
        """Block until ``event`` is set or ``seconds`` have passed; whether it is set."""
        return event.wait(seconds)

    def wait_for(
        self,
        condition: threading.Condition,
        holds: Callable[[], bool],
        seconds: float | None = None,
    ) -> bool:
        """Block until ``holds()`` or until ``seconds`` have passed; what ``holds()`` said last."""
        return condition.wait_for(holds, seconds)

    def select(self, selector: Selectable, seconds: float | None = None) -> bool:
        """Block until a file is ready or ``seconds`` have passed; whether one is ready."""
        return bool(selector.select(None if seconds is None else max(0.0, seconds)))

    async def wait_async(self, event: asyncio.Event, seconds: float | None = None) -> bool:
        """Wait until ``event`` is set or ``seconds`` have passed; whether it is set."""
        try:
            async with asyncio.timeout(seconds):
                return await event.wait()
        except TimeoutError:
            return event.is_set()


class ManualClock:
    """A clock that stands still until it is told to move: for tests and simulations.

    Threads and tasks may wait on it; a wait ends when its event is set or when :meth:`advance`
    has passed its end, however long that takes in real time.

    Args:
        monotonic_s: where the monotonic clock starts, in seconds.
        epoch_ns: where the wall clock starts, in nanoseconds since the Unix epoch.
    """

    def __init__(self, monotonic_s: float = 1_000.0, epoch_ns: int = 1_700_000_000 * 10**9) -> None:
        self._monotonic_s = monotonic_s
        self._epoch_ns = epoch_ns
        self._waits: set[object] = set()

    @property
    def waiting(self) -> int:
        """How many threads and tasks wait on this clock."""
        return len(self._waits)

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self._monotonic_s

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return self._epoch_ns

    def now(self) -> Instant:
        """Both at once."""
        return Instant(self._monotonic_s, self._epoch_ns)

    def wait(self, event: Waitable, seconds: float | None = None) -> bool:
        """Block until ``event`` is set or the clock was moved by ``seconds``; whether it is set."""
        with self._wait(seconds) as ends_s:
            while not event.is_set() and self._monotonic_s < ends_s:
                event.wait(POLL_S)
        return event.is_set()

    def wait_for(
        self,
        condition: threading.Condition,
        holds: Callable[[], bool],
        seconds: float | None = None,
    ) -> bool:
        """Block until ``holds()`` or until the clock was moved by ``seconds``."""
        with self._wait(seconds) as ends_s:
            while not (held := holds()) and self._monotonic_s < ends_s:
                condition.wait(POLL_S)
        return held

    def select(self, selector: Selectable, seconds: float | None = None) -> bool:
        """Block until a file is ready or the clock was moved by ``seconds``."""
        with self._wait(seconds) as ends_s:
            while not (ready := selector.select(POLL_S)) and self._monotonic_s < ends_s:
                pass
        return bool(ready)

    async def wait_async(self, event: asyncio.Event, seconds: float | None = None) -> bool:
        """Wait until ``event`` is set or the clock was moved by ``seconds``; whether it is set."""
        with self._wait(seconds) as ends_s:
            while not event.is_set() and self._monotonic_s < ends_s:  # noqa: ASYNC110 - two things end it
                await asyncio.sleep(POLL_S)
        return event.is_set()

    @contextlib.contextmanager
    def _wait(self, seconds: float | None) -> Iterator[float]:
        """Count a wait while it lasts; the monotonic second at which it ends."""
        ends_s = math.inf if seconds is None else self._monotonic_s + seconds
        wait = object()
        self._waits.add(wait)
        try:
            yield ends_s
        finally:
            self._waits.discard(wait)

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
