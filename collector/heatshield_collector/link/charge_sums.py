"""Sums of charges by request, by key, by user and by call."""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from heatshield.call_key import DEFAULT_TENANT, SEPARATOR

__all__ = ["by_call", "by_request", "key_texts", "sums"]

_SUMMED: Final = ("busy_us", "backend_us", "elements", "calls", "errors")

FEW: Final = 32
"""Rows that Python sums up sooner than Arrow, whose grouping takes 0.1 ms however few they are."""

_JOINT: Final = pa.scalar(SEPARATOR, pa.string())
_TENANT: Final = pa.scalar(DEFAULT_TENANT, pa.string())
_NOTHING: Final = pa.scalar("", pa.string())
_NO_TIME: Final = pa.scalar(0, pa.int64())
_NO_USER: Final = pa.scalar(None, pa.string())


def key_texts(
    tenants: pa.ChunkedArray, users: pa.ChunkedArray, services: pa.ChunkedArray,
    calls: pa.ChunkedArray,
) -> pa.ChunkedArray:  # fmt: skip
    """:attr:`heatshield.call_key.CallKey.text` of each row; a scalar stands for all rows."""
    head = [_without_separator(texts) for texts in (tenants, services, calls)]
    # Nulls are left out: a row without a user has no fourth part.
    return pc.binary_join_element_wise(*head, users, _JOINT, null_handling="skip")


def _without_separator(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    # Scalars are this module's own, for which each of these calls would be in vain.
    known = texts is _TENANT or texts is _NOTHING
    return texts if known else pc.replace_substring(texts, SEPARATOR, "")


def by_request(charges: pa.Table) -> pa.Table:
    """One row a (trace, user, service, call), with the text of its key in ``key``."""
    keys = ["trace", "user", "service", "call", "eligible"]
    spent = pc.if_else(pc.is_valid(charges.column("backend")), charges.column("busy_us"), _NO_TIME)
    rows = _parted(sums(charges.append_column("backend_us", spent), keys, ["trace_id"]))
    texts = key_texts(_TENANT, *(rows.column(name) for name in ("user", "service", "call")))
    return rows.append_column("key", texts)


def by_call(charges: pa.Table) -> pa.Table:
    """One row a call that the cost arose in, with the text of its key (of no user) in ``key``.

    A backend's time counts as the backend's own operation. A charge that is transferred to its user
    counted here when it was charged to no user.
    """
    transferred = charges.column("transferred")
    if pc.any(transferred).as_py():
        charges = charges.filter(pc.invert(transferred))
    backend = charges.column("backend")
    spent = {
        "service": pc.coalesce(backend, charges.column("service")),
        "call": pc.if_else(
            pc.is_valid(backend), charges.column("operation"), charges.column("call")
        ),
    }
    costs = {name: charges.column(name) for name in _SUMMED if name != "backend_us"}
    in_backend = pc.if_else(pc.is_valid(backend), costs["busy_us"], _NO_TIME)
    table = pa.table(spent | costs | {"backend_us": in_backend})
    rows = _parted(sums(table, ["service", "call"]))
    texts = key_texts(_TENANT, _NO_USER, rows.column("service"), rows.column("call"))
    return rows.append_column("key", texts)


def _parted(rows: pa.Table) -> pa.Table:
    """With what was not spent in a backend as processor time; spans don't tell what was waiting."""
    rows = rows.append_column(
        "cpu_us", pc.subtract(rows.column("busy_us"), rows.column("backend_us"))
    )
    return rows.append_column("wait_us", pa.repeat(_NO_TIME, rows.num_rows))


def sums(rows: pa.Table, keys: list[str], firsts: Sequence[str] = ()) -> pa.Table:
    """The costs of the rows that share ``keys``, in the order that these come in.

    Args:
        rows: with the costs in columns of their names.
        keys: the columns to group by.
        firsts: further columns, of which each group has its first row's value.
    """
    summed = [name for name in _SUMMED if name in rows.column_names]
    if rows.num_rows <= FEW:
        return _sums_of_few(rows, keys, summed, firsts)
    # "first" is defined for one thread only, and so is the order of the groups.
    groups = rows.group_by(keys, use_threads=False).aggregate(
        [(name, "sum") for name in summed] + [(name, "first") for name in firsts]
    )
    return groups.rename_columns([*keys, *summed, *firsts])


def _sums_of_few(
    rows: pa.Table, keys: list[str], summed: list[str], firsts: Sequence[str]
) -> pa.Table:
    slots: dict[tuple[object, ...], int] = {}
    first: list[int] = []
    of_row = []
    for row, key in enumerate(zip(*(rows.column(name).to_pylist() for name in keys), strict=True)):
        slot = slots.setdefault(key, row)
        if slot == row:
            first.append(row)
        of_row.append(slot)
    columns = [rows.column(name).take(pa.array(first, pa.int32())) for name in (*keys, *firsts)]
    costs = []
    for name in summed:
        totals = [0] * rows.num_rows
        for slot, cost in zip(of_row, rows.column(name).to_pylist(), strict=True):
            totals[slot] += cost
        costs.append(pa.array([totals[slot] for slot in first], pa.int64()))
    split = len(keys)
    return pa.table([*columns[:split], *costs, *columns[split:]], names=[*keys, *summed, *firsts])
