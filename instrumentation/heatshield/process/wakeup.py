"""An event that can be set anywhere, even in a signal handler that interrupted another call to it.

Setting a :class:`threading.Event` takes a lock. The interpreter runs signal handlers right when a
waiter wakes up, so a handler that then sets the same event would wait for the lock of the very call
that it interrupted. Here setting is one call into C, which no handler can interrupt.
"""

from heatshield import native

__all__ = ["Wakeup"]


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
