"""Payloads on their way to the collector: a backlog bounded in bytes, sent newest first.

What waits is kept encoded, as that takes a third of the memory of what it was encoded from. After
an outage the newest goes first: it says what is happening now, and the oldest is the first to be
let go. Runs in the exporter's thread; while it waits for an answer, the exporter goes on encoding.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final

from heatshield.clock import Clock
from heatshield.counters import COUNTERS
from heatshield.export.answer import Unreachable
from heatshield.export.connection import Connection
from heatshield.export.payloads import Payload
from heatshield.export.reachability import Reachability
from heatshield.export.retry_policy import (
    HOLD_S,
    Delivered,
    Drop,
    Retry,
    after_answer,
    after_silence,
)
from heatshield.names import URGENT_HEADER
from heatshield.process.wakeup import Wakeup
from heatshield.settings import ServiceSettings

__all__ = ["Sender"]

BACKLOG_BYTES: Final = 8 * 1024 * 1024
"""Payloads that wait: some 20,000 records."""

MEANWHILE_S: Final = 0.2
"""Between two looks at what was queued while waiting."""

_ORDINARY: Final = {"content-type": "application/x-protobuf"}
_URGENT: Final = {**_ORDINARY, URGENT_HEADER: "1"}


class Sender:
    """Delivers payloads one after another over one connection.

    Args:
        settings: endpoint and timeout.
        clock: says how long a payload waits already, and is waited on.
        stopping: set when nothing more is to be waited for.
        draining: set when the process is about to end: what fails is not tried for long.
        chance: uniform random numbers, for the jitter of retries.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        clock: Clock,
        stopping: Wakeup,
        draining: Wakeup,
        chance: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._stopping = stopping
        self._draining = draining
        self._chance = chance
        self._connection = Connection(
            settings.endpoint, settings.export_timeout_s, clock, settings.token
        )
        self._reachability = Reachability(settings.endpoint, clock)
        self._backlog: deque[tuple[Payload, bool]] = deque()
        self._bytes = 0
        self._in_hand = 0
        self.ends_at: float | None = None
        """When the process ends, by the clock, if that is known."""

    @property
    def records(self) -> int:
        """Records that are not delivered yet."""
        return self._in_hand + sum(payload.records for payload, _ in list(self._backlog))

    def take(self, payload: Payload, urgent: bool) -> None:  # noqa: FBT001  # a callback
        """Take a payload over; lets the oldest go when there is too much."""
        self._backlog.append((payload, urgent))
        self._bytes += len(payload.body)
        while self._bytes > BACKLOG_BYTES and len(self._backlog) > 1:
            oldest, _ = self._backlog.popleft()
            self._bytes -= len(oldest.body)
            COUNTERS.drop("backlog_full", oldest.records)

    def deliver(self, meanwhile: Callable[[], object]) -> None:
        """Deliver, or give up, all there is and all that ``meanwhile`` adds while this waits.

        Ends early when nothing more is to be waited for; what is left is then to be abandoned.
        """
        while self._backlog and not self._stopping.is_set():
            try:
                payload, urgent = self._backlog.pop()
            except IndexError:  # abandoned meanwhile
                return
            self._bytes -= len(payload.body)
            self._in_hand = payload.records
            try:
                self._deliver(payload, _URGENT if urgent else _ORDINARY, meanwhile)
            except Exception:
                COUNTERS.drop("export_failed", payload.records)
                raise
            finally:
                self._in_hand = 0

    def abandon(self) -> int:
        """Let go of what waits; returns how many records. What is in hand is counted by itself."""
        records = 0
        while self._backlog:
            with suppress(IndexError):
                records += self._backlog.popleft()[0].records
        self._bytes = 0
        return records

    def leave_to_parent(self) -> None:
        """In a child process: the connection goes on being the parent's."""
        self._connection.leave_to_parent()

    def _deliver(
        self, payload: Payload, headers: dict[str, str], meanwhile: Callable[[], object]
    ) -> None:
        first_at = self._clock.monotonic()
        for attempt in count(1):
            try:
                answer = self._connection.request(
                    "POST",
                    payload.path,
                    body=payload.body,
                    headers=headers,
                    timeout_s=self._left_s(),
                    meanwhile=meanwhile,
                )
                outcome = after_answer(answer, attempt, self._chance)
                if answer.ok:
                    self._reachability.arrived()
                elif isinstance(outcome, Drop):
                    self._reachability.lost(f"it answers {answer.status} to {payload.path}")
            except Unreachable as error:
                is_end = self._draining.is_set()
                if attempt > 1 or is_end:  # one failure may be a restart
                    self._reachability.lost(str(error), is_end=is_end)
                silent_s = self._clock.monotonic() - first_at
                if self._draining.is_set() and not _just_broke(error, attempt):
                    silent_s = HOLD_S
                outcome = after_silence(attempt, silent_s, self._chance, is_there=error.is_there)
            if isinstance(outcome, Delivered):
                return
            if isinstance(outcome, Retry):
                self._wait_to_retry(outcome.after_s, meanwhile)
            if isinstance(outcome, Drop) or self._stopping.is_set():
                cause = outcome.cause if isinstance(outcome, Drop) else "shutdown"
                COUNTERS.drop(cause, payload.records)
                return

    def _wait_to_retry(self, after_s: float, meanwhile: Callable[[], object]) -> None:
        until = self._clock.monotonic() + after_s
        while (left_s := until - self._clock.monotonic()) > 0 and not self._stopping.is_set():
            meanwhile()
            ending_s = self._left_s()
            if ending_s is None:
                self._clock.wait(self._draining, min(left_s, MEANWHILE_S))
                if self._draining.is_set():
                    return
            else:
                self._clock.wait(self._stopping, min(left_s, ending_s, MEANWHILE_S))

    def _left_s(self) -> float | None:
        if self.ends_at is None:
            return None
        return max(0.05, self.ends_at - self._clock.monotonic())


def _just_broke(error: Unreachable, attempt: int) -> bool:
    """Whether a collector that is there may be tried once more, though the process ends: it broke
    off in its first answer, as one does that closes a connection it finds idle.
    """
    return attempt == 1 and error.is_there and not error.is_late
