"""What the HTTP API answers, as it stands: FastAPI writes these out and documents them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from heatshield.contract import BreakerEntry, PlatformMode
from heatshield_collector.ports import CallLoad, WindowName
from heatshield_collector.query.answers import RequestSummary
from heatshield_collector.query.metrics import LatestSample

__all__ = [
    "Alert",
    "Alerts",
    "Audit",
    "AuditRecord",
    "BreakerState",
    "Calls",
    "Cleared",
    "Error",
    "Finding",
    "Findings",
    "Health",
    "Metrics",
    "Mode",
    "ModeChange",
    "Readiness",
    "Reported",
    "Requests",
]

AlertState = Literal["inactive", "pending", "firing", "resolved"]


class Error(BaseModel):
    """What went wrong, for people."""

    error: str


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that were found, newest first."""

    requests: Sequence[RequestSummary]


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls by busy load, the highest first."""

    window: WindowName
    calls: Sequence[CallLoad]


@dataclass(frozen=True, slots=True)
class Victims:
    """Who suffers, and how: others than the culprit on the contended resource. Durations are in
    milliseconds, shares of errors 0 to 1, ``usual_`` what was so before.
    """

    requests: int = 0
    harmed: int = 0
    users: int = 0
    worst_users: Sequence[str] = ()
    calls: Sequence[str] = ()
    callers: Sequence[str] = ()
    usual_p95_ms: float = 0.0
    p95_ms: float = 0.0
    usual_errors: float = 0.0
    errors: float = 0.0


@dataclass(frozen=True, slots=True)
class WorstMoment:
    """A finding as it was at its gravest."""

    at_ns: int
    klass: Annotated[str, Field(serialization_alias="class")]
    action: str
    load: float
    reason: str
    figures: Mapping[str, float]
    victims: Victims | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``load`` is the lower bound of the cost per second that was seen, ``baseline``
    the upper bound of what is usual for the user; ``trace_ids`` are the worst request, a typical
    and the latest one, each once. ``updated_ns`` is when a detector said it last, ``at_ns`` when
    this was written down. A finding that is not ``open`` and has no ``closed_ns`` was open when
    its collector was killed.
    """

    id: str
    klass: Annotated[str, Field(serialization_alias="class")]
    action: str
    user: str | None
    service: str
    call: str
    resource: str
    cost: str
    window: str
    load: float
    baseline: float
    reason: str
    open: bool
    at_ns: int
    opened_ns: int
    updated_ns: int
    closed_ns: int | None
    trace_ids: Sequence[str]
    figures: Mapping[str, float]
    thresholds: Mapping[str, float]
    victims: Victims | None
    worst: WorstMoment | None


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings, those opened last first."""

    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class Alert:
    """One instance of a rule. Times are nanoseconds since the Unix epoch; ``done`` says what is
    done about the user of one that fires: cut, paced, not cut and why, or nothing.
    """

    name: str
    state: AlertState
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    value: float
    active_at_ns: int | None = None
    fired_at_ns: int | None = None
    resolved_at_ns: int | None = None
    done: str = ""


@dataclass(frozen=True, slots=True)
class Alerts:
    """Pending and firing alerts, and those that were resolved lately."""

    alerts: Sequence[Alert]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One change. ``version`` is the state's epoch.version after it; ``entry`` has the evidence."""

    at_ns: int
    change: str
    entry_id: str
    issuer: str
    reason: str
    version: str
    entry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Audit:
    """Changes, newest first."""

    changes: Sequence[AuditRecord]


@dataclass(frozen=True, slots=True)
class ListedEntry(BreakerEntry):
    """An entry; ``left_s`` are the seconds until it ends, unless its alert goes on firing or a
    person asks for it again. One that a rule made ends sooner if demand ends.
    """

    left_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NotCut:
    """A user whom a firing alert asks to cut and who is not, and why."""

    user: str
    service: str
    call: str
    done: str


@dataclass(frozen=True, slots=True)
class BreakerState:
    """The whole breaker state at one version, which is also its ETag."""

    epoch: int
    version: int
    mode: PlatformMode
    entries: Sequence[ListedEntry]
    not_cut: Sequence[NotCut] = ()
    not_enforcing: int = 0


@dataclass(frozen=True, slots=True)
class Cleared:
    """The entry that was taken away."""

    cleared: BreakerEntry


@dataclass(frozen=True, slots=True)
class Reported:
    """The version the state is at, so that a client knows whether it is behind.

    Attributes:
        at: the version.
        shares: by budget, the part of it (0 to 1) that the client may spend for three seconds.
        spread_ms: milliseconds over which all clients spread their reports of a new version.
    """

    at: str
    shares: dict[str, float]
    spread_ms: int


@dataclass(frozen=True, slots=True)
class Mode:
    """What the platform does with its entries; rules trip no breaker for another
    ``cold_start_left_s`` seconds.
    """

    mode: PlatformMode
    cold_start_left_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ModeChange:
    """The mode to switch to, and ``by``, the person who wants it."""

    mode: PlatformMode
    by: Annotated[str, Field(min_length=1, max_length=200)] = "api"


@dataclass(frozen=True, slots=True)
class Health:
    """The collector answers, so its event loop runs."""

    status: str = "ok"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether telemetry is taken in, and if not, why.

    Attributes:
        ready: whether it is.
        reasons: why not.
        notes: what limits protection though telemetry is taken in, such as a rule that fails.
    """

    ready: bool
    reasons: Sequence[str]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Metrics:
    """Series by name, service and attributes."""

    metrics: Sequence[LatestSample]
