"""The breaker contract: what the collector grants and a client may enforce, as JSON.

State is ``(epoch, version)``: the epoch is persisted by the collector and grows at each of its
restarts, the version grows at each change. The collector is the one writer.

``GET /v1/breakers`` answers a snapshot with the ETag ``"epoch.version"``::

    {"epoch": 3, "version": 17, "mode": "protect", "entries": [ENTRY, ...]}

``GET /v1/breakers/stream`` sends server-sent events whose id is ``epoch.version``: ``snapshot``
(the same object) first and after any doubt, ``delta`` for a change, ``heartbeat`` every 2 s::

    {"base": "3.17", "epoch": 3, "version": 18, "mode": "protect",
     "upsert": [ENTRY], "remove": ["b-7"]}

``POST /v1/breakers/report`` carries what a client enforces and refused since its last report::

    {"service": "shop", "instance": "c0ffee", "workers": 1, "applied": "3.18",
     "enforcing": true,
     "rejected": [{"id": "b-8", "count": 12, "user": "u-1", "service": "shop", "call": "POST /p"}]}

Parsing is strict: input that is malformed or of an unknown kind raises :class:`ContractError`, and
the caller keeps what it had. Nothing here can widen what is enforced.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from heatshield.breaker_report import (
    MAX_OFFERED,
    MAX_REJECTIONS,
    MAX_SPREAD_MS,
    MAX_WORKERS,
    REPORTED_PART,
    SHARE_S,
    Offered,
    Rejections,
    Report,
    ReportAnswer,
    StateVersion,
)
from heatshield.call_key import DEFAULT_TENANT, CallKey, is_plain
from heatshield.declared_limit import DeclaredLimit
from heatshield.json_fields import (
    ContractError,
    decode,
    integer_in,
    object_of,
    rate_in,
    text_in,
)

__all__ = [
    "DEFAULT_LEASE_MS",
    "DEFAULT_TENANT",
    "HEARTBEAT_S",
    "MAX_LEASE_MS",
    "MAX_OFFERED",
    "MAX_REJECTIONS",
    "MAX_SPREAD_MS",
    "MAX_WAITING",
    "MAX_WAIT_MS",
    "MAX_WORKERS",
    "RAMP_S",
    "RENEW_S",
    "REPORTED_PART",
    "SHARE_S",
    "SILENCE_S",
    "BreakerEntry",
    "BreakerMode",
    "ContractError",
    "DeclaredLimit",
    "Delta",
    "EntryScope",
    "Offered",
    "PlatformMode",
    "Rejections",
    "Report",
    "ReportAnswer",
    "Snapshot",
    "StateVersion",
    "decode",
]

DEFAULT_LEASE_MS = 30_000
"""How long a grant lives without renewal: three renewals may be lost before it lapses."""

MAX_LEASE_MS = 15 * 60_000
"""No grant outlives this without a human asking again."""

RENEW_S = 10.0
"""Seconds between a client's renewals: a third of the default lease."""

HEARTBEAT_S = 2.0
"""Seconds between heartbeats on the stream."""

SILENCE_S = 6.0
"""Seconds without a heartbeat after which a client reconnects: three were lost."""

RAMP_S = 10.0
"""Seconds over which a lapsed grant opens up, so a collector's death is no thundering herd."""


WAITING: Final = 8
"""Calls of a paced key that wait in line at one instance, where the entry does not say."""

WAIT_MS: Final = 2_000
"""Milliseconds that one of them waits at most, where the entry does not say."""

MAX_WAITING: Final = 1_000
MAX_WAIT_MS: Final = 60_000
"""What an entry may say of them."""


class BreakerMode(StrEnum):
    """What an entry does to the calls it matches."""

    PACE = "pace"
    """Lets through what ``budget`` busy seconds each second pay for; the rest waits in line,
    bounded in number and time, and is refused beyond."""
    REJECT = "reject"
    TRICKLE = "trickle"
    """Lets ``rate_per_s`` calls through each second, refuses the rest."""
    FLAG = "flag"
    """Marks the call and lets it through."""


class EntryScope(StrEnum):
    """Which calls an entry is about. All but the first two need a person who says so."""

    USER_CALL = "user_call"
    """One user's calls of one operation."""
    USER_SERVICE = "user_service"
    """One user's calls of all operations of a service; ``call`` is empty."""
    TENANT_CALL = "tenant_call"
    """All calls of one operation in one tenant; ``user`` is empty."""
    CALL = "call"
    """All calls of one operation, whatever the tenant; ``user`` is empty."""
    PATTERN = "pattern"
    """``user`` and ``call`` are patterns: ``*`` stands for any text, ``?`` for one character."""

    @property
    def for_rules(self) -> bool:
        """Whether a rule may ask for it."""
        return self in (EntryScope.USER_CALL, EntryScope.USER_SERVICE)


class PlatformMode(StrEnum):
    """What the whole platform does with its entries."""

    SHADOW = "shadow"
    """Decides and records, enforces nothing."""
    PROTECT = "protect"


@dataclass(frozen=True, slots=True)
class BreakerEntry:
    """One tripped call of one user, held open by a lease.

    Attributes:
        id: names the entry in headers, logs and the audit.
        user: the end user it cuts, as services name them (a pseudonym where those are in use);
            matched exactly, so that ``*`` is the user of that name, unless ``scope`` says else.
        service: the service of the call.
        call: the operation of that service.
        mode: what happens to matching calls.
        lease_ms: how long a client may enforce it after the renewal it last sent.
        issuer: ``rule:<alertname>`` or ``human:<name>``.
        reason: one sentence for people.
        evidence: trace ids and figures that led to it.
        rate_per_s: calls let through per second and client, for ``trickle``.
        tenant: whose platform it is.
        seq: the version at which it was made or last changed.
        scope: which calls it matches.
        budget: busy seconds each second that all instances together let through, for ``pace``.
        cost_per_call: busy seconds that one call is taken for, for ``pace``.
        waiting: calls that may wait in line at one instance, for ``pace``.
        wait_ms: how long one of them waits at most, for ``pace``.
        instances: of the service when it was granted. One that is dealt no share of the budget
            spends an equal part.
        prober: the one instance that lets calls through to see whether the load is gone; empty:
            none does.
        probe_per_s: calls each second that it lets through.
    """

    id: str
    user: str
    service: str
    call: str
    mode: BreakerMode = BreakerMode.REJECT
    lease_ms: int = DEFAULT_LEASE_MS
    issuer: str = ""
    reason: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    rate_per_s: float = 0.0
    tenant: str = DEFAULT_TENANT
    seq: int = 0
    scope: EntryScope = EntryScope.USER_CALL
    budget: float = 0.0
    cost_per_call: float = 0.0
    waiting: int = WAITING
    wait_ms: int = WAIT_MS
    instances: int = 1
    prober: str = ""
    probe_per_s: float = 0.0

    @property
    def key(self) -> CallKey:
        """What a call must match."""
        return CallKey(self.tenant, self.user or None, self.service, self.call)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Check and read one entry.

        Raises:
            ContractError: on a missing, empty or mistyped field, an unknown mode or scope, an id
                that no header can carry, a key that is no plain text or a wildcard, a budget of
                nothing, or a lease beyond :data:`MAX_LEASE_MS`. Unknown fields are ignored.
        """
        fields = object_of(value, "entry")
        lease_ms = integer_in(fields, "lease_ms")
        if not 0 < lease_ms <= MAX_LEASE_MS:
            raise ContractError(f"entry.lease_ms {lease_ms} is outside (0, {MAX_LEASE_MS}]")
        scope = EntryScope(_one_of(fields, "scope", EntryScope, EntryScope.USER_CALL))
        entry = cls(
            **_names(fields, scope),
            mode=BreakerMode(_one_of(fields, "mode", BreakerMode)),
            lease_ms=lease_ms,
            issuer=text_in(fields, "issuer"),
            reason=str(fields.get("reason", "")),
            evidence=object_of(fields.get("evidence", {}), "entry.evidence"),
            rate_per_s=rate_in(fields, "rate_per_s", 0.0),
            tenant=text_in(fields, "tenant", DEFAULT_TENANT),
            seq=integer_in(fields, "seq", 0),
            scope=scope,
            budget=rate_in(fields, "budget", 0.0),
            cost_per_call=rate_in(fields, "cost_per_call", 0.0),
            waiting=integer_in(fields, "waiting", WAITING),
            wait_ms=integer_in(fields, "wait_ms", WAIT_MS),
            instances=max(1, integer_in(fields, "instances", 1)),
            prober=str(fields.get("prober", "")),
            probe_per_s=rate_in(fields, "probe_per_s", 0.0),
        )
        if entry.mode is BreakerMode.PACE and not entry.budget:
            raise ContractError("entry.budget: one that paces lets something through")
        if not (0 <= entry.waiting <= MAX_WAITING and 0 <= entry.wait_ms <= MAX_WAIT_MS):
            raise ContractError("entry.waiting or entry.wait_ms is out of range")
        return entry


def _names(fields: Mapping[str, Any], scope: EntryScope) -> dict[str, str]:
    """The id and the parts of the key; those that a scope leaves open are empty."""
    left_open = {
        EntryScope.USER_SERVICE: ("call",),
        EntryScope.TENANT_CALL: ("user",),
        EntryScope.CALL: ("user",),
    }.get(scope, ())
    found = {name: text_in(fields, name) for name in ("id", "user", "service", "call")
             if name not in left_open}  # fmt: skip
    is_sendable = found["id"].isascii() and " " not in found["id"]  # in headers
    if not is_sendable or not all(map(is_plain, found.values())):
        raise ContractError("entry has an id or a key that is too long or not printable")
    if "*" in (found["service"], found.get("call")):
        raise ContractError("entry names every service or call; wildcards are not granted")
    return {**found, **dict.fromkeys(left_open, "")}


def _one_of(
    fields: Mapping[str, Any], name: str, known: type[StrEnum], default: str | None = None
) -> str:
    value = text_in(fields, name, default)
    if value not in list(known):  # Python 3.11: a plain text is never "in" an Enum class
        raise ContractError(f"{name} {value!r} is unknown")
    return value


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole breaker state at one version."""

    at: StateVersion
    mode: PlatformMode
    entries: tuple[BreakerEntry, ...] = ()
    limits: tuple[DeclaredLimit, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a plain object for a JSON encoder."""
        return {
            "epoch": self.at.epoch,
            "version": self.at.version,
            "mode": self.mode.value,
            "entries": [asdict(entry) for entry in self.entries],
            "limits": [limit.to_json() for limit in self.limits],
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Check and read a snapshot.

        Raises:
            ContractError: if it, or any entry in it, does not follow the contract.
        """
        fields = object_of(value, "snapshot")
        limits = _limits(fields) or ()
        return cls(_version(fields), _mode(fields), _entries(fields, "entries"), limits)


@dataclass(frozen=True, slots=True)
class Delta:
    """A change from one version of the state to the next.

    Attributes:
        limits: all declared limits; ``None``: as they were.
    """

    base: StateVersion
    at: StateVersion
    mode: PlatformMode
    upsert: tuple[BreakerEntry, ...] = ()
    remove: tuple[str, ...] = ()
    limits: tuple[DeclaredLimit, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """As a plain object for a JSON encoder."""
        limits = {}
        if self.limits is not None:
            limits["limits"] = [limit.to_json() for limit in self.limits]
        return limits | {
            "base": str(self.base),
            "epoch": self.at.epoch,
            "version": self.at.version,
            "mode": self.mode.value,
            "upsert": [asdict(entry) for entry in self.upsert],
            "remove": list(self.remove),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Check and read a delta.

        Raises:
            ContractError: if it, or any entry in it, does not follow the contract.
        """
        fields = object_of(value, "delta")
        base = StateVersion.parse(text_in(fields, "base"))
        at = _version(fields)
        if at <= base:
            raise ContractError(f"delta goes from {base} to {at}, which is not forward")
        remove = fields.get("remove", [])
        if not isinstance(remove, list) or not all(isinstance(name, str) for name in remove):
            raise ContractError("delta.remove is not a list of entry ids")
        limits = _limits(fields)
        return cls(base, at, _mode(fields), _entries(fields, "upsert"), tuple(remove), limits)


def _version(fields: Mapping[str, Any]) -> StateVersion:
    at = StateVersion(integer_in(fields, "epoch"), integer_in(fields, "version"))
    if min(at) < 0:
        raise ContractError(f"a state version is not negative: {at}")
    return at


def _mode(fields: Mapping[str, Any]) -> PlatformMode:
    return PlatformMode(_one_of(fields, "mode", PlatformMode))


def _limits(fields: Mapping[str, Any]) -> tuple[DeclaredLimit, ...] | None:
    rows = fields.get("limits")
    if rows is None:
        return None
    if not isinstance(rows, list):
        raise ContractError("limits is not a list")
    return tuple(DeclaredLimit.from_json(row) for row in rows)


def _entries(fields: Mapping[str, Any], name: str) -> tuple[BreakerEntry, ...]:
    rows = fields.get(name, [])
    if not isinstance(rows, list):
        raise ContractError(f"{name} is not a list")
    return tuple(BreakerEntry.from_json(row) for row in rows)
