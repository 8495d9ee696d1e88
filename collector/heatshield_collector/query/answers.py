"""The shapes of ``/api/requests`` and ``/api/requests/{trace_id}``.

Ids are lower-case hexadecimal, times nanoseconds since the Unix epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Cost", "LinkedLog", "LinkedRequest", "LinkedSpan", "RequestSummary", "SpanEvent"]


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost vector.

    Attributes:
        busy_s: self time that is charged. A call to an instrumented service is charged there, not
            at its client.
    """

    busy_s: float = 0.0
    calls: int = 0
    errors: int = 0
    elements: int = 0
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened within a span."""

    time_ns: int
    name: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LinkedSpan:
    """One span in its place.

    Attributes:
        parent_span_id: as the span names it, also when that span is not here.
        depth: levels below the root level.
        orphan: its parent is not here (yet), so it stands at the root level.
        start_ns: on the clock of the request's root service, see ``skew_ns``.
        skew_ns: what was added to the start, because the service's clock is off. Display only.
        self_ns: duration less the union of its children's intervals.
        user: whom it ran for: as it says itself, else its nearest ancestor, else the request.
        call: the operation a breaker could have refused that it ran under.
        rejected: id of the breaker entry that refused it.
    """

    span_id: str
    parent_span_id: str | None
    depth: int
    orphan: bool
    service: str
    instance: str
    name: str
    kind: str
    start_ns: int
    skew_ns: int
    duration_ns: int
    self_ns: int
    status: str
    status_message: str
    user: str | None
    call: str | None
    rejected: str | None
    cost: Cost
    attributes: Mapping[str, Any]
    events: Sequence[SpanEvent]


@dataclass(frozen=True, slots=True)
class LinkedLog:
    """One log record of the request."""

    time_ns: int
    severity: str
    body: str
    service: str
    span_id: str | None
    user: str | None
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LinkedRequest:
    """Everything that shares one trace id, spans in tree order, logs by time.

    Attributes:
        user_from: who named the user: entry span, server span, or (another) span.
        services: in the order in which the request came to them.
    """

    trace_id: str
    user: str | None
    user_from: str | None
    start_ns: int
    duration_ms: float
    services: Sequence[str]
    cost: Cost
    spans: Sequence[LinkedSpan]
    logs: Sequence[LinkedLog]


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """One request in a list. ``service`` and ``call`` are of the root span, null until it came."""

    trace_id: str
    user: str | None
    service: str | None
    call: str | None
    start_ns: int
    duration_ms: float
    spans: int
    errors: int
    busy_s: float
    elements: int
    services: Sequence[str]
