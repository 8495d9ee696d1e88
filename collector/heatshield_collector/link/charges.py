"""Charges, summed up by what they are judged by: a request, a user on a call, a user, a call."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from heatshield_collector.detect.findings import key_texts

__all__ = ["by_call", "by_request", "call_of", "sums"]

_COLUMNS: Final = ["busy_us", "elements", "calls", "errors"]


def by_request(charges: pa.Table) -> pa.Table:
    """One row a (trace, user, service, call), with the key that the sketches know it by."""
    keys = ["trace", "user", "service", "call", "eligible"]
    rows = sums(charges, keys, [("trace_id", "first")])
    texts = key_texts(*(rows.column(name) for name in ("user", "service", "call")))
    return rows.append_column("key", texts)


def sums(rows: pa.Table, keys: list[str], more: Sequence[tuple[str, str]] = ()) -> pa.Table:
    """The costs of the rows that share ``keys``; ``more`` has further (column, aggregate)."""
    # "first" is defined for one thread only; the groups are small in any case.
    summed = rows.group_by(keys, use_threads=False).aggregate(
        [(name, "sum") for name in _COLUMNS] + list(more)
    )
    return summed.rename_columns(
        [name.removesuffix("_sum").removesuffix("_first") for name in summed.column_names]
    )


def by_call(charges: pa.Table) -> tuple[pa.Table, list[str]]:
    """Sums by where the cost arose, and the keys of the rows.

    What is transferred to its user arose when it was charged to nobody.
    """
    charges = charges.filter(pc.invert(charges.column("transferred")))
    spent = charges.set_column(
        charges.column_names.index("service"),
        "service",
        pc.coalesce(charges.column("backend"), charges.column("service")),
    )
    at = pc.if_else(
        pc.is_valid(charges.column("backend")), charges.column("operation"), charges.column("call")
    )
    summed = sums(
        spent.set_column(spent.column_names.index("call"), "call", at), ["service", "call"]
    )
    return summed, [f"{service}\x1f{call}" for service, call in _rows(summed, "service", "call")]


def call_of(key: str) -> tuple[str, str]:
    """(service, call) of a key of :func:`by_call`."""
    service, _, call = key.partition("\x1f")
    return service, call


def _rows(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """The rows of some columns as Python values."""
    return zip(*(table.column(name).to_pylist() for name in names), strict=True)
