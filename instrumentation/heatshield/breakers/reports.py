"""What a client tells the collector: what it refused, what it holds, that it is alive.

A change of the state reaches all clients of a fleet within the same milliseconds, and each says
that it has applied it. Thousands that said so at once would keep the collector from all else, so
each waits for its place in the time that the collector allows (``spread_ms``). What it enforces
does not wait, and what it refused is reported when it would have been without the change.
"""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Final

from heatshield.breakers.lease_table import BreakerTable
from heatshield.clock import Clock
from heatshield.contract import (
    RENEW_S,
    Offered,
    Rejections,
    Report,
    ReportAnswer,
    StateVersion,
    decode,
)
from heatshield.export.connection import Connection
from heatshield.names import BREAKER_REPORT_PATH

__all__ = ["Reports", "place_of"]

REPORT_S: Final = 1.0
"""Seconds between reports while something is refused: demand decides what may close again."""

DEAL_S: Final = 0.25
"""Seconds between reports while something here has a budget: its parts are dealt by what came."""

ALIVE_S: Final = RENEW_S
"""Seconds between reports while nothing happens: they carry this instance's capacity."""

_REFUSED_FOR_GOOD: Final = frozenset({400, 413, 422})
"""Statuses of a collector that will never take this report."""


class Reports:
    """Sends a report when one is due; used by one thread.

    Args:
        connection: to the collector.
        table: counts what was refused.
        service: of this process.
        instance: names this process.
        workers: its capacity.
        clock: whose monotonic time shares are counted from.
    """

    def __init__(
        self,
        connection: Connection,
        table: BreakerTable,
        *,
        service: str,
        instance: Callable[[], str],
        workers: int,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._connection = connection
        self._table = table
        self._service = service
        self._instance = instance
        self._workers = workers
        self._checked_at = self._sent_at = float("-inf")
        self._news_at = math.inf  # when it is to say that it applied another version
        self._spread_s = 0.0
        self._applied: StateVersion | None = None
        self._offered_at = float("-inf")
        self._enforcing = True
        self._turn = 0  # of the reports with offers
        self._rows: tuple[Rejections, ...] = ()  # not known to have arrived
        self._number = 0  # of these rows

    @property
    def due_at(self) -> float:
        """The monotonic second of the next look at the table."""
        look_at = self._checked_at + (DEAL_S if self._table.deals else REPORT_S)
        return min(look_at, self._news_at)

    def send_due(self, now: float) -> None:
        """Send a report if one is due.

        Refusals whose arrival was not confirmed are sent again as they were, under their number:
        whether the collector never got them or only its answer got lost, they count once. What
        was refused since waits for the report after that.

        Raises:
            Unreachable: if the collector could not be told.
        """
        applied = self._table.at
        if applied != self._applied and self._news_at == math.inf:
            self._news_at = now + self._spread_s * place_of(self._instance())
        if now < self.due_at:
            return
        self._checked_at = now
        if not self._rows:
            self._rows = self._table.drain_rejections()
            self._number += bool(self._rows)
        offered = self._offered(now)
        enforcing = self._table.enforce
        is_news = now >= self._news_at or enforcing != self._enforcing
        if self._rows or offered or is_news or now - self._sent_at >= ALIVE_S:
            self._applied, self._enforcing, self._sent_at = applied, enforcing, now
            self._news_at = math.inf
            self._send(applied, offered)

    def _offered(self, now: float) -> tuple[Offered, ...]:
        """What came of the keys that have a budget, since this was asked last."""
        if not self._table.deals:
            self._offered_at = now
            return ()
        seconds = min(max(now - self._offered_at, DEAL_S), ALIVE_S)
        self._offered_at = now
        return self._table.offered(seconds)

    def send_rest(self, left_s: Callable[[], float]) -> None:
        """Send what no report has said yet, however lately the last one was: the process ends.

        Args:
            left_s: seconds that are left for it.

        Raises:
            Unreachable: if the collector could not be told.
        """
        for _ in range(2):  # what was on its way, and what was refused since
            if not self._rows:
                self._rows = self._table.drain_rejections()
                self._number += bool(self._rows)
            most_s = left_s()
            if self._rows and most_s > 0:
                self._send(self._table.at, (), most_s)

    def _send(
        self,
        applied: StateVersion | None,
        offered: tuple[Offered, ...],
        most_s: float | None = None,
    ) -> None:
        self._turn += bool(offered)
        report = Report(
            self._service,
            self._instance(),
            self._workers,
            applied,
            self._rows,
            self._number,
            offered,
            self._enforcing,
            self._turn,
        )
        answer = self._connection.request(
            "POST",
            BREAKER_REPORT_PATH,
            body=json.dumps(report.to_json()).encode(),
            headers={"content-type": "application/json"},
            timeout_s=most_s,
        )
        if answer.ok or answer.status in _REFUSED_FOR_GOOD:
            self._rows = ()
        if answer.ok and (offered or answer.body):  # without a body it says nothing
            said = ReportAnswer.from_json(decode(answer.body))
            self._spread_s = said.spread_ms / 1_000
            if offered:
                self._table.deal(said.shares, self._sent_at, self._clock.monotonic())


def place_of(instance: str) -> float:
    """The place of an instance in what a fleet spreads, 0 to 1; the same each time."""
    digest = hashlib.blake2b(instance.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
