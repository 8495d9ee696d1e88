"""The local kill switch: a person ends every refusal of this process, without the collector.

It is thrown by a file that exists, by a signal that toggles it, or by the service's own code or
settings; whichever throws it, it stays thrown until all of them let go. A thread of its own looks
at the file, because each other thread may be waiting for the network just then. Requests read an
attribute of what enforces, as they always do.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from heatshield.clock import Clock
from heatshield.counters import COUNTERS, fail_open
from heatshield.fork_hooks import expects_fork
from heatshield.fork_locks import lock
from heatshield.native import NativeThread
from heatshield.process.signal_toggle import SignalToggle
from heatshield.process.wakeup import Wakeup

__all__ = ["LOOK_S", "KillSwitch"]

LOOK_S: Final = 0.25
"""Seconds between looks at the file; a thrown switch must be effective within one second."""

RESTART_S: Final = 10.0
"""Seconds before another try when the thread could not be started, as for the watch."""

STOP_S: Final = 1.0
"""Most that the end of the runtime waits for a look that is under way."""


class Enforcing(Protocol):
    """What refuses calls, unless ``enforce`` is false."""

    enforce: bool


class KillSwitch:
    """Switches off what refuses calls in this process.

    Args:
        targets: what it switches off.
        clock: is waited on between the looks.
        file: whose existence throws it; empty for none.
        signal: name of the signal that toggles it; empty for none.
        enforce: ``False``: thrown from the start, by a setting.
    """

    def __init__(
        self,
        targets: Sequence[Enforcing],
        clock: Clock,
        *,
        file: str = "",
        signal: str = "",
        enforce: bool = True,
    ) -> None:
        self.file = file
        self.signal = SignalToggle(signal, self._toggle)
        self._targets = targets
        self._clock = clock
        # One writer each: the service's code, the signal handler, the thread that looks.
        self._by_code = "" if enforce else "setting"
        self._by_signal = self._by_file = False
        self._is_signal_lost = False
        self._told = self.causes  # a setting was read by whoever started the service
        self._lock = lock()
        self._reset()
        self._settle()

    def _reset(self) -> None:
        self._thread: NativeThread | None = None
        self._start_at = float("-inf")
        self._is_over = False
        self._wakeup = Wakeup()
        self._gone = Wakeup()

    @property
    def causes(self) -> tuple[str, ...]:
        """What has thrown it: ``setting``, ``code``, ``signal``, ``file``; empty: nothing has."""
        found = (self._by_code, "signal" * self._by_signal, "file" * self._by_file)
        return tuple(cause for cause in found if cause)

    @property
    def started(self) -> bool:
        """Whether the thread that looks was started in this process."""
        return self._thread is not None

    def enforce(self, enforcing: bool) -> None:  # noqa: FBT001  # the public function's argument
        """Throw it or lift it from code; what a file or a signal has thrown stays so."""
        self._by_code = "" if enforcing else "code"
        self._settle()
        self._tell()

    def start(self) -> bool:
        """Start the thread that looks; whether it runs. More calls do nothing.

        Never raises: where there can be no more threads, that is counted, and a call after
        ``RESTART_S`` tries again.
        """
        self.signal.arm()
        with self._lock:
            now = self._clock.monotonic()
            if self._thread is None and not self._is_over and now >= self._start_at:
                if expects_fork():
                    return False
                self._start_at = now + RESTART_S
                self._launch()
        return self._thread is not None

    @fail_open("kill switch", None)
    def _launch(self) -> None:
        thread = NativeThread(self._run, "heatshield-kill-switch")
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        """Look no more."""
        self.signal.disarm()
        self._is_over = True
        self._wakeup.set()
        thread = self._thread
        if thread is not None and self._clock.wait(self._gone, STOP_S):
            thread.join()  # it has nothing left to do

    def after_fork(self) -> None:
        """In a child process, which looks once it serves; what was thrown stays thrown."""
        self._reset()
        self.signal.arm()

    def status(self) -> dict[str, object]:
        """Its part of ``heatshield.status()``."""
        return {
            "thrown_by": list(self.causes),
            "file": self.file or None,
            "signal": self.signal.name or None,
            "signal_handled": self.signal.armed,
        }

    def _toggle(self) -> None:
        """In the signal handler: neither a lock nor a line, which the thread writes."""
        self._by_signal = not self._by_signal
        self._settle()
        self._wakeup.set()

    def _settle(self) -> None:
        """Have the targets do what the causes say; a write that crossed another is put right by the
        thread's next look.
        """
        enforcing = not self.causes
        for target in self._targets:
            if target.enforce is not enforcing:
                target.enforce = enforcing

    def _run(self) -> None:
        wakeup, gone = self._wakeup, self._gone
        while not self._is_over and wakeup is self._wakeup:
            wakeup.clear()
            try:
                self._by_file = _exists(self.file, otherwise=self._by_file)
                self._settle()
                self._tell()
                self._tell_of_signal()
            except Exception:  # noqa: BLE001  # the thread must outlive any failure
                COUNTERS.error("kill switch")
            if not self._is_over:
                self._clock.wait(wakeup, LOOK_S)
        gone.set()

    def _tell(self) -> None:
        """Say on stderr what has changed. Not through logging: its handlers are the service's, and
        may wait for a network.
        """
        with self._lock:
            causes, told = self.causes, self._told
            self._told = causes
        if causes != told:
            _print(
                f"kill switch thrown by {', '.join(self._named(cause) for cause in causes)}:"
                " this process refuses no call"
                if causes
                else "kill switch lifted: this process enforces breakers again"
            )

    def _tell_of_signal(self) -> None:
        was_lost = self._is_signal_lost
        self._is_signal_lost = bool(self.signal.name) and not self.signal.armed
        if self._is_signal_lost and not was_lost:
            _print(f"{self.signal.name} does not throw the kill switch: another handler is set")

    def _named(self, cause: str) -> str:
        details = {"file": self.file, "signal": self.signal.name}
        return f"{cause} {details[cause]}" if cause in details else cause


def _exists(path: str, *, otherwise: bool) -> bool:
    """Whether there is such a file; ``otherwise`` where that can't be told."""
    if not path:
        return False
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return otherwise
    return True


def _print(line: str) -> None:
    with suppress(Exception):  # there may be no stderr
        sys.stderr.write(f"heatshield: {line}\n")
        sys.stderr.flush()
