"""What the HTTP face needs of the rest of the collector, as protocols.

The composition root hands a :class:`Parts` to :func:`heatshield_collector.api.app.create_app`. The
dataclasses here are answers of the API as they stand: FastAPI writes them out and documents them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field
from starlette.routing import BaseRoute

from heatshield.clock import Clock
from heatshield.contract import (
    MAX_LEASE_MS,
    BreakerEntry,
    BreakerMode,
    Delta,
    PlatformMode,
    Report,
    Snapshot,
    StateVersion,
)
from heatshield_collector.events import EventHub
from heatshield_collector.store.protocol import Store

__all__ = [
    "Alert",
    "BreakerService",
    "CallLoad",
    "CostName",
    "GroupName",
    "HotUsersView",
    "LoadReader",
    "Parts",
    "TripRefusedError",
    "TripRequest",
    "UserLoad",
    "WindowName",
]

CostName = Literal["busy", "calls", "elements"]
WindowName = Literal["1s", "10s", "1m", "5m"]
GroupName = Literal["call", "user"]
UserClass = Literal["hot", "heavy"]
AlertState = Literal["inactive", "pending", "firing", "resolved"]


@dataclass(frozen=True, slots=True)
class UserLoad:
    """The load of one user on one call: cost per second, with the bounds of the sketch.

    Attributes:
        service: where; empty, as ``call`` is, in an answer over all calls.
        load: the estimate; ``lower`` and ``upper`` hold the true value.
        share: of the service's capacity (busy) or of the service's whole load (else), 0 to 1.
        baseline: the user's own 5-minute load; null while it is unknown.
        klass: what the detector says of him, in JSON ``class``.
        breaker: id of the entry that cuts him here.
        trace_id: his costliest recent request here, hexadecimal.
    """

    user: str
    service: str
    call: str
    load: float
    lower: float
    upper: float
    share: float
    baseline: float | None
    klass: Annotated[UserClass | None, Field(serialization_alias="class")]
    breaker: str | None
    trace_id: str | None


@dataclass(frozen=True, slots=True)
class HotUsersView:
    """Users by load, the highest first. ``capacity`` is in workers, over all live instances."""

    cost: CostName
    window: WindowName
    at_ns: int
    capacity: float
    users: Sequence[UserLoad]


@dataclass(frozen=True, slots=True)
class CallLoad:
    """The load on one call: calls, errors and elements per second, busy seconds per second."""

    service: str
    call: str
    rate: float
    errors_per_s: float
    busy: float
    elements: float
    p50_ms: float | None
    p99_ms: float | None


class LoadReader(Protocol):
    """Answers from the sketches, at once. Called from worker threads."""

    def hot_users(
        self, cost: CostName, window: WindowName, limit: int, by: GroupName
    ) -> HotUsersView:
        """The ``limit`` users with the highest load, on a call each or over all their calls."""
        ...

    def calls(self, window: WindowName, limit: int) -> Sequence[CallLoad]:
        """The ``limit`` calls with the highest busy load."""
        ...


@dataclass(frozen=True, slots=True)
class Alert:
    """One instance of a rule. Times are nanoseconds since the Unix epoch."""

    name: str
    state: AlertState
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    value: float
    active_at_ns: int | None = None
    fired_at_ns: int | None = None
    resolved_at_ns: int | None = None


def _text(about: str) -> Any:
    return Field(min_length=1, max_length=1024, description=about)


@dataclass(frozen=True, slots=True)
class TripRequest:
    """A person's wish to cut one user off one call.

    Attributes:
        lease_ms: when to end it; else it is held for the ceiling of 15 minutes.
        issuer: ``human:<name>``; nobody can pose as a rule here.
    """

    user: Annotated[str, _text("the end user, as services name them")]
    service: Annotated[str, _text("the service of the call")]
    call: Annotated[str, _text("the call: a server span's or a guard's name")]
    mode: BreakerMode = BreakerMode.REJECT
    lease_ms: Annotated[int | None, Field(gt=0, le=MAX_LEASE_MS)] = None
    rate_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    reason: Annotated[str, Field(max_length=4096)] = ""
    issuer: Annotated[str, Field(pattern=r"^human:\S.*$", max_length=256)] = "human:api"


class TripRefusedError(Exception):
    """The policy grants no such entry (a cap, a wildcard, a hold-down); the text says why."""


class BreakerService(Protocol):
    """The breaker state and its one writer. In memory and quick; called from any thread."""

    def at(self) -> StateVersion:
        """The version the state is at."""
        ...

    def snapshot(self) -> Snapshot:
        """The whole state."""
        ...

    def delta_since(self, base: StateVersion) -> Delta | None:
        """The change from ``base`` to now; ``None`` if it is no version remembered here."""
        ...

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called, from any thread, after each change of the version.

        :class:`heatshield_collector.events.Signal` is one way to have this.

        Returns:
            What ends the subscription.
        """
        ...

    def trip(self, request: TripRequest) -> BreakerEntry:
        """Grant an entry, or renew the one that has its key.

        Raises:
            TripRefusedError: when the policy does not allow it.
        """
        ...

    def clear(self, entry_id: str, by: str) -> BreakerEntry | None:
        """Take an entry away for the person ``by``; ``None`` if there is no such entry."""
        ...

    def report(self, report: Report) -> None:
        """Take in what a client enforces and refused; it also says that the client lives."""
        ...

    def attend(self, service: str, instance: str, workers: int) -> None:
        """An instance is connected; called at its start of a stream and at each heartbeat."""
        ...

    def mode(self) -> PlatformMode:
        """What the platform does with its entries."""
        ...

    def set_mode(self, mode: PlatformMode, by: str) -> None:
        """Change it for the person ``by``. Setting the mode it has changes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the HTTP face stands on.

    Attributes:
        store: asked from worker threads.
        loads: likewise.
        alerts: every alert that is not inactive, and those lately resolved.
        breakers: the breaker state.
        events: the hub of ``/api/events``; closing it ends every stream.
        ready: what is not ready yet, one sentence each; empty when everything is.
        metrics: the ``Accept`` header to (body, content type) of ``/metrics``.
        clock: for "since".
        admin_token: asked of whoever changes breakers or the mode; empty: only from this machine.
        intake: routes that take in telemetry, mounted as they are.
    """

    store: Store
    loads: LoadReader
    alerts: Callable[[], Sequence[Alert]]
    breakers: BreakerService
    events: EventHub
    ready: Callable[[], Sequence[str]]
    metrics: Callable[[str], tuple[bytes, str]]
    clock: Clock
    admin_token: str = ""
    intake: Sequence[BaseRoute] = field(default=())
