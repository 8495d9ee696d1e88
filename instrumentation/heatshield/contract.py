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
     "rejected": [{"id": "b-8", "count": 12, "user": "u-1", "service": "shop", "call": "POST /p"}]}

Parsing is strict: input that is malformed or of an unknown kind raises :class:`ContractError`, and
the caller keeps what it had. Nothing here can widen what is enforced.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Self

from heatshield.call_key import DEFAULT_TENANT, CallKey, is_plain
from heatshield.json_fields import (
    ContractError,
    decode,
    integer_in,
    is_number,
    object_of,
    text_in,
    within,
)

__all__ = [
    "DEFAULT_LEASE_MS",
    "DEFAULT_TENANT",
    "HEARTBEAT_S",
    "MAX_LEASE_MS",
    "MAX_REJECTIONS",
    "MAX_WORKERS",
    "RAMP_S",
    "RENEW_S",
    "SILENCE_S",
    "BreakerEntry",
    "BreakerMode",
    "ContractError",
    "Delta",
    "PlatformMode",
    "Rejections",
    "Report",
    "Snapshot",
    "StateVersion",
    "decode",
]

DEFAULT_LEASE_MS = 30_000
"""How long a grant lives without renewal: three renewals may be lost before it lapses."""

MAX_LEASE_MS = 15 * 60_000
"""No grant outlives this without a human asking again."""

MAX_REJECTIONS = 1_000_000_000
"""Refused calls that one row of a report may count: more than a process refuses in a day, and few
enough that sums of them stay exact as floats."""

MAX_WORKERS = 4_096
"""Workers that one instance may claim: more than a process has processors to use. Capacity decides
who is hot, so the claim of one instance must not hide everybody."""

RENEW_S = 10.0
"""Seconds between a client's renewals: a third of the default lease."""

HEARTBEAT_S = 2.0
"""Seconds between heartbeats on the stream."""

SILENCE_S = 6.0
"""Seconds without a heartbeat after which a client reconnects: three were lost."""

RAMP_S = 10.0
"""Seconds over which a lapsed grant opens up, so a collector's death is no thundering herd."""


class BreakerMode(StrEnum):
    """What an entry does to the calls it matches."""

    REJECT = "reject"
    TRICKLE = "trickle"
    """Lets ``rate_per_s`` calls through each second, refuses the rest."""
    FLAG = "flag"
    """Marks the call and lets it through."""


class PlatformMode(StrEnum):
    """What the whole platform does with its entries."""

    SHADOW = "shadow"
    """Decides and records, enforces nothing."""
    PROTECT = "protect"


class StateVersion(NamedTuple):
    """A point in the life of the breaker state; compares as a tuple. Written ``epoch.version``."""

    epoch: int
    version: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.version}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``epoch.version``, as in an ETag (quotes and a weak mark allowed).

        Raises:
            ContractError: if it is anything else.
        """
        epoch, dot, version = text.strip().removeprefix("W/").strip('"').partition(".")
        if not (dot and is_number(epoch) and is_number(version)):
            raise ContractError(f"a state version is epoch.version, not {text!r}")
        return cls(int(epoch), int(version))

    @property
    def etag(self) -> str:
        """As an HTTP entity tag, quoted."""
        return f'"{self}"'


@dataclass(frozen=True, slots=True)
class BreakerEntry:
    """One tripped call of one user, held open by a lease.

    Attributes:
        id: names the entry in headers, logs and the audit.
        user: the end user it cuts, as services name them (a pseudonym where those are in use);
            matched exactly, so that ``*`` is the user of that name.
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

    @property
    def key(self) -> CallKey:
        """What a call must match exactly."""
        return CallKey(self.tenant, self.user, self.service, self.call)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Check and read one entry.

        Raises:
            ContractError: on a missing, empty or mistyped field, an unknown mode, an id that no
                header can carry, a key that is no plain text or a wildcard, or a lease beyond
                :data:`MAX_LEASE_MS`. Unknown fields are ignored.
        """
        fields = object_of(value, "entry")
        mode = text_in(fields, "mode")
        if mode not in list(BreakerMode):  # Python 3.11: a plain text is never "in" an Enum class
            raise ContractError(f"entry.mode {mode!r} is unknown")
        lease_ms = integer_in(fields, "lease_ms")
        if not 0 < lease_ms <= MAX_LEASE_MS:
            raise ContractError(f"entry.lease_ms {lease_ms} is outside (0, {MAX_LEASE_MS}]")
        key = {name: text_in(fields, name) for name in ("id", "user", "service", "call")}
        is_sendable = key["id"].isascii() and " " not in key["id"]  # in headers
        if not is_sendable or not all(map(is_plain, key.values())):
            raise ContractError("entry has an id or a key that is too long or not printable")
        if "*" in (key["service"], key["call"]):
            raise ContractError("entry names every service or call; wildcards are not granted")
        rate = fields.get("rate_per_s", 0.0)
        if (
            isinstance(rate, bool)
            or not isinstance(rate, int | float)
            or not 0 <= rate < float("inf")
        ):
            raise ContractError(f"entry.rate_per_s {rate!r} is not a rate")
        return cls(
            **key,
            mode=BreakerMode(mode),
            lease_ms=lease_ms,
            issuer=text_in(fields, "issuer"),
            reason=str(fields.get("reason", "")),
            evidence=object_of(fields.get("evidence", {}), "entry.evidence"),
            rate_per_s=float(rate),
            tenant=text_in(fields, "tenant", DEFAULT_TENANT),
            seq=integer_in(fields, "seq", 0),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole breaker state at one version."""

    at: StateVersion
    mode: PlatformMode
    entries: tuple[BreakerEntry, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a plain object for a JSON encoder."""
        return {
            "epoch": self.at.epoch,
            "version": self.at.version,
            "mode": self.mode.value,
            "entries": [asdict(entry) for entry in self.entries],
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Check and read a snapshot.

        Raises:
            ContractError: if it, or any entry in it, does not follow the contract.
        """
        fields = object_of(value, "snapshot")
        return cls(_version(fields), _mode(fields), _entries(fields, "entries"))


@dataclass(frozen=True, slots=True)
class Delta:
    """A change from one version of the state to the next."""

    base: StateVersion
    at: StateVersion
    mode: PlatformMode
    upsert: tuple[BreakerEntry, ...] = ()
    remove: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a plain object for a JSON encoder."""
        return {
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
        return cls(base, at, _mode(fields), _entries(fields, "upsert"), tuple(remove))


@dataclass(frozen=True, slots=True)
class Rejections:
    """How often one entry refused calls since the last report.

    The key is sent along, so that a report that arrives after the entry is gone still counts.
    """

    id: str
    count: int
    user: str
    service: str
    call: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a client says of itself: alive, how many workers, which state it enforces."""

    service: str
    instance: str
    workers: int
    applied: StateVersion | None
    rejected: tuple[Rejections, ...] = ()
    number: int = 0  # of its rejections; the same when they are sent again. 0: they have none

    def to_json(self) -> dict[str, Any]:
        """As a plain object for a JSON encoder."""
        return {
            "service": self.service,
            "instance": self.instance,
            "workers": self.workers,
            "applied": str(self.applied) if self.applied else None,
            "rejected": [asdict(row) for row in self.rejected],
            "number": self.number,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Check and read a report.

        Raises:
            ContractError: if it does not follow the contract. Counts and workers out of range are
                brought into it.
        """
        fields = object_of(value, "report")
        applied = fields.get("applied")
        rows = fields.get("rejected", [])
        if not isinstance(rows, list):
            raise ContractError("report.rejected is not a list")
        return cls(
            service=text_in(fields, "service"),
            instance=text_in(fields, "instance"),
            workers=within(integer_in(fields, "workers", 1), MAX_WORKERS),
            applied=StateVersion.parse(text_in(fields, "applied")) if applied is not None else None,
            rejected=tuple(
                Rejections(
                    count=within(integer_in(row, "count"), MAX_REJECTIONS),
                    **{name: text_in(row, name) for name in ("id", "user", "service", "call")},
                )
                for row in (object_of(row, "report.rejected") for row in rows)
            ),
            number=integer_in(fields, "number", 0),
        )


def _version(fields: Mapping[str, Any]) -> StateVersion:
    at = StateVersion(integer_in(fields, "epoch"), integer_in(fields, "version"))
    if min(at) < 0:
        raise ContractError(f"a state version is not negative: {at}")
    return at


def _mode(fields: Mapping[str, Any]) -> PlatformMode:
    mode = text_in(fields, "mode")
    if mode not in list(PlatformMode):
        raise ContractError(f"mode {mode!r} is unknown")
    return PlatformMode(mode)


def _entries(fields: Mapping[str, Any], name: str) -> tuple[BreakerEntry, ...]:
    rows = fields.get(name, [])
    if not isinstance(rows, list):
        raise ContractError(f"{name} is not a list")
    return tuple(BreakerEntry.from_json(row) for row in rows)
