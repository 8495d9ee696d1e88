"""SIGTERM: what would kill the process at once sends what is queued first.

Only where nobody handles the signal, and in the main thread, as Python has it. The process then
still dies from the signal, so whoever waits for it sees what he would have seen; a handler that the
service sets takes our place. A second signal does not wait for the first.
"""

import _thread
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
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
        signal.signal(signum, signal.SIG_DFL)
        self._wait_for_farewell()
        os.kill(os.getpid(), signum)
        time.sleep(NOT_KILLED_S)
        self.install()

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
