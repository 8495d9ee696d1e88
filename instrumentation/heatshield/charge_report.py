"""The charge report: what a process's users cost, and how the process is, as JSON.

A process sends ``POST /v1/charges`` every 200 ms, and at once when a pair costs far more than
usual. Costs are *since the last report*, of work that has ended and of work that still runs: what
was reported while it ran is not reported again when it ends. So reports add up to the same costs
in whatever order they arrive, and one that arrives twice is known by its number::

    {"service": "shop", "instance": "c0ffee", "number": 17, "at_ns": 1764580000200000000,
     "seconds": 0.2,
     "process": {"cpu_us": 81000, "processors": 2.0, "workers": 8, "running": 3, "queued": 0,
                 "loop_lag_us": 300, "pool_wait_us": 0},
     "users": ["u-1", "u-2"], "calls": ["POST /purchases"], "backends": ["redis cart:6379"],
     "pairs": {"user": [0, 1], "call": [0, 0], "cpu_us": [900, 80], "wait_us": [0, 0],
               "elements": [20004, 4], "rows": [0, 0], "bytes": [0, 0], "calls": [1, 1],
               "errors": [0, 0], "traces": [["5b8e…"], ["71aa…"]]},
     "backend_us": {"pair": [0, 1], "backend": [0, 0], "us": [80000, 300], "operations": [1, 2]},
     "backend_durations": {"backend": [0, 0], "bucket": [65, 28], "operations": [1, 2]},
     "durations": {"pair": [0, 1], "bucket": [65, 36], "calls": [1, 1], "open": [false, false]},
     "operations": {"pair": [0], "backend": [0], "ago_us": [95000], "duration_us": [80000]}}

Tables are columns of one length; a column that is left out is all zeros. ``user`` and ``call`` are
places in ``users`` and ``calls``; -1 is a user that nobody knows, -2 all users that there was no
room for: each report has the costliest :data:`MAX_PAIRS` pairs, and one rest a call.

``docs/charges.md`` has every field with its unit, for clients in other languages.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self, TypeVar

from heatshield.json_columns import (
    MAX_ROWS,
    MOST,
    Places,
    Table,
    check_places,
    columns_of,
    in_places,
)
from heatshield.json_fields import ContractError, integer_in, object_of, rate_in, text_in, within

__all__ = [
    "BUCKETS_AN_OCTAVE",
    "MAX_OPERATIONS",
    "MAX_PAIRS",
    "MAX_TRACES",
    "NO_USER",
    "REPORT_S",
    "REST",
    "BackendDurationCount",
    "BackendTime",
    "ChargeReport",
    "DurationCount",
    "Operation",
    "Pair",
    "ProcessState",
    "bucket_of",
    "bucket_us",
]

REPORT_S: Final = 0.2
"""Seconds between the reports of a process that serves."""

MAX_PAIRS: Final = 64
"""Pairs of a user and a call in a report; the costliest go by name, the others into the rest."""

MAX_OPERATIONS: Final = 128
"""Operations on backends in a report: the longest."""

MAX_TRACES: Final = 3
"""Trace ids that a pair names as evidence, the costliest first."""

NO_USER: Final = -1
"""Place of a user that nobody knows."""

REST: Final = -2
"""Place of all the users of a call that a report had no room for."""

BUCKETS_AN_OCTAVE: Final = 4
"""Durations fall into buckets that grow by 2^(1/4): bucket ``b`` holds those from
``2 ** (b / 4)`` up to ``2 ** ((b + 1) / 4)`` microseconds; at most 9 % off in the middle."""

MAX_BUCKET: Final = 160
"""About twelve days."""

LONGEST_NAME: Final = 1_024


def bucket_of(us: float) -> int:
    """The bucket of a duration in microseconds."""
    return 0 if us < 1 else min(MAX_BUCKET, int(math.log2(us) * BUCKETS_AN_OCTAVE))


def bucket_us(bucket: int) -> float:
    """The middle of a bucket (geometric), in microseconds."""
    return float(2.0 ** ((bucket + 0.5) / BUCKETS_AN_OCTAVE))


@dataclass(frozen=True, slots=True)
class ProcessState:
    """How a process is.

    Attributes:
        cpu_us: processor time that it used since the last report.
        processors: how many it may use at once, its cgroup's limit respected.
        workers: requests that it can run at once: threads of a pool; 1 for an event loop.
        running: requests that are open.
        queued: requests that wait for a worker.
        loop_lag_us: the longest that an event loop was late since the last report.
        pool_wait_us: what requests waited for connections of pools since the last report, together.
    """

    cpu_us: int = 0
    processors: float = 1.0
    workers: int = 1
    running: int = 0
    queued: int = 0
    loop_lag_us: int = 0
    pool_wait_us: int = 0


class Pair(NamedTuple):
    """Costs of one user on one call since the last report.

    Attributes:
        user: as services name the user; ``None`` for :data:`NO_USER`, ``""`` for :data:`REST`.
        call: as breakers name it.
        cpu_us: processor time.
        wait_us: open, and neither computing nor in a backend.
        elements: of collections, read or written.
        rows: of databases.
        bytes: moved.
        calls: that began and were let in.
        errors: of calls that ended.
        traces: hexadecimal ids of the costliest.
    """

    user: str | None
    call: str
    cpu_us: int = 0
    wait_us: int = 0
    elements: int = 0
    rows: int = 0
    bytes: int = 0
    calls: int = 0
    errors: int = 0
    traces: tuple[str, ...] = ()


class BackendTime(NamedTuple):
    """Time of a pair in a backend since the last report; the wait in the backend's line is in.

    Attributes:
        us: microseconds, of operations that ended and of those that run.
        operations: that ended.
    """

    pair: int
    backend: str
    us: int
    operations: int = 0


class BackendDurationCount(NamedTuple):
    """Operations of all pairs on a backend that ended, by their duration's bucket."""

    backend: str
    bucket: int
    operations: int


class DurationCount(NamedTuple):
    """Calls of a pair by their duration's bucket.

    Attributes:
        open: they still run, for so long by now; such rows are the state at the report's moment,
            and not since the last report.
    """

    pair: int
    bucket: int
    calls: int
    open: bool = False


class Operation(NamedTuple):
    """One operation on a backend.

    Attributes:
        ago_us: when it began, before the report's ``at_ns``.
        duration_us: how long it took; ``None`` while it runs.
    """

    pair: int
    backend: str
    ago_us: int
    duration_us: int | None


_COSTS: Final = ("cpu_us", "wait_us", "elements", "rows", "bytes", "calls", "errors")
_STATE: Final = ("cpu_us", "running", "queued", "loop_lag_us", "pool_wait_us")


@dataclass(frozen=True, slots=True)
class ChargeReport:
    """A charge report.

    Attributes:
        number: counts the reports of this instance from 1; the same when one is sent again.
        at_ns: when it was made, nanoseconds since the Unix epoch, by the sender's clock.
        seconds: since the last one.
    """

    service: str
    instance: str
    number: int
    at_ns: int
    seconds: float
    process: ProcessState
    pairs: Sequence[Pair] = ()
    backend_us: Sequence[BackendTime] = ()
    backend_durations: Sequence[BackendDurationCount] = ()
    durations: Sequence[DurationCount] = ()
    operations: Sequence[Operation] = ()

    def to_json(self) -> dict[str, Any]:
        """As a plain object for a JSON encoder. Columns of zeros alone are left out."""
        users, calls, backends = Places(), Places(), Places()
        costs = {name: [getattr(pair, name) for pair in self.pairs] for name in _COSTS}
        pairs: dict[str, list[Any]] = {
            "user": [
                NO_USER if pair.user is None else users.of(pair.user) if pair.user else REST
                for pair in self.pairs
            ],
            "call": [calls.of(pair.call) for pair in self.pairs],
            **{name: column for name, column in costs.items() if any(column)},
        }
        if any(pair.traces for pair in self.pairs):
            pairs["traces"] = [list(pair.traces) for pair in self.pairs]
        state = self.process
        said: dict[str, Any] = {
            "service": self.service,
            "instance": self.instance,
            "number": self.number,
            "at_ns": self.at_ns,
            "seconds": self.seconds,
            "process": {
                "processors": state.processors,
                "workers": state.workers,
                **{name: getattr(state, name) for name in _STATE if getattr(state, name)},
            },
        }
        tables = {
            "pairs": pairs if self.pairs else {},
            "backend_us": _columns(BackendTime, self.backend_us, backends),
            "backend_durations": _columns(BackendDurationCount, self.backend_durations, backends),
            "durations": _columns(DurationCount, self.durations, backends),
            "operations": _columns(Operation, self.operations, backends),
        }
        said |= {name: table for name, table in tables.items() if table}
        named = {"users": users.names, "calls": calls.names, "backends": backends.names}
        return said | {name: texts for name, texts in named.items() if texts}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Check and read a report.

        Raises:
            ContractError: if it does not follow the contract. Numbers out of range are brought
                into it.
        """
        fields = object_of(value, "charge report")
        users, calls, backends = (_names(fields, name) for name in ("users", "calls", "backends"))
        state = object_of(fields.get("process", {}), "process")
        pairs = _pairs(fields, users, calls)
        return cls(
            service=_name(fields.get("service"), "service"),
            instance=_name(fields.get("instance"), "instance"),
            number=integer_in(fields, "number"),
            at_ns=within(integer_in(fields, "at_ns"), (1 << 63) - 1),
            seconds=min(rate_in(fields, "seconds"), 3_600.0),
            process=ProcessState(
                processors=rate_in(state, "processors", 1.0),
                workers=within(integer_in(state, "workers", 1), MOST),
                **{name: within(integer_in(state, name, 0), MOST) for name in _STATE},
            ),
            pairs=pairs,
            backend_us=_rows(fields, "backend_us", BackendTime, len(pairs), backends),
            backend_durations=_rows(
                fields, "backend_durations", BackendDurationCount, len(pairs), backends
            ),
            durations=_rows(fields, "durations", DurationCount, len(pairs), backends),
            operations=_rows(fields, "operations", Operation, len(pairs), backends),
        )


_Row = TypeVar("_Row", BackendTime, BackendDurationCount, DurationCount, Operation)


def _rows(
    fields: Mapping[str, Any], table: str, kind: type[_Row], pairs: int, backends: list[str]
) -> Table[_Row]:
    columns = dict(
        zip(
            kind._fields,
            columns_of(fields, table, kind._fields, may_be_null=("duration_us",)),
            strict=True,
        )
    )
    if "pair" in columns:
        check_places(columns["pair"], pairs)
    if "backend" in columns:
        columns["backend"] = in_places(columns["backend"], backends)
    if "bucket" in columns and max(columns["bucket"], default=0) > MAX_BUCKET:
        columns["bucket"] = [min(bucket, MAX_BUCKET) for bucket in columns["bucket"]]
    if "open" in columns:
        columns["open"] = list(map(bool, columns["open"]))
    return Table(kind, list(columns.values()))


def _columns(
    kind: type[BackendTime | BackendDurationCount | DurationCount | Operation],
    rows: Sequence[Any],
    backends: Places,
) -> dict[str, list[Any]]:
    if not rows:
        return {}
    columns = {name: [getattr(row, name) for row in rows] for name in kind._fields}
    if "backend" in columns:
        columns["backend"] = [backends.of(name) for name in columns["backend"]]
    return columns


def _pairs(fields: Mapping[str, Any], users: list[str], calls: list[str]) -> Table[Pair]:
    table = object_of(fields.get("pairs", {}), "pairs")
    of_user, of_call, *costs = columns_of(fields, "pairs", ("user", "call", *_COSTS), least=REST)
    # Places -1 and -2 are the last two of these.
    named: list[str | None] = [*users, "", None]
    check_places([place for place in of_user if place >= 0], len(users))
    traces = table.get("traces")
    if traces is None:
        traces = [()] * len(of_user)
    elif not isinstance(traces, list) or len(traces) < len(of_user):
        raise ContractError("pairs.traces has not a list for each pair")
    else:
        traces = list(map(_traces, traces[: len(of_user)]))
    for at, column in enumerate(costs):
        if min(column, default=0) < 0:
            costs[at] = [max(0, cost) for cost in column]
    named_users = [named[user] for user in of_user]
    return Table(Pair, [named_users, in_places(of_call, calls), *costs, traces])


def _traces(ids: object) -> tuple[str, ...]:
    if not isinstance(ids, list | tuple):
        raise ContractError("pairs.traces has a row that is no list")
    return tuple(_texts(ids[:MAX_TRACES], "pairs.traces"))


def _names(fields: Mapping[str, Any], name: str) -> list[str]:
    found = fields.get(name, [])
    if not isinstance(found, list) or len(found) > MAX_ROWS:
        raise ContractError(f"{name} is no list of at most {MAX_ROWS} names")
    return _texts(found, name)


def _texts(texts: Sequence[Any], what: str) -> list[str]:
    """The texts, looked at together where all are ordinary."""
    if set(map(type, texts)) == {str} and all(texts):
        joined = "".join(texts)
        if joined.isascii() and max(map(len, texts)) <= LONGEST_NAME:
            return list(texts)
    return [_name(one, what) for one in texts]


def _name(value: object, what: str) -> str:
    text = text_in({what: value}, what)
    if len(text) > LONGEST_NAME:
        raise ContractError(f"charge report: {what} has more than {LONGEST_NAME} characters")
    return text
