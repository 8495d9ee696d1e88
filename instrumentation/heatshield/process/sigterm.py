"""SIGTERM: a process that the signal would kill at once sends what is queued first.

Only where no handler is set. A handler in Python would not do: it runs in the main thread when that
comes back to the interpreter, which it may never do, and a process that can't be ended is worse
than a lost span. :mod:`faulthandler` brings a handler in C, made for processes that are stuck: it
writes to a file where the interrupted thread is. Here that file is a pipe, and what is written does
not matter: a thread of ours that reads from the pipe wakes up, sends what is queued, and then lets
the signal kill.

So the service's threads run on meanwhile. :func:`signal.getsignal` says that no handler is set, as
before; a handler that the service sets takes our place. A second signal kills at once.
"""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from heatshield import native
from heatshield.clock import Clock
from heatshield.counters import fail_open
from heatshield.fork_locks import reentrant_lock
from heatshield.native import NativeThread
from heatshield.process.wakeup import Wakeup

__all__ = ["SigtermHandler"]

NOT_KILLED_S: Final = 0.2
"""A process that lives so long after the signal is not killed by it, like the first one of a
container."""

FORK_WAITS_S: Final = 0.05
"""Most that a fork is held up until the thread has ended."""

READ_BYTES: Final = 65_536
"""As much as a pipe holds."""


class SigtermHandler:
    """What happens at SIGTERM.

    Args:
        send_queued: sends what is queued, within the time for it.
        clock: is waited on.
    """

    def __init__(self, send_queued: Callable[[], object], clock: Clock) -> None:
        self._send_queued = send_queued
        self._clock = clock
        self._lock = reentrant_lock()
        self._is_possible = _is_main_thread_python()
        self._reset()

    def _reset(self) -> None:
        self._handler: _Handler | None = None
        self._is_wanted = False
        self._forks = 0

    @fail_open("sigterm", None)
    def arm(self) -> None:
        """Be ready for the signal, if no handler is set; more calls do nothing."""
        with self._lock:
            self._is_wanted = True
            if self._handler is None and not self._forks and self._is_possible and _kills():
                self._handler = _Handler(self._send_queued, self._clock)

    def disarm(self) -> None:
        """Let the signal do what it does without us."""
        with self._lock:
            self._is_wanted = False
            self._end()

    @fail_open("sigterm", None)
    def _end(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.end()

    def before_fork(self) -> None:
        """A child must not tell this process that it got a signal, nor inherit a thread."""
        with self._lock:
            self._forks += 1
            self._end()

    def after_fork_in_parent(self) -> None:
        """Be ready again."""
        with self._lock:
            self._forks -= 1
            if self._is_wanted and not self._forks:
                self.arm()

    def after_fork(self) -> None:
        """In a child process: wait for :meth:`arm`.

        Where Python did not know of the fork, the handler was not ended before it: the child has
        it, too, and would wake the thread of its parent.
        """
        handler = self._handler
        if handler is not None:
            handler.leave_to_parent()
        self._is_possible = _is_main_thread_python()
        self._reset()


class _Handler:
    """The handler, and the thread that waits for it to write.

    Raises:
        OSError: if there are no descriptors left.
        RuntimeError: if there can be no more threads.
    """

    def __init__(self, send_queued: Callable[[], object], clock: Clock) -> None:
        self._send_queued = send_queued
        self._clock = clock
        self._ended = Wakeup()
        self._gone = Wakeup()
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)  # the handler must not wait for us
        self._thread = NativeThread(self._run, "heatshield-sigterm")
        try:
            self._thread.start()
        except BaseException:
            os.close(self._reading)
            os.close(self._writing)
            raise
        faulthandler.register(signal.SIGTERM, self._writing, all_threads=False)

    def end(self) -> None:
        """Handle it no more."""
        _let_kill()
        self._ended.set()
        os.close(self._writing)  # wakes the thread
        if self._thread.is_current():
            return
        if self._clock.wait(self._gone, FORK_WAITS_S):
            self._thread.join()  # it has nothing left to do

    def leave_to_parent(self) -> None:
        """In a child process: let go of the pipe, which goes on being the parent's."""
        _let_kill()
        os.close(self._writing)
        with suppress(OSError):  # the parent's thread may have closed it on its way out
            os.close(self._reading)

    def _run(self) -> None:
        while native.read(self._reading, READ_BYTES) and not self._ended.is_set():
            _let_kill()
            self._send_queued()
            os.kill(os.getpid(), signal.SIGTERM)
            self._clock.wait(self._ended, NOT_KILLED_S)
            self._drain()
            if not self._ended.is_set() and _kills():
                faulthandler.register(signal.SIGTERM, self._writing, all_threads=False)
        os.close(self._reading)
        self._gone.set()

    def _drain(self) -> None:
        os.set_blocking(self._reading, False)
        with suppress(BlockingIOError):
            native.read(self._reading, READ_BYTES)
        os.set_blocking(self._reading, True)


def _let_kill() -> None:
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        faulthandler.unregister(signal.SIGTERM)  # else it would undo what the service has set since


def _kills() -> bool:
    """Whether no handler is set, in Python or in C."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return False
    with suppress(OSError, ValueError, IndexError):  # there is no such file elsewhere than on Linux
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return not caught >> (signal.SIGTERM - 1) & 1
    return True


def _is_main_thread_python() -> bool:
    """Whether the thread that gets the process's signals is the interpreter's, as far as is known.

    The handler writes nothing in a thread that Python does not know, and where Python is embedded
    that may be the main one.
    """
    if sys.platform != "linux":
        return True
    is_here = threading.get_native_id() == os.getpid()
    if threading.current_thread() is threading.main_thread():
        return is_here
    # A greenlet may be one of the main thread, and not be the one that Python calls so.
    return (is_here and native.are_threads_green()) or (
        threading.main_thread().native_id == os.getpid()
    )
