"""Writes what breaker control holds before clients are told of it.

The write has a thread of its own, and whoever changes breakers waits for it, but not for long: a
disk that is full, read-only or hangs must not keep a hot user in. What could not be written in time
is written as soon as that is possible, and until then ``/readyz`` says what a restart would lose.
"""

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

from heatshield.clock import Clock
from heatshield_collector.control.state_file import KeptState, StateFile

__all__ = ["AGAIN_S", "PATIENCE_S", "StateKeeper"]

_log = logging.getLogger(__name__)

PATIENCE_S: Final = 0.15
"""Seconds that a change waits for the disk at most. It is to reach every client within 250 ms."""

AGAIN_S: Final = 1.0
"""Seconds after which what could not be written is tried again, though nothing has changed."""


class StateKeeper:
    """One thread that writes the newest state.

    Args:
        file: where it is written.
        clock: what is waited on.

    Attributes:
        failures: writes that failed or took longer than :data:`PATIENCE_S`.
    """

    def __init__(self, file: StateFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._changed = threading.Condition()
        self._state: KeptState | None = None
        self._asked = self._tried = self._written = 0
        self._trouble = ""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="heatshield-state", daemon=True)
        self.failures = 0

    @property
    def is_written(self) -> bool:
        """Whether all that was handed over is on the disk."""
        with self._changed:
            return self._written == self._asked

    def notes(self) -> list[str]:
        """What is wrong, a sentence for people; empty: nothing is."""
        with self._changed:
            trouble = self._trouble
        if not trouble:
            return []
        return [f"breakers hold, but a restart would forget the latest: {trouble}"]

    def start(self) -> None:
        """Start the thread, and wait for it to write what was handed over already."""
        self._thread.start()
        self._wait(self._asked)

    def stop(self) -> None:
        """Write what was handed over, if it can be written, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def keep(self, epoch: int, control: Mapping[str, Any]) -> None:
        """Hand over the newest state, and wait until it is on the disk or that takes too long.

        While the disk makes trouble nothing waits for it. Before :meth:`start` nothing is written.

        Args:
            epoch: of this collector.
            control: what it holds; not changed any more.
        """
        with self._changed:
            self._state = KeptState(epoch, control)
            self._asked += 1
            number = self._asked
            self._changed.notify_all()
            waits = self._thread.is_alive() and not self._trouble
        if waits:
            self._wait(number)

    def _wait(self, number: int) -> None:
        with self._changed:
            if self._clock.wait_for(self._changed, lambda: self._tried >= number, PATIENCE_S):
                return
            self._fail(f"writing {self._file.path} takes more than {PATIENCE_S:g} s")

    def _fail(self, trouble: str) -> None:
        """Count it, and log it unless the disk was in trouble before."""
        self.failures += 1
        if not self._trouble:
            _log.error("breakers hold, but are not kept for a restart: %s", trouble)
        self._trouble = trouble

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            number, state = taken
            trouble = self._write(state)
            with self._changed:
                self._tried = number
                if trouble:
                    self._fail(trouble)
                else:
                    self._written = number
                    if self._trouble:
                        _log.warning("breakers are kept for a restart again")
                    self._trouble = ""
                self._changed.notify_all()

    def _take(self) -> tuple[int, KeptState] | None:
        """The newest state, once it is to be written; ``None``: it stops, and has tried all."""
        with self._changed:
            again_s = AGAIN_S if self._tried > self._written else None
            self._clock.wait_for(
                self._changed, lambda: self._asked > self._tried or self._stopping, again_s
            )
            if self._state is None or (self._stopping and self._asked == self._tried):
                return None
            return self._asked, self._state

    def _write(self, state: KeptState) -> str:
        """What was wrong; empty: it is written."""
        try:
            self._file.write(state)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread goes on and tries again
            return f"{self._file.path} can't be written: {error}"
        return ""
