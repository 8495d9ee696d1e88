"""A wake-up call that may be given anywhere, even in a handler that interrupted another call.

:class:`threading.Event` takes a lock to be set. Waking a waiter is just when the interpreter looks
for signals; a handler that then has to wake the same waiter, or that waits for who does, would wait
for the lock of what it interrupted. One call into C, like here, can't be interrupted.
"""

import _thread

__all__ = ["Bell"]


class Bell:
    """Like an event, for one thread that waits.

    Attributes:
        rung: whether it was, and was not cleared since.
    """

    __slots__ = ("_lock", "rung")

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()  # held while nobody rings
        self._lock.acquire()
        self.rung = False

    def ring(self) -> None:
        """Wake who waits; never blocks."""
        self.rung = True
        try:  # noqa: SIM105  # on every record's way, and a context manager costs more
            self._lock.release()
        except RuntimeError:
            pass  # it was rung already

    def clear(self) -> None:
        """Wait for the next ring from now on."""
        self.rung = False
        self._lock.acquire(blocking=False)

    def wait(self, most_s: float | None = None) -> bool:
        """Wait until it is rung; whether it was. It may return too early."""
        if not self.rung:
            self._lock.acquire(timeout=-1 if most_s is None else max(0.0, most_s))
        return self.rung
