"""What a client tells the collector: what it refused, what it holds, that it is alive."""

import json
from collections.abc import Callable
from typing import Final

from heatshield.breakers.lease_table import BreakerTable
from heatshield.contract import RENEW_S, Report, StateVersion
from heatshield.export.answer import Unreachable
from heatshield.export.connection import Connection
from heatshield.names import BREAKER_REPORT_PATH

__all__ = ["Reports"]

REPORT_S: Final = 1.0
"""Seconds between reports while something is refused: demand decides what may close again."""

ALIVE_S: Final = RENEW_S
"""Seconds between reports while nothing happens: they carry this instance's capacity."""


class Reports:
    """Sends a report when one is due; used by one thread.

    Args:
        connection: to the collector.
        table: counts what was refused.
        service: of this process.
        instance: names this process.
        workers: its capacity.
    """

    def __init__(
        self,
        connection: Connection,
        table: BreakerTable,
        *,
        service: str,
        instance: Callable[[], str],
        workers: int,
    ) -> None:
        self._connection = connection
        self._table = table
        self._service = service
        self._instance = instance
        self._workers = workers
        self._checked_at = self._sent_at = float("-inf")
        self._applied: StateVersion | None = None

    @property
    def due_at(self) -> float:
        """The monotonic second of the next look at the table."""
        return self._checked_at + REPORT_S

    def send_due(self, now: float) -> None:
        """Send a report if one is due; refusals that did not arrive are kept for the next.

        Raises:
            Unreachable: if the collector could not be told.
        """
        applied = self._table.at
        if applied == self._applied and now < self.due_at:
            return
        self._checked_at = now
        rows = self._table.drain_rejections()
        if rows or applied != self._applied or now - self._sent_at >= ALIVE_S:
            self._applied, self._sent_at = applied, now
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
