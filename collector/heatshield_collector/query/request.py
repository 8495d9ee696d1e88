"""The linked request: rows of one trace become what a person can read. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from heatshield_collector.link.identity import RANK_ENTRY, RANK_OTHER, RANK_SERVER
from heatshield_collector.link.tree import CLIENT, CONSUMER, INTERNAL, PRODUCER, SERVER
from heatshield_collector.model import attributes_of
from heatshield_collector.query.answers import (
    Cost,
    LinkedLog,
    LinkedRequest,
    LinkedSpan,
    SpanEvent,
)
from heatshield_collector.query.timing import self_times, skews
from heatshield_collector.query.tree import Place, is_orphan, parents_of, preorder
from heatshield_collector.store.protocol import Row

__all__ = ["link_request"]

KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES: Final = ("unset", "ok", "error")
ERROR: Final = 2

SEVERITIES: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
"""OTLP's severity numbers 1 to 24, four to a name."""

USER_FROM: Final = {RANK_ENTRY: "entry span", RANK_SERVER: "server span", RANK_OTHER: "span"}
"""Who named the user, by the link station's ranks."""


def link_request(
    trace_id: bytes,
    spans: Sequence[Row],
    logs: Sequence[Row],
    known_user: tuple[str | None, int | None] = (None, None),
) -> LinkedRequest:
    """Put the spans and logs of one request in place.

    Args:
        trace_id: of the request.
        spans: rows of ``Store.spans_of``, in any order; there is a span or a log.
        logs: rows of ``Store.logs_of``.
        known_user: ``Store.user_of``: whom the request was charged to. The spans are asked
            when it knows no user.
    """
    parents = parents_of(spans)
    shifts = skews(spans, parents, preorder(parents, key=lambda index: index))
    starts = [row["start_ns"] + shift for row, shift in zip(spans, shifts, strict=True)]
    order = preorder(
        parents,
        key=lambda index: (is_orphan(spans[index], parents[index]), starts[index], index),
    )
    user, rank = known_user if known_user[0] is not None else _named_user(spans, parents)
    linked = _linked_spans(spans, parents, order, shifts, user)
    noted = _linked_logs(logs, spans, shifts)
    start_ns, end_ns = _extent(linked, noted)
    return LinkedRequest(
        trace_id=trace_id.hex(),
        user=user,
        user_from=None if rank is None else USER_FROM.get(rank),
        start_ns=start_ns,
        duration_ms=(end_ns - start_ns) / 1e6,
        services=_services(linked, noted),
        cost=_sum(span.cost for span in linked),
        spans=linked,
        logs=noted,
    )


def _services(spans: Sequence[LinkedSpan], logs: Sequence[LinkedLog]) -> list[str]:
    names = [span.service for span in spans] + [log.service for log in logs]
    return list(dict.fromkeys(names))


def _named_user(spans: Sequence[Row], parents: Sequence[int]) -> tuple[str | None, int | None]:
    """Who the spans say it is, by the link station's precedence; the earliest of equals."""
    named = [
        (_rank(row, parent), row["start_ns"], row["user"])
        for row, parent in zip(spans, parents, strict=True)
        if row["user"] is not None
    ]
    rank, _, user = min(named, default=(None, 0, None))
    return user, rank


def _rank(row: Row, parent: int) -> int:
    if parent < 0 and not row["parent_span_id"]:
        return RANK_ENTRY
    return RANK_SERVER if row["kind"] == SERVER else RANK_OTHER


def _linked_spans(
    rows: Sequence[Row],
    parents: Sequence[int],
    order: Sequence[Place],
    shifts: Sequence[int],
    request_user: str | None,
) -> list[LinkedSpan]:
    """The spans in tree order; users and calls come down from parent to child."""
    starts = [row["start_ns"] + shift for row, shift in zip(rows, shifts, strict=True)]
    own_ns = self_times(starts, [row["duration_ns"] for row in rows], parents)
    linked: dict[int, LinkedSpan] = {}
    for index, depth in order:
        row = rows[index]
        above = linked.get(parents[index])
        linked[index] = LinkedSpan(
            span_id=row["span_id"].hex(),
            parent_span_id=row["parent_span_id"].hex() if row["parent_span_id"] else None,
            depth=depth,
            orphan=is_orphan(row, parents[index]),
            service=row["service"],
            instance=row["instance"],
            name=row["name"],
            kind=_name(KINDS, row["kind"]),
            start_ns=starts[index],
            skew_ns=shifts[index],
            duration_ns=row["duration_ns"],
            self_ns=own_ns[index],
            status=_name(STATUSES, row["status"]),
            status_message=row["status_message"] or "",
            user=row["user"] or (above.user if above else request_user),
            call=_call(row, above),
            rejected=row["rejected"],
            cost=_cost(row, own_ns[index]),
            attributes=attributes_of(row["attribute_keys"], row["attribute_values"]),
            events=_events(row["events"], shifts[index]),
        )
    return list(linked.values())


def _call(row: Row, above: LinkedSpan | None) -> str | None:
    if row["call"] is not None:
        return str(row["call"])
    if row["kind"] in (SERVER, CONSUMER):
        return str(row["name"])
    same_process = above and (above.service, above.instance) == (row["service"], row["instance"])
    return above.call if above and same_process else None


def _cost(row: Row, self_ns: int) -> Cost:
    # As the link station charges: who calls an instrumented service waits while that one is
    # busy; a backend (Redis, a database) sends no spans, so its client's stands for it.
    elsewhere = row["kind"] in (CLIENT, PRODUCER) and row["backend"] is None
    guard = row["kind"] <= INTERNAL and row["call"] == row["name"]
    opens_call = guard or row["kind"] in (SERVER, CONSUMER)
    return Cost(
        busy_s=0.0 if elsewhere else self_ns / 1e9,
        calls=int(opens_call),
        errors=int(opens_call and row["status"] == ERROR and row["rejected"] is None),
        elements=row["elements"] or 0,
        rows=row["rows"] or 0,
        bytes=row["bytes"] or 0,
    )


def _sum(costs: Iterable[Cost]) -> Cost:
    rows = list(costs)
    return Cost(
        busy_s=sum(cost.busy_s for cost in rows),
        calls=sum(cost.calls for cost in rows),
        errors=sum(cost.errors for cost in rows),
        elements=sum(cost.elements for cost in rows),
        rows=sum(cost.rows for cost in rows),
        bytes=sum(cost.bytes for cost in rows),
    )


def _events(text: str | None, shift_ns: int) -> list[SpanEvent]:
    events: list[Mapping[str, Any]] = json.loads(text) if text else []
    return [
        SpanEvent(
            int(event.get("time_ns", 0)) + shift_ns,
            str(event.get("name", "")),
            event.get("attributes") or {},
        )
        for event in events
    ]


def _linked_logs(
    logs: Sequence[Row], spans: Sequence[Row], shifts: Sequence[int]
) -> list[LinkedLog]:
    """The logs by time, on the clock of the span they belong to."""
    shift_of = {
        (row["service"], row["span_id"]): shift for row, shift in zip(spans, shifts, strict=True)
    }
    linked = [
        LinkedLog(
            time_ns=row["time_ns"] + shift_of.get((row["service"], row["span_id"]), 0),
            severity=row["severity_text"] or _severity(row["severity"]),
            body=row["body"] or "",
            service=row["service"],
            span_id=row["span_id"].hex() if row["span_id"] else None,
            user=row["user"],
            attributes=attributes_of(row["attribute_keys"], row["attribute_values"]),
        )
        for row in logs
    ]
    return sorted(linked, key=lambda log: log.time_ns)


def _severity(number: int | None) -> str:
    return SEVERITIES[min((number - 1) // 4, 5)] if number and number > 0 else ""


def _name(names: Sequence[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)


def _extent(spans: Sequence[LinkedSpan], logs: Sequence[LinkedLog]) -> tuple[int, int]:
    """First start and last end; of the logs when no span is here."""
    if spans:
        return (
            min(span.start_ns for span in spans),
            max(span.start_ns + span.duration_ns for span in spans),
        )
    return (
        min((log.time_ns for log in logs), default=0),
        max((log.time_ns for log in logs), default=0),
    )
