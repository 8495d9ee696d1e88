"""One connection's worth of following the collector's breaker state: changes, renewals, reports.

The stream brings changes within milliseconds. Every ``RENEW_S`` a plain ``GET`` with
``If-None-Match`` renews the leases: they count from the moment it was *sent*.
"""

from collections.abc import Callable
from typing import Final

from heatshield.breakers.event_stream import EventStream
from heatshield.breakers.lease_table import Applied, BreakerTable
from heatshield.breakers.reports import Reports
from heatshield.breakers.server_sent_events import Event
from heatshield.breakers.signature import Checks, Unsigned
from heatshield.clock import Clock
from heatshield.contract import Delta, Snapshot, StateVersion, decode
from heatshield.export.connection import Connection
from heatshield.export.stream import Wakeable
from heatshield.fork_locks import lock
from heatshield.names import BREAKERS_PATH
from heatshield.process.wakeup import Wakeup

__all__ = ["Follower"]

REQUEST_TIMEOUT_S: Final = 2.0
"""Seconds for a renewal or a report; a third of the silence that means reconnect."""

NOT_MODIFIED: Final = 304


class Follower:
    """Keeps a table true while the collector can be reached; used by one thread.

    Args:
        endpoint: the collector's address.
        table: what is kept true.
        clock: whose monotonic time anchors the leases, and that is waited on.
        service: of this process.
        instance: names this process.
        workers: its capacity.
        token: that the collector requires, if it does.
        checks: what state has to be signed by.

    Attributes:
        failures: tries in a row that brought no state.
        heard: set once the collector's state is known, or a try to learn it has failed.
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
        token: str = "",
        checks: Checks | None = None,
    ) -> None:
        self._checks = checks or Unsigned()
        self._table = table
        self._clock = clock
        self._connection = connection = Connection(endpoint, REQUEST_TIMEOUT_S, clock, token)
        self._reports = Reports(
            connection, table, service=service, instance=instance, workers=workers, clock=clock
        )
        self._service = service
        self._instance = instance
        self._stream: EventStream | None = None
        self._anchor = self._renewed_at = float("-inf")
        self._asking = lock()  # requests are the thread's, and those of who ends the process
        self.failures = 0
        self.heard = Wakeup()

    def follow(self, stopping: Wakeup, wake: Wakeable) -> None:
        """Open the stream and stay on it until it breaks, falls silent or is to stop.

        Args:
            stopping: set when it is to stop.
            wake: readable when ``stopping`` was set.

        Raises:
            Unreachable: when the collector can't be reached any more.
            ContractError: when it sends what no collector sends.
        """
        try:
            self._follow(stopping, wake)
        finally:
            self.heard.set()

    def _follow(self, stopping: Wakeup, wake: Wakeable) -> None:
        opened_at = self._clock.monotonic()
        listener = {"service": self._service, "instance": self._instance()}
        stream = EventStream(self._connection, listener, self._table.at, self._clock)
        self._stream = stream
        try:
            while not stopping.is_set():
                for event in stream.wait(self._idle_s(), wake):
                    self._take(event, opened_at)
                self._keep_up()
        finally:
            self._stream = None
            stream.close()

    def report_rest(self, most_s: float) -> None:
        """Report what was refused and no report has said yet; for any thread.

        Args:
            most_s: seconds for all of it.

        Raises:
            Unreachable: if the collector could not be told.
        """
        ends_at = self._clock.monotonic() + most_s
        if not self._asking.acquire(timeout=max(0.0, most_s)):
            return
        try:
            self._reports.send_rest(lambda: ends_at - self._clock.monotonic())
        finally:
            self._asking.release()

    def leave_to_parent(self) -> None:
        """In a child process: let go of the connections, which go on being the parent's."""
        if self._stream is not None:
            self._stream.leave_to_parent()
        self._connection.leave_to_parent()

    def _idle_s(self) -> float:
        """Seconds until something is due besides the stream."""
        renew_at = self._renewed_at + self._table.renew_every_s
        return min(renew_at, self._reports.due_at) - self._clock.monotonic()

    def _keep_up(self) -> None:
        now = self._clock.monotonic()
        if now - self._renewed_at >= self._table.renew_every_s:
            self._renew()
        self._send_due(now)

    def _take(self, event: Event, opened_at: float) -> None:
        """Apply one event; only complete state confirms that the request was answered."""
        if event.name == "snapshot":
            self._hold(event.data, opened_at)
            self.failures = 0
        elif event.name == "delta":
            change = Delta.from_json(self._checks.read(decode(event.data), "delta"))
            if self._table.apply(change, self._anchor) is Applied.GAP:
                self._renew()
        elif event.name == "heartbeat" and event.id:
            self.failures = 0
            self._compare(StateVersion.parse(event.id), opened_at)
        self.heard.set()
        self._send_due(self._clock.monotonic())

    def _send_due(self, now: float) -> None:
        with self._asking:
            self._reports.send_due(now)

    def _compare(self, theirs: StateVersion, opened_at: float) -> None:
        """A heartbeat names the collector's version; when it is ahead, an event got lost."""
        held = self._table.at
        if held is None or theirs > held:
            self._renew()
        elif not self._checks.pinned:  # a heartbeat is not signed
            self._table.renewed(theirs, opened_at)

    def _hold(self, body: str | bytes, sent_at: float) -> None:
        """Apply a snapshot; leases count from when it was asked for, unless it is a recording."""
        state = Snapshot.from_json(self._checks.read(decode(body), "snapshot"))
        if self._checks.fresh:
            self._anchor = max(self._anchor, sent_at)
        self._table.apply(state, self._anchor)

    def _renew(self) -> None:
        sent_at = self._clock.monotonic()
        held = self._table.at
        # An answer of no content can't be signed: with a pinned key, the state is sent anew.
        known = {"if-none-match": held.etag} if held and not self._checks.pinned else {}
        with self._asking:
            answer = self._connection.request("GET", BREAKERS_PATH, headers=known)
        self._renewed_at = sent_at
        if answer.status == NOT_MODIFIED and held is not None and not self._checks.pinned:
            self._table.renewed(held, sent_at)
            self._anchor = max(self._anchor, sent_at)
        elif answer.ok:
            self._hold(answer.body, sent_at)
