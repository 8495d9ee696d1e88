"""The list of requests in the embedded store: finds a page of them, newest first, and sums it up.

What is asked for is looked for in slices of time, from the newest on, until the page is full: parts
of requests lie in the file by when they came, so a slice costs what is in it, however much is
stored. Each slice goes further back than the one before, so a rare user's page takes few of them.
"""

from collections.abc import Sequence
from typing import Any, Final

from heatshield_collector.store.duckdb import attributes, retention
from heatshield_collector.store.duckdb.database import Database
from heatshield_collector.store.protocol import RequestQuery, Row

__all__ = ["find_requests"]

INT64_MAX: Final = 2**63 - 1

FIRST_SLICE_NS: Final = 60 * 10**9
"""How far back the first slice reaches."""

SLICE_GROWS: Final = 8
"""How many times as far the next one reaches: a year takes eight slices."""

_PARTS: Final = "start_ns <= $parts_until AND end_ns >= $parts_since"
"""Parts that are under way in a range of time, not those that begin in it: the part of a root came
when it ended, and says when the request began."""

_INTERNAL: Final = ("end_ns", "user_rank", "received_ns", "last_received_ns")
"""Sums over parts that are not for readers."""


def find_requests(database: Database, query: RequestQuery) -> Sequence[Row]:
    """Summaries of requests, newest first; see ``TelemetryStore.requests``."""
    ((newest,),) = database.select(
        "SELECT max(start_ns) FROM request_parts WHERE start_ns BETWEEN $since AND $until",
        {"since": query.since_ns, "until": query.until_ns},
    )
    found: list[tuple[bytes, int, int]] = []
    until_ns, width_ns = newest, FIRST_SLICE_NS
    while until_ns is not None and until_ns >= query.since_ns and len(found) < query.limit:
        since_ns = max(query.since_ns, until_ns - width_ns)
        found += _slice(database, query, since_ns, until_ns, query.limit - len(found))
        until_ns, width_ns = since_ns - 1, width_ns * SLICE_GROWS
    return _summed(database, found)


def _slice(
    database: Database, query: RequestQuery, since_ns: int, until_ns: int, limit: int
) -> list[tuple[Any, ...]]:
    """Requests that began in a range of time: (trace id, beginning, end), newest first.

    It finds which ones to show by the least that this takes: columns that no condition needs are
    not read, and only parts of requests that have a part with the user or service are added up.
    """
    where, parts, values = _conditions(query)
    user = f', {retention.USER} AS "user"' if query.user is not None else ""
    root = f", {retention.ROOT}.service AS root" if query.leave_out is not None else ""
    named = (
        f"AND trace_id IN (SELECT trace_id FROM request_parts WHERE {_PARTS} AND {parts})"  # noqa: S608 - this file's own text
        if parts
        else ""
    )
    return database.select(
        f"""
        SELECT trace_id, start_ns, end_ns FROM (
            SELECT trace_id, min(start_ns) AS start_ns, max(end_ns) AS end_ns,
                   sum(errors) AS errors{user}{root}
            FROM request_parts WHERE {_PARTS} {named}
            GROUP BY trace_id
        )
        WHERE {where} ORDER BY start_ns DESC, trace_id LIMIT $limit
        """,  # noqa: S608 - composed of the store's own texts, every value is bound
        {"since": since_ns, "until": until_ns, "limit": limit, **_reach(since_ns, until_ns)}
        | values,
    )


def _summed(database: Database, found: Sequence[tuple[bytes, int, int]]) -> list[Row]:
    """What all parts of these requests say together, newest first."""
    if not found:
        return []
    reach = _reach(min(start for _, start, _ in found), max(end for _, _, end in found))
    rows = database.rows(
        f"""
        SELECT trace_id, max(end_ns) - min(start_ns) AS duration_ns, {retention.SUMMED}
        FROM request_parts WHERE {_PARTS} AND trace_id IN (SELECT unnest($traces))
        GROUP BY trace_id ORDER BY start_ns DESC, trace_id
        """,  # noqa: S608 - composed of the store's own texts, every value is bound
        {"traces": [trace for trace, _, _ in found], **reach},
    )
    return [
        {name: value for name, value in row.items() if name not in _INTERNAL}
        | {"services": row["services"] or []}
        for row in rows
    ]


def _reach(since_ns: int, until_ns: int) -> dict[str, int]:
    """Where parts of requests that are under way in a range of time are looked for."""
    return {
        "parts_since": since_ns - retention.PARTS_APART_NS,
        "parts_until": min(until_ns + retention.PARTS_APART_NS, INT64_MAX),
    }


def _conditions(query: RequestQuery) -> tuple[str, str, dict[str, Any]]:
    """What requests fulfil, what one of their parts does, and the values bound in both."""
    conditions = ["start_ns BETWEEN $since AND $until", "end_ns - start_ns >= $min_duration"]
    parts: list[str] = []
    values: dict[str, Any] = {"min_duration": query.min_duration_ns}
    if query.max_duration_ns is not None:
        conditions.append("end_ns - start_ns <= $max_duration")
        values["max_duration"] = query.max_duration_ns
    if query.user is not None:
        # Another part may still name another user, of lower rank.
        parts.append('"user" = $user')
        conditions.append('"user" = $user')
        values["user"] = query.user
    if query.errors is not None:
        conditions.append("errors > 0" if query.errors else "errors = 0")
    if query.leave_out is not None:
        conditions.append("root IS DISTINCT FROM $leave_out")
        values["leave_out"] = query.leave_out
    spans, wanted = attributes.condition(query.attributes)
    values |= wanted
    if query.service is not None:
        values["service"] = query.service
        if not parts:
            parts.append("list_contains(services, $service)")
        else:
            conditions.append(
                "trace_id IN (SELECT trace_id FROM request_parts "  # noqa: S608 - this file's own text
                f"WHERE {_PARTS} AND list_contains(services, $service))"
            )
    if query.call is not None:
        spans.append("name = $call")
        values["call"] = query.call
    if spans:
        if query.service is not None:
            spans.append("service = $service")
        conditions.append(
            "trace_id IN (SELECT trace_id FROM spans "  # noqa: S608 - every value is bound
            f"WHERE start_ns BETWEEN $since AND $parts_until AND {' AND '.join(spans)})"
        )
    return " AND ".join(conditions), " AND ".join(parts), values
