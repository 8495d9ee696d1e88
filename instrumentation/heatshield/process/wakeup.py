"""An event that can be set anywhere, even in a signal handler that interrupted another call to it.

Setting a :class:`threading.Event` takes a lock. The interpreter runs signal handlers right when a
waiter wakes up, so a handler that then sets the same event would wait for the lock of the very call
that it interrupted. Here setting is one call into C, which no handler can interrupt.
"""

import math
import time
from typing import Final

from heatshield import native

__all__ = ["Completion", "Wakeup"]

GIVE_WAY_S: Final = 0.005
"""Seconds that other greenlets run between two looks of one that waits for our threads."""


class Wakeup:
    """Like :class:`threading.Event`, for one waiting thread; a clock can wait on it."""

    __slots__ = ("_is_set", "_lock")

    def __init__(self) -> None:
        self._lock = native.lock()  # held while it is not set
        self._lock.acquire()
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it was set, and not cleared since."""
        return self._is_set

    def set(self) -> None:
        """Wake the waiter; never blocks."""
        self._is_set = True
        try:  # noqa: SIM105  # on every record's way, and a context manager costs more
            self._lock.release()
        except RuntimeError:
            pass  # it was set already

    def clear(self) -> None:
        """Wait for the next :meth:`set` from now on."""
        self._is_set = False
        self._lock.acquire(blocking=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; whether it is. The wait may end too early."""
        if not self._is_set:
            self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        return self._is_set


class Completion(Wakeup):
    """A wake-up that a thread of the service may wait for: other greenlets run meanwhile."""

    __slots__ = ()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; whether it is."""
        if not native.may_give_way():
            return super().wait(timeout)
        ends_at = math.inf if timeout is None else time.monotonic() + timeout
        while not self._is_set and (left_s := ends_at - time.monotonic()) > 0:
            _give_way(min(GIVE_WAY_S, left_s))
        return self._is_set


def _give_way(seconds: float) -> None:
    try:
        time.sleep(seconds)
    except Exception:  # noqa: BLE001  # whichever: the greenlet that others give way to can't
        native.sleep(seconds)
