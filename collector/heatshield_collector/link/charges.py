"""Charges: what each span costs, and whom: its user, on its call.

A charge names its (user, service, call), where the call is the innermost enclosing one that a
breaker can refuse: the span says so (``heatshield.call``), or, from services that are instrumented
by something else, it is the nearest server span above it. Where the time was spent in a backend,
the charge also names that.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from heatshield_collector.link.pending import Settled

__all__ = [
    "CHARGES",
    "Booleans",
    "Integers",
    "LinkedColumns",
    "Owners",
    "charged",
    "settled_table",
]

Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

CHARGES: Final = pa.schema(
    [
        ("trace", pa.uint64()),
        ("user", pa.string()),  # null when no user is known
        ("service", pa.string()),
        ("call", pa.string()),
        ("backend", pa.string()),  # null, or the backend the time was spent in
        ("operation", pa.string()),  # the span's own name
        ("busy_us", pa.int64()),
        ("elements", pa.int64()),
        ("calls", pa.int64()),
        ("errors", pa.int64()),
        ("rows", pa.int64()),  # of a database, read or written
        ("bytes", pa.int64()),  # moved
        ("key_pattern", pa.string()),  # of the keys it was about, ids left out; null: names none
        ("size", pa.int64()),  # operations that it sent at once; null: does not say
        ("eligible", pa.bool_()),  # may count towards a trip
        ("transferred", pa.bool_()),  # was charged to no user before
        ("trace_id", pa.binary()),
        ("instance", pa.string()),  # the process
        ("address", pa.string()),  # host, or host:port, of the backend; null when it says none
        ("start_ns", pa.int64()),  # of the span, by its process's clock
        ("duration_ns", pa.int64()),
    ]
)
"""One row a span that cost anything. Loads sum up busy time, elements, calls and errors; the other
columns are for detectors that ask what was so expensive, and whom it harmed."""

_TAKEN: Final = (
    "service", "backend", "name", "elements", "rows", "bytes", "key_pattern", "size", "rejected",
    "trace_id", "instance", "address", "start_ns", "duration_ns",
)  # fmt: skip
"""Columns of the spans that a charge has, or depends on."""


@dataclass(frozen=True, slots=True)
class LinkedColumns:
    """The columns of a batch that linking adds, one entry a span."""

    traces: npt.NDArray[np.uint64]
    keys: npt.NDArray[np.uint64]  # of the spans, in their services
    parents: Integers  # rows; -1 where the parent is not in the batch
    above: npt.NDArray[np.uint64]  # such keys of parents in the same process; 0 for none
    identity: npt.NDArray[np.uint64]
    roots: Booleans
    rank: Integers
    opens: Booleans
    errors: Booleans
    call: pa.Array
    busy_ns: Integers


@dataclass(frozen=True, slots=True)
class Owners:
    """Whom a batch's spans are charged to.

    Attributes:
        users: string[t], one a trace, and those that spans of torn traces name; null where none is
            known yet.
        eligible: bool[t]: whether what is charged to it may count towards a trip.
        by_span: int[n]: the owner of each span that is charged.
    """

    users: pa.Array
    eligible: pa.Array
    by_span: pa.Array


def charged(
    columns: dict[str, pa.Array], linked: LinkedColumns, rows: Integers, owners: Owners
) -> pa.Table:
    """:data:`CHARGES`, one row each of the spans at ``rows``."""
    whole = pa.record_batch({name: columns[name] for name in _TAKEN} | {"call": linked.call})
    taken = whole.take(pa.array(rows))  # all at once: a call of Arrow's costs more than its work
    eligible = owners.eligible.take(owners.by_span)
    return pa.table(
        [
            pa.array(linked.traces[rows]),
            owners.users.take(owners.by_span),
            taken["service"],
            taken["call"],
            taken["backend"],
            taken["name"],
            pa.array(linked.busy_ns[rows] // 1000),
            taken["elements"],
            pa.array(linked.opens[rows].astype(np.int64)),
            pa.array((linked.errors & linked.opens)[rows].astype(np.int64)),
            *(taken[name] for name in ("rows", "bytes", "key_pattern", "size")),
            # What a breaker refused is no reason to trip another: one cut would cascade.
            pc.and_(eligible, taken["rejected"].is_null()),
            pa.repeat(pa.scalar(False, pa.bool_()), len(rows)),
            *(
                taken[name]
                for name in ("trace_id", "instance", "address", "start_ns", "duration_ns")
            ),
        ],
        schema=CHARGES,
    )


def settled_table(settled: list[Settled]) -> pa.Table:
    """:data:`CHARGES` of what has waited for a user."""
    rows: list[dict[str, Any]] = [
        {
            **one.charge._asdict(),
            "user": one.user,
            "eligible": one.eligible,
            "transferred": one.transferred,
        }
        for one in settled
    ]
    return pa.Table.from_pylist(rows, schema=CHARGES)
