"""What a client reports of the breakers it enforces, what it is told in answer, and versions of the
breaker state. :mod:`heatshield.contract` has the rest of the contract.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

from heatshield.json_fields import (
    ContractError,
    integer_in,
    is_number,
    object_of,
    rate_in,
    text_in,
    within,
)

__all__ = [
    "MAX_OFFERED",
    "MAX_REJECTIONS",
    "MAX_SPREAD_MS",
    "MAX_WORKERS",
    "REPORTED_PART",
    "SHARE_S",
    "Offered",
    "Rejections",
    "Report",
    "ReportAnswer",
    "StateVersion",
]

MAX_REJECTIONS = 1_000_000_000
"""Refused calls that one row of a report may count: more than a process refuses in a day, and few
enough that sums of them stay exact as floats."""

MAX_WORKERS = 4_096
"""Workers that one instance may claim: more than a process has processors to use. Capacity decides
who is hot, so the claim of one instance must not hide everybody."""

MAX_OFFERED = 1_000
"""Budgets that one report tells of; the rest is told by the next."""

SHARE_S = 3.0
"""Seconds for which a dealt share holds, from when the report was sent that it answered. After
that an instance spends no more than an equal part, as one that was dealt none."""

MAX_SPREAD_MS = 5_000
"""Milliseconds over which clients spread their reports of a new version, at most: half the time
between renewals, so that those that wait are not taken for long for those that lag behind."""

REPORTED_PART = 0.08
"""Of an equal part of a limit: from there on an instance reports on a key. What all that stay below
it spend together is less than a tenth of the limit."""


LONGEST_NAME = 1_024
"""Characters of a name in a report. The longest is that of a limit's budget, with call and user."""


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
class Offered:
    """How many calls of one budget's key came to an instance since its last report.

    Attributes:
        budget: names the budget: a paced entry's id, or a declared limit's id and key.
        per_s: what came each second, in the budget's unit, admitted or not.
        share: of the budget that the instance goes by, as it was dealt; 0: none was.
    """

    budget: str
    per_s: float
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a client says of itself: alive, how many workers, which state it enforces.

    Attributes:
        number: of its rejections; the same when they are sent again. 0: they have none.
        offered: what came of the keys that have a budget, which is dealt out by it.
        enforcing: false while its kill switch is thrown, so that it refuses nothing.
        turn: counts the reports of this instance that have offers, so that one that comes late, or
            twice, deals nothing. 0: they are not counted.
    """

    service: str
    instance: str
    workers: int
    applied: StateVersion | None
    rejected: tuple[Rejections, ...] = ()
    number: int = 0
    offered: tuple[Offered, ...] = ()
    enforcing: bool = True
    turn: int = 0

    def to_json(self) -> dict[str, Any]:
        """As a plain object for a JSON encoder."""
        return {
            "service": self.service,
            "instance": self.instance,
            "workers": self.workers,
            "applied": str(self.applied) if self.applied else None,
            "rejected": [asdict(row) for row in self.rejected],
            "number": self.number,
            "offered": [asdict(row) for row in self.offered],
            "enforcing": self.enforcing,
            "turn": self.turn,
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
        rows, offered = fields.get("rejected", []), fields.get("offered", [])
        if not isinstance(rows, list) or not isinstance(offered, list):
            raise ContractError("report.rejected or report.offered is not a list")
        return cls(
            service=_name(fields, "service"),
            instance=_name(fields, "instance"),
            workers=within(integer_in(fields, "workers", 1), MAX_WORKERS),
            applied=StateVersion.parse(text_in(fields, "applied")) if applied is not None else None,
            rejected=tuple(
                Rejections(
                    count=within(integer_in(row, "count"), MAX_REJECTIONS),
                    # an entry may be about all users, or all calls; a limit refuses nameless ones
                    **{name: _part(row, name) for name in ("user", "call")},
                    **{name: _name(row, name) for name in ("id", "service")},
                )
                for row in (object_of(row, "report.rejected") for row in rows)
            ),
            number=integer_in(fields, "number", 0),
            offered=tuple(
                Offered(
                    _name(row, "budget"),
                    rate_in(row, "per_s"),
                    min(1.0, rate_in(row, "share", 0.0)),
                )
                for row in (object_of(row, "report.offered") for row in offered[:MAX_OFFERED])
            ),
            enforcing=fields.get("enforcing") is not False,
            turn=integer_in(fields, "turn", 0),
        )


def _part(row: Mapping[str, Any], name: str) -> str:
    """A part of a key that its scope may leave open; then it is empty."""
    return "" if row.get(name) == "" else _name(row, name)


def _name(fields: Mapping[str, Any], name: str) -> str:
    """A name. The collector remembers thousands, so none may be of any length."""
    text = text_in(fields, name)
    if len(text) > LONGEST_NAME:
        raise ContractError(f"report: {name} has more than {LONGEST_NAME} characters")
    return text


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """What the collector answers to a report.

    Attributes:
        at: the version of its state.
        shares: by budget, the part of it (0 to 1) that this instance may spend from now on, for
            :data:`SHARE_S`. A budget that is not among them stays as it was.
        spread_ms: milliseconds over which the fleet is to spread its reports of a new version,
            each instance at a place of its own; 0: at once. At most :data:`MAX_SPREAD_MS`.
    """

    at: StateVersion
    shares: Mapping[str, float] = field(default_factory=dict)
    spread_ms: int = 0

    def to_json(self) -> dict[str, Any]:
        """As a plain object for a JSON encoder."""
        return {"at": str(self.at), "shares": dict(self.shares), "spread_ms": self.spread_ms}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Check and read an answer.

        Raises:
            ContractError: if it does not follow the contract.
        """
        fields = object_of(value, "answer")
        shares = object_of(fields.get("shares", {}), "answer.shares")
        return cls(
            StateVersion.parse(text_in(fields, "at")),
            {name: min(1.0, rate_in(shares, name)) for name in shares},
            max(0, min(integer_in(fields, "spread_ms", 0), MAX_SPREAD_MS)),
        )
