"""The ports between the collector's core and its faces: protocols, and the values that cross them.

Faces (HTTP, gRPC, the command line) import this file and are handed a :class:`Ports` by the
composition root; the core implements the protocols and imports nothing of any face.
"""

# long: every port of the collector, a protocol each

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from heatshield.call_key import CallKey
from heatshield.clock import Clock
from heatshield.contract import (
    MAX_LEASE_MS,
    MAX_WAIT_MS,
    MAX_WAITING,
    WAIT_MS,
    WAITING,
    BreakerEntry,
    BreakerMode,
    Delta,
    EntryScope,
    PlatformMode,
    Report,
    ReportAnswer,
    Snapshot,
    StateVersion,
)
from heatshield_alerts.policy import NO_POLICY
from heatshield_alerts.rules import Alert
from heatshield_collector.events import EventHub
from heatshield_collector.store.protocol import Store

__all__ = [
    "AccessError",
    "Authenticator",
    "BreakerService",
    "CallLoad",
    "Caller",
    "CostName",
    "FindingClass",
    "ForbiddenError",
    "GroupName",
    "HotUsersView",
    "LoadReader",
    "PolicyView",
    "Ports",
    "Principal",
    "Scope",
    "Signs",
    "TripRefusedError",
    "TripRequest",
    "UnauthenticatedError",
    "UserClass",
    "UserLoad",
    "WindowName",
]

CostName = Literal["busy", "calls", "elements", "cpu", "backend", "wait"]
"""What a load counts: ``busy`` is ``cpu`` and ``backend`` together; ``wait`` is of services that
report charges."""

WindowName = Literal["1s", "10s", "1m", "5m"]
GroupName = Literal["call", "user"]
UserClass = Literal["harmful", "budget", "hot", "heavy"]
FindingClass = Literal["harmful", "budget", "hot", "heavy", "overload"]


@dataclass(frozen=True, slots=True)
class UserLoad:
    """The load of one user on one call: cost per second, with the bounds of the sketch.

    Attributes:
        user: null for the requests that name none; a user may bear any name, ``unknown`` too.
        service: of the call; empty, as ``call`` is, in an answer over all calls.
        load: the estimate; ``lower`` and ``upper`` hold the true value.
        share: of the service's capacity (busy) or of the service's whole load (else), 0 to 1.
        baseline: the user's own 5-minute load; null while it is unknown.
        klass: what detection says of the user, in JSON ``class``.
        breaker: id of the entry that refuses the user here.
        trace_id: the user's costliest recent request here, hexadecimal.
        done: what is done about the user here, for people: cut, paced, not cut and why.
    """

    user: str | None
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
    done: str = ""


@dataclass(frozen=True, slots=True)
class HotUsersView:
    """Users by load, the highest first. ``capacity`` is in workers, of all services."""

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
        self,
        cost: CostName,
        window: WindowName,
        limit: int,
        by: GroupName,
        *,
        own: bool = False,
    ) -> HotUsersView:
        """The ``limit`` users with the highest load, on a call each or over all their calls.

        Without ``own`` the calls and the capacity of the collector itself are left out; a user's
        load over all calls has them in any case.
        """
        ...

    def calls(self, window: WindowName, limit: int) -> Sequence[CallLoad]:
        """The ``limit`` calls with the highest busy load."""
        ...


_Text = Annotated[str, Field(min_length=1, max_length=8192)]
_Open = Annotated[str, Field(max_length=8192)]


@dataclass(frozen=True, slots=True)
class TripRequest:
    """A person's request to refuse one user one call, or to slow the user there.

    Attributes:
        user: empty for the scopes that are about all users.
        call: empty for the scope that is about all calls of a user to a service.
        lease_ms: how long the entry is held; without it, 15 minutes, the longest. Scopes that are
            about more than one user's calls need it.
        budget: busy seconds each second that all instances together let through, for ``pace``;
            without it, the user's fair share.
        issuer: ``human:<name>``; a caller can't pose as a rule here.
        force: trip it though the policy keeps rules from it.
    """

    user: Annotated[_Open, Field(description="the end user, as services name them")]
    service: Annotated[_Text, Field(description="the service of the call")]
    call: Annotated[_Open, Field(description="the call: a server span's or a guard's name")]
    mode: BreakerMode = BreakerMode.REJECT
    scope: EntryScope = EntryScope.USER_CALL
    budget: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    waiting: Annotated[int, Field(ge=0, le=MAX_WAITING)] = WAITING
    wait_ms: Annotated[int, Field(ge=0, le=MAX_WAIT_MS)] = WAIT_MS
    lease_ms: Annotated[int | None, Field(gt=0, le=MAX_LEASE_MS)] = None
    rate_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    reason: Annotated[str, Field(max_length=4096)] = ""
    issuer: Annotated[str, Field(pattern=r"^human:\S.*$", max_length=256)] = "human:api"
    force: bool = False

    def __post_init__(self) -> None:
        """Check that what the scope is about is named, and nothing else.

        Raises:
            ValueError: it says which field is wrong.
        """
        all_users = self.scope in (EntryScope.TENANT_CALL, EntryScope.CALL)
        all_calls = self.scope is EntryScope.USER_SERVICE
        for name, left_open in (("user", all_users), ("call", all_calls)):
            if bool(getattr(self, name)) is left_open:
                said = "leaves it open: it is empty" if left_open else "needs it"
                raise ValueError(f"{name}: the scope {self.scope.value} {said}")


class TripRefusedError(Exception):
    """The policy refuses the entry (a cap, a wildcard, a hold-down); the text says why."""


class BreakerService(Protocol):
    """The breaker state and its one writer: in memory, quick, called from any thread."""

    def at(self) -> StateVersion:
        """The version the state is at."""
        ...

    def snapshot(self) -> Snapshot:
        """The whole state."""
        ...

    def left_s(self) -> Mapping[str, float]:
        """Seconds until each entry ends, by its id, unless it is asked for again."""
        ...

    def delta_since(self, base: StateVersion) -> Delta | None:
        """The change from ``base`` to now; ``None`` if it is no version remembered here."""
        ...

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called, from any thread, after each change of the version.

        :class:`heatshield_collector.events.Signal` implements this.

        Returns:
            A function that ends the subscription.
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

    def report(self, report: Report) -> ReportAnswer:
        """Take in what a client enforces and refused; a report also shows that the client lives.

        Returns:
            With the shares of budgets that the client may spend from now on.
        """
        ...

    def not_enforcing(self) -> int:
        """Live instances that refuse no call, because their local kill switch is thrown."""
        ...

    def mode(self) -> PlatformMode:
        """What the platform does with its entries."""
        ...

    def set_mode(self, mode: PlatformMode, by: str) -> None:
        """Change it for the person ``by``. Setting the mode it has changes nothing."""
        ...


class Scope(StrEnum):
    """What a caller may do; each route and each gRPC method needs one."""

    INGEST = "ingest"
    """Send telemetry."""
    ENFORCE = "enforce"
    """Watch breakers and report on them, as services do."""
    READ = "read"
    """Ask what there is: requests, loads, findings, metrics, documentation."""
    HEALTH = "health"
    """Ask whether the collector is alive and ready."""
    CONTROL = "control"
    """Change breakers or the platform's mode."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller that was let through.

    Attributes:
        tenant: whose telemetry and breakers the caller has to do with.
        scopes: all that the caller may do.
    """

    tenant: str
    scopes: frozenset[Scope]


class Caller(Protocol):
    """What a request says of its caller, however it came."""

    @property
    def authorization(self) -> str:
        """The ``Authorization`` header, or the gRPC metadata of that name; empty without one."""
        ...


class AccessError(Exception):
    """The caller is not let through; the text tells the caller why. As :class:`ForbiddenError`."""

    cause = "forbidden"


class UnauthenticatedError(AccessError):
    """The caller did not prove its identity: 401, or gRPC's UNAUTHENTICATED."""

    cause = "unauthenticated"


class ForbiddenError(AccessError):
    """No proof would help this caller: 403, or gRPC's PERMISSION_DENIED."""


class Authenticator(Protocol):
    """Asked at every request of every face, on the event loop: quick, without I/O."""

    def authenticate(self, caller: Caller, scope: Scope) -> Principal:
        """Let a caller through.

        Returns:
            The caller's principal, which has at least ``scope``.

        Raises:
            UnauthenticatedError: the caller did not prove its identity.
            ForbiddenError: the caller may not do this.
        """
        ...


class Signs(Protocol):
    """Signs breaker state."""

    def sign(self, fields: Mapping[str, Any], kind: str) -> dict[str, Any]:
        """The same object with what is signed; ``kind`` is ``snapshot`` or ``delta``."""
        ...


@dataclass(frozen=True, slots=True)
class PolicyView:
    """The policy that is in force.

    Attributes:
        file: that is watched; empty: there is none.
        version: names what the policy says.
        applied_at_ns: since when it is in force; null without a file.
        errors: why the file as it is can't be used; empty: it is in force.
        policy: what it says, with what the file leaves out.
    """

    file: str
    version: str
    applied_at_ns: int | None
    errors: Sequence[str]
    policy: Mapping[str, Any]


def _no_policy() -> PolicyView:
    return PolicyView("", NO_POLICY.version, None, (), NO_POLICY.to_json())


@dataclass(frozen=True, slots=True)
class Ports:
    """What a face stands on.

    Attributes:
        store: telemetry and journals; asked from worker threads.
        loads: what detection knows; asked from worker threads.
        alerts: every alert that is not inactive, and those resolved lately.
        findings: the findings that are open, as JSON objects with the columns of
            ``model.FINDINGS``.
        breakers: the breaker state.
        events: the hub of ``/api/events``; closing it ends every stream.
        ready: what is not ready yet, one sentence each; empty when everything is.
        cold_start_left_s: seconds until rules may trip breakers.
        policy: what rules may do, and the declared limits.
        not_cut: users whom alerts ask to cut and who are not, each with the reason.
        notes: what people should know of a collector that is ready, one sentence each.
        metrics: the ``Accept`` header to (body, content type) of ``/metrics``.
        clock: for "since", and what streams wait on.
        authenticator: asked at every request.
        signer: signs breaker state; ``None``: it goes out unsigned.
    """

    store: Store
    loads: LoadReader
    alerts: Callable[[], Sequence[Alert]]
    breakers: BreakerService
    events: EventHub
    ready: Callable[[], Sequence[str]]
    metrics: Callable[[str], tuple[bytes, str]]
    clock: Clock
    authenticator: Authenticator
    findings: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    notes: Callable[[], Sequence[str]] = tuple
    cold_start_left_s: Callable[[], float] = float
    policy: Callable[[], PolicyView] = _no_policy
    not_cut: Callable[[], Sequence[tuple[CallKey, str]]] = tuple
    signer: Signs | None = None
