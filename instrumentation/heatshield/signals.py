"""SIGTERM: what would kill the process at once sends what is queued first.

Only where nobody handles the signal, and in the main thread, as Python has it. The process then
still dies from the signal, so whoever waits for it sees what he would have seen; a handler that the
service sets takes our place. A second signal does not wait for the first.

What the handler interrupts may be a farewell that is being said already, with locks of its own.
That one goes on then, and the signal comes after it.
"""

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from heatshield.farewell import FAREWELL_S

__all__ = ["Termination"]

NOT_KILLED_S: Final = 0.2
"""Who lives so long after the signal is not killed by it: the first process of a container."""


class Termination:
    """The handler of SIGTERM.

    Args:
        farewell: sends what is queued, within the time for it; may be called in any thread.
    """

    def __init__(self, farewell: Callable[[], object]) -> None:
        self._farewell = farewell
        self._deferring = 0
        self._deferred = False

    def install(self) -> None:
        """Handle the signal, if nobody does."""
        with suppress(ValueError):  # not the main thread, or not the main interpreter
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self)

    def remove(self) -> None:
        """Handle it no more; a handler that the service has set since stays."""
        with suppress(ValueError):
            if signal.getsignal(signal.SIGTERM) is self:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Send what is queued, then let the signal do what it would have done."""
        del frame
        if self._deferring and not self._deferred:
            self._deferred = True
            return
        signal.signal(signum, signal.SIG_DFL)
        if not self._deferring:
            self._wait_for_farewell()
        os.kill(os.getpid(), signum)
        time.sleep(NOT_KILLED_S)
        self.install()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """While this lasts, a first signal waits for its end: a farewell is being said."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are handled in the other one
            return
        self._deferring += 1
        try:
            yield
        finally:
            self._deferring -= 1
            if self._deferred and not self._deferring:
                self._deferred = False
                self(signal.SIGTERM, None)

    def _wait_for_farewell(self) -> None:
        """Say it in another thread.

        This one was interrupted anywhere, maybe while it held a lock that is needed now. So it
        waits for no longer than it may, and starts the thread without :mod:`threading`, which has
        locks, too.
        """
        said = _thread.allocate_lock()
        said.acquire()  # released by the other thread

        def say() -> None:
            try:
                self._farewell()
            finally:
                said.release()

        with suppress(RuntimeError):  # no more threads: nothing can be sent
            _thread.start_new_thread(say, ())
            said.acquire(timeout=FAREWELL_S)
