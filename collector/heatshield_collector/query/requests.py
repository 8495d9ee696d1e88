"""Which requests there were: search parameters to a store's query, its rows to the answer."""

from dataclasses import dataclass
from typing import Final

from heatshield.names import COLLECTOR_SERVICE
from heatshield_collector.query.answers import RequestSummary
from heatshield_collector.store.protocol import RequestQuery, Row

__all__ = ["AHEAD_NS", "Search", "query_of", "summary"]

AHEAD_NS: Final = 60 * 10**9
"""How far ahead of ours a service's clock may be, for its newest requests to be found."""


@dataclass(frozen=True, slots=True)
class Search:
    """What ``/api/requests`` can be asked. ``None`` means any.

    Attributes:
        errors: only requests with (or without) a span in error.
        since_s: how far back they may have started, seconds.
        own: the collector's own requests, too. One that is asked for by its service is shown in
            any case.
    """

    user: str | None = None
    service: str | None = None
    call: str | None = None
    errors: bool | None = None
    min_duration_ms: float = 0.0
    since_s: float = 3600.0
    limit: int = 50
    own: bool = False


def query_of(search: Search, now_ns: int) -> RequestQuery:
    """What to ask the store.

    Args:
        search: the parameters; an empty text counts as any.
        now_ns: nanoseconds since the Unix epoch.
    """
    return RequestQuery(
        since_ns=max(0, now_ns - round(search.since_s * 1e9)),
        until_ns=now_ns + AHEAD_NS,
        user=search.user or None,
        service=search.service or None,
        call=search.call or None,
        errors=search.errors,
        leave_out=None if search.own or search.service == COLLECTOR_SERVICE else COLLECTOR_SERVICE,
        min_duration_ns=round(search.min_duration_ms * 1e6),
        limit=search.limit,
    )


def summary(row: Row) -> RequestSummary:
    """One row of ``Store.requests``."""
    return RequestSummary(
        trace_id=row["trace_id"].hex(),
        user=row["user"],
        service=row["service"],
        call=row["call"],
        start_ns=row["start_ns"],
        duration_ms=row["duration_ns"] / 1e6,
        spans=row["spans"],
        errors=row["errors"],
        busy_s=(row["busy_ns"] or 0) / 1e9,
        elements=row["elements"] or 0,
        services=row["services"],
    )
