"""The thread that keeps the table true: stream, renewal, report.

The stream brings changes within milliseconds; its silence for more than ``SILENCE_S`` means
reconnect. Every ``RENEW_S`` a plain ``GET`` with ``If-None-Match`` renews the leases: they count
from the moment it was *sent*. What was refused is reported every second, a newly applied version
at once, and every ten seconds a report says that this instance and its capacity are alive.
"""

import json
import random
import socket
import threading
from collections.abc import Callable
from typing import Final

from opentelemetry.instrumentation.utils import suppress_instrumentation

from heatshield.breakers.event_stream import EventStream
from heatshield.breakers.server_sent_events import Event
from heatshield.breakers.table import Applied, BreakerTable
from heatshield.clock import Clock
from heatshield.contract import (
    RENEW_S,
    SILENCE_S,
    ContractError,
    Delta,
    Report,
    Snapshot,
    StateVersion,
    decode,
)
from heatshield.counters import COUNTERS, fail_open
from heatshield.export.connection import Connection, Unreachable
from heatshield.fork_locks import lock
from heatshield.names import BREAKER_REPORT_PATH, BREAKERS_PATH

__all__ = ["Watch"]

REPORT_S: Final = 1.0
"""Seconds between reports while something is refused: demand decides what may close again."""

ALIVE_S: Final = RENEW_S
"""Seconds between reports while nothing happens: they carry this instance's capacity."""

REQUEST_TIMEOUT_S: Final = 2.0
"""Seconds for a renewal or a report; a third of the silence that means reconnect."""

MIN_RECONNECT_S: Final = 0.1
MAX_RECONNECT_S: Final = 5.0
"""Full jitter between these, the bound doubling with each failure."""

RESTART_S: Final = 10.0
"""Seconds before another try when the thread could not be started: a process that is out of
descriptors or threads stays so for a while, and each request that begins would try again."""

NOT_MODIFIED: Final = 304


class Watch:
    """Follows the collector's breaker state for one instance.

    Args:
        endpoint: the collector's address.
        table: what is kept true.
        clock: whose monotonic time anchors the leases.
        service: of this process.
        instance: names this process, asked anew after a fork.
        workers: its capacity.
        chance: uniform random numbers, for the jitter.
    """

    def __init__(
        self,
        endpoint: str,
        table: BreakerTable,
        clock: Clock,
        *,
        service: str,
        instance: Callable[[], str],
        workers: int,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._endpoint = endpoint
        self._table = table
        self._clock = clock
        self._service = service
        self._instance = instance
        self._workers = workers
        self._chance = chance
        self._lock = lock()
        self._reset()

    def _reset(self) -> None:
        self._thread: threading.Thread | None = None
        self._stream: EventStream | None = None
        self._waker: socket.socket | None = None
        self._wake: socket.socket | None = None
        self._start_at = float("-inf")
        self._stopping = threading.Event()
        self._connection = Connection(self._endpoint, REQUEST_TIMEOUT_S)
        self._failures = 0
        self._anchor = float("-inf")
        self._heard_at = self._renewed_at = float("-inf")
        self._checked_at = self._reported_at = float("-inf")
        self._reported: StateVersion | None = None

    @property
    def started(self) -> bool:
        """Whether the thread was started in this process."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread; once is enough, more does nothing.

        Never raises: where the system has no descriptors or threads left, that is counted, and
        tried again by whoever asks after ``RESTART_S``.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._thread is not None or self._stopping.is_set() or now < self._start_at:
                return
            self._start_at = now + RESTART_S
            self._launch()

    @fail_open("watch start", None)
    def _launch(self) -> None:
        waker, wake = socket.socketpair()
        thread = threading.Thread(
            target=self._run, args=(wake,), name="heatshield-watch", daemon=True
        )
        self._waker, self._wake = waker, wake
        try:
            thread.start()
        except BaseException:
            waker.close()
            wake.close()
            raise
        self._thread = thread

    def end(self) -> None:
        """Tell the thread to end; what the table holds lapses with its leases."""
        self._stopping.set()
        with self._lock:
            if self._waker is not None:
                self._waker.send(b"!")

    def stop(self, most_s: float = REQUEST_TIMEOUT_S) -> None:
        """End the thread and wait for that, at most so long."""
        self.end()
        if self._thread is not None:
            self._thread.join(most_s)

    def after_fork(self) -> None:
        """In a child process, which follows nothing until it serves: it may be no worker at all."""
        if self._stream is not None:
            self._stream.leave_to_parent()
        self._connection.leave_to_parent()
        for end in (self._waker, self._wake):
            if end is not None:
                end.close()
        self._reset()

    def _run(self, wake: socket.socket) -> None:
        with suppress_instrumentation():
            while not self._stopping.is_set():
                try:
                    self._follow(wake)
                except Unreachable:
                    self._failures += 1
                except ContractError:
                    self._failures += 1
                    COUNTERS.error("breaker contract")
                except Exception:  # noqa: BLE001  # the thread must outlive whatever comes
                    self._failures += 1
                    COUNTERS.error("watch")
                self._stopping.wait(self._reconnect_s())

    def _reconnect_s(self) -> float:
        bound = min(MAX_RECONNECT_S, 2 * MIN_RECONNECT_S * 2.0 ** min(self._failures, 16))
        return MIN_RECONNECT_S + self._chance() * (bound - MIN_RECONNECT_S)

    def _follow(self, wake: socket.socket) -> None:
        """Open the stream and stay on it until it breaks or falls silent."""
        sent_at = self._clock.monotonic()
        query = {
            "service": self._service,
            "instance": self._instance(),
            "workers": str(self._workers),
        }
        self._stream = stream = EventStream(self._endpoint, query, self._table.at)
        try:
            self._heard_at = self._clock.monotonic()
            while not self._stopping.is_set():
                for event in stream.wait(self._idle_s(), wake):
                    self._take(event, sent_at)
                self._keep_up()
        finally:
            self._stream = None
            stream.close()

    def _idle_s(self) -> float:
        """Seconds until something is due besides the stream."""
        due_at = min(
            self._heard_at + SILENCE_S,
            self._renewed_at + self._table.renew_every_s,
            self._checked_at + REPORT_S,
        )
        return due_at - self._clock.monotonic()

    def _keep_up(self) -> None:
        now = self._clock.monotonic()
        if now - self._heard_at > SILENCE_S:
            raise Unreachable("the stream fell silent")
        if now - self._renewed_at >= self._table.renew_every_s:
            self._renew()
        self._report(now)

    # -- what comes in ---------------------------------------------------------------------------

    def _take(self, event: Event, opened_at: float) -> None:
        """Apply one event; only complete state confirms that the request was answered."""
        self._heard_at = self._clock.monotonic()
        if event.name == "snapshot":
            self._anchor = max(self._anchor, opened_at)
            self._table.apply(Snapshot.from_json(decode(event.data)), self._anchor)
            self._failures = 0
        elif event.name == "delta":
            change = Delta.from_json(decode(event.data))
            if self._table.apply(change, self._anchor) is Applied.GAP:
                self._renew()
        elif event.name == "heartbeat" and event.id:
            self._failures = 0
            self._compare(StateVersion.parse(event.id), opened_at)
        if self._table.at != self._reported:
            self._report(self._clock.monotonic())

    def _compare(self, theirs: StateVersion, opened_at: float) -> None:
        """A heartbeat names the collector's version; when it is ahead, an event got lost."""
        held = self._table.at
        if held is None or theirs > held:
            self._renew()
        else:
            self._table.renewed(theirs, opened_at)

    def _renew(self) -> None:
        sent_at = self._clock.monotonic()
        held = self._table.at
        answer = self._connection.request(
            "GET",
            BREAKERS_PATH,
            headers={"if-none-match": held.etag} if held is not None else {},
        )
        self._renewed_at = sent_at
        if answer.status == NOT_MODIFIED and held is not None:
            self._table.renewed(held, sent_at)
        elif answer.ok:
            self._table.apply(Snapshot.from_json(decode(answer.body)), sent_at)
        else:
            return
        self._anchor = max(self._anchor, sent_at)

    # -- what goes out ---------------------------------------------------------------------------

    def _report(self, now: float) -> None:
        """Send a report if one is due; refusals that did not arrive are kept for the next."""
        applied = self._table.at
        if applied == self._reported and now - self._checked_at < REPORT_S:
            return
        self._checked_at = now
        rows = self._table.drain_rejections()
        if rows or applied != self._reported or now - self._reported_at >= ALIVE_S:
            self._reported, self._reported_at = applied, now
            self._send(Report(self._service, self._instance(), self._workers, applied, rows))

    def _send(self, report: Report) -> None:
        try:
            answer = self._connection.request(
                "POST",
                BREAKER_REPORT_PATH,
                body=json.dumps(report.to_json()).encode(),
                headers={"content-type": "application/json"},
            )
        except Unreachable:
            self._table.restore_rejections(report.rejected)
            raise
        if not answer.ok:
            self._table.restore_rejections(report.rejected)
