"""Types of the collector's JSON answers, limited to the fields that the commands read."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict

__all__ = [
    "Alert",
    "Alerts",
    "Audit",
    "AuditRecord",
    "BreakerList",
    "Cost",
    "Entry",
    "Finding",
    "Findings",
    "HotUser",
    "HotUsers",
    "Known",
    "KnownName",
    "LatestSample",
    "LinkedRequest",
    "Log",
    "MetricExemplar",
    "Metrics",
    "Mode",
    "NotCut",
    "RequestSummary",
    "Requests",
    "Span",
    "Victims",
    "WorstMoment",
]


HotUser = TypedDict(
    "HotUser",
    {
        "user": str | None,
        "service": str,
        "call": str,
        "load": float,
        "lower": float,
        "upper": float,
        "share": float,
        "baseline": float | None,
        "class": str | None,
        "breaker": str | None,
        "trace_id": str | None,
        "done": NotRequired[str],
    },
)
"""The load of one user on one call, with the bounds of the sketch that counted it. Defined by a
function call because ``class`` is a keyword."""


class HotUsers(TypedDict):
    """``GET /api/users/hot``."""

    cost: str
    window: str
    at_ns: int
    capacity: float
    users: list[HotUser]


class Cost(TypedDict, total=False):
    """A cost vector: a span's own cost, or the sum over a request."""

    busy_s: float
    calls: int
    errors: int
    elements: int
    rows: int
    bytes: int


class Span(TypedDict):
    """One span of a linked request."""

    span_id: str
    depth: int
    service: str
    name: str
    kind: str
    start_ns: int
    duration_ns: int
    self_ns: int
    status: str
    status_message: str
    user: str | None
    call: str | None
    rejected: str | None
    cost: Cost
    attributes: Mapping[str, object]


class Log(TypedDict):
    """One log record of a linked request."""

    time_ns: int
    severity: str
    body: str
    service: str
    span_id: str | None
    attributes: Mapping[str, object]


class LinkedRequest(TypedDict):
    """``GET /api/requests/{trace_id}``; the spans are in tree order."""

    trace_id: str
    user: str | None
    user_from: str | None
    start_ns: int
    duration_ms: float
    services: list[str]
    cost: Cost
    spans: list[Span]
    logs: list[Log]


class MetricExemplar(TypedDict):
    """The request in which a value was observed."""

    trace_id: str
    value: float | str | None
    time_ns: int


class LatestSample(TypedDict):
    """The newest sample of one series."""

    name: str
    kind: str
    unit: str
    description: str
    service: str
    instance: str
    attributes: Mapping[str, object]
    time_ns: int
    value: float | str | None
    count: int | None
    exemplars: list[MetricExemplar]


class Metrics(TypedDict):
    """``GET /api/metrics``."""

    metrics: list[LatestSample]


class Entry(TypedDict, total=False):
    """A breaker entry: :class:`heatshield.contract.BreakerEntry` as JSON."""

    id: str
    user: str
    service: str
    call: str
    mode: str
    lease_ms: int
    issuer: str
    reason: str
    rate_per_s: float
    scope: str
    budget: float
    prober: str
    probe_per_s: float
    seq: int
    left_s: float


class KnownName(TypedDict):
    """Whether anything has reported a name; if not, the known one most like it."""

    known: bool
    near: str | None


class Known(TypedDict):
    """``GET /api/known``."""

    user: KnownName
    service: KnownName
    call: KnownName


class AuditRecord(TypedDict):
    """One change of the breaker state, or one refusal."""

    at_ns: int
    change: str
    entry_id: str
    issuer: str
    reason: str
    entry: Entry


class Audit(TypedDict):
    """``GET /api/audit``."""

    changes: list[AuditRecord]


class Alert(TypedDict):
    """One instance of a rule."""

    name: str
    state: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    value: float | str | None
    active_at_ns: int | None
    fired_at_ns: int | None
    resolved_at_ns: int | None


class Alerts(TypedDict):
    """``GET /api/alerts``."""

    alerts: list[Alert]


class Victims(TypedDict):
    """Who suffers for a finding; durations in milliseconds, shares of errors 0 to 1."""

    requests: int
    harmed: int
    users: int
    worst_users: list[str]
    calls: list[str]
    callers: list[str]
    usual_p95_ms: float
    p95_ms: float
    usual_errors: float
    errors: float


WorstMoment = TypedDict(
    "WorstMoment",
    {
        "at_ns": int,
        "class": str,
        "action": str,
        "load": float,
        "reason": str,
        "figures": dict[str, float],
        "victims": Victims | None,
    },
)
"""A finding as it was at its gravest."""


Finding = TypedDict(
    "Finding",
    {
        "id": str,
        "class": str,
        "action": str,
        "user": str | None,
        "service": str,
        "call": str,
        "resource": str,
        "cost": str,
        "window": str,
        "load": float,
        "baseline": float,
        "reason": str,
        "open": bool,
        "at_ns": int,
        "opened_ns": int,
        "updated_ns": int,
        "closed_ns": int | None,
        "trace_ids": list[str],
        "figures": dict[str, float],
        "thresholds": dict[str, float],
        "victims": Victims | None,
        "worst": WorstMoment | None,
    },
)
"""What a detector said of a user on a call, or of an overloaded resource."""


class Findings(TypedDict):
    """``GET /api/findings``."""

    findings: list[Finding]


class RequestSummary(TypedDict):
    """One row of the list of requests."""

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
    services: list[str]


class Requests(TypedDict):
    """``GET /api/requests``."""

    requests: list[RequestSummary]


class NotCut(TypedDict):
    """A user whom a firing alert asks to cut and who is not, and why."""

    user: str
    service: str
    call: str
    done: str


class Mode(TypedDict):
    """``GET /api/mode``."""

    mode: str
    cold_start_left_s: NotRequired[float]


class BreakerList(TypedDict):
    """``GET /v1/breakers``: :class:`heatshield.contract.Snapshot` as JSON."""

    epoch: int
    version: int
    mode: str
    entries: list[Entry]
    not_cut: NotRequired[list[NotCut]]
    not_enforcing: NotRequired[int]
