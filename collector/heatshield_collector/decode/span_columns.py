"""Columns of spans that are told one Python object each: what the JSON formats share."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa

from heatshield import names
from heatshield_collector.model import DECODED_SPANS

__all__ = [
    "DETECTED",
    "NAMED",
    "RECORDED_USERS",
    "UNSAID",
    "NamedValues",
    "completed",
    "detected_table",
    "named_values",
]

DETECTED: Final = pa.schema(
    [
        DECODED_SPANS.field(name)
        for name in (
            *("trace_id", "span_id", "parent_span_id", "service", "instance", "name", "kind"),
            *("start_ns", "duration_ns", "status"),
            *("user", "call", "backend", "rejected", "elements", "rows", "bytes", "key_pattern"),
            *("size", "waited_us", "address"),
        )
    ]
)
"""The columns of ``model.DECODED_SPANS`` that linking and detection read."""

RECORDED_USERS: Final = (*names.USER_ATTRIBUTES, "heatshield.user")
"""Attributes that name the user in a recording, in order of precedence: its services may have been
instrumented by something else, and users named after the fact."""

_DB_SYSTEM: Final = ("db.system.name", "db.system")
_HOST: Final = ("server.address", "net.peer.name", "network.peer.address", "net.peer.ip")
_PORT: Final = ("server.port", "net.peer.port", "network.peer.port")

NUMBERS: Final = frozenset(
    {
        names.COST_ELEMENTS,
        names.REDIS_ARGS_LENGTH,
        names.COST_ROWS,
        names.COST_BYTES,
        names.BATCH_SIZE,
        names.WAITED_US,
    }
)
"""Attributes that count something."""

NAMED: Final = frozenset(
    {
        *RECORDED_USERS,
        *_DB_SYSTEM,
        *_HOST,
        *_PORT,
        *NUMBERS,
        names.CALL,
        names.REJECTED,
        names.REDIS_KEY_PATTERN,
    }
)
"""Attributes that columns are made from."""

_REDIS_COMMAND_WORDS: Final = 2
_INT64_MAX: Final = 2**63 - 1


class NamedValues(NamedTuple):
    """The columns that are made from single attributes, of one span."""

    user: str | None
    call: str | None
    backend: str | None
    rejected: str | None
    elements: int
    rows: int
    bytes: int
    key_pattern: str | None
    size: int | None
    waited_us: int
    address: str | None


UNSAID: Final = NamedValues(None, None, None, None, 0, 0, 0, None, None, 0, None)
"""Those of a span with none of these attributes."""


def named_values(found: Mapping[str, str | int]) -> NamedValues:
    """The columns that single attributes make, as :func:`~.traces.decode_traces` makes them.

    Args:
        found: of a span, the texts and whole numbers of the attributes in :data:`NAMED`.
    """
    if not found:
        return UNSAID
    user = None
    for name in RECORDED_USERS:
        value = found.get(name, "")
        if value != "":
            user = str(value)
            break
    backend = _first_text(found, _DB_SYSTEM)
    elements, rows, moved, size, waited_us = (
        (0, 0, 0, None, 0) if NUMBERS.isdisjoint(found) else _counts(found)
    )
    return NamedValues(
        user,
        _text(found, names.CALL),
        backend,
        _text(found, names.REJECTED),
        elements,
        rows,
        moved,
        _text(found, names.REDIS_KEY_PATTERN),
        size,
        waited_us,
        None if backend is None else _address(found),
    )


def _counts(found: Mapping[str, str | int]) -> tuple[int, int, int, int | None, int]:
    """Elements, rows, bytes, size and microseconds waited."""
    elements = found.get(names.COST_ELEMENTS)
    if not isinstance(elements, int):
        elements = _count(found, names.REDIS_ARGS_LENGTH) - _REDIS_COMMAND_WORDS
    size = found.get(names.BATCH_SIZE)
    return (
        min(max(elements, 0), _INT64_MAX),
        _count(found, names.COST_ROWS),
        _count(found, names.COST_BYTES),
        _count(found, names.BATCH_SIZE) if isinstance(size, int) else None,
        _count(found, names.WAITED_US),
    )


def detected_table(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """:data:`DETECTED` of rows that have its columns in its order.

    Raises:
        pa.ArrowInvalid, TypeError, ValueError, OverflowError: a value is not of its column's type.
    """
    columns = zip(*rows, strict=True) if rows else [() for _ in DETECTED]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, DETECTED, strict=True)],
        schema=DETECTED,
    )


def completed(detected: pa.Table) -> pa.Table:
    """``model.DECODED_SPANS`` of rows of :data:`DETECTED`; what these don't have is empty."""
    count = detected.num_rows
    columns = []
    for field in DECODED_SPANS:
        if field.name in DETECTED.names:
            columns.append(detected.column(field.name))
        elif field.name in ("events", "links"):
            columns.append(pa.nulls(count, field.type))
        else:
            empty: str | int = "" if field.type == pa.string() else 0
            columns.append(pa.repeat(pa.scalar(empty, field.type), count))
    return pa.table(columns, schema=DECODED_SPANS)


def _text(found: Mapping[str, str | int], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) else None


def _first_text(found: Mapping[str, str | int], known: Sequence[str]) -> str | None:
    for name in known:
        value = found.get(name)
        if isinstance(value, str):
            return value
    return None


def _count(found: Mapping[str, str | int], name: str) -> int:
    value = found.get(name)
    return min(max(value, 0), _INT64_MAX) if isinstance(value, int) else 0


def _address(found: Mapping[str, str | int]) -> str | None:
    host, port = (
        next((str(found[name]) for name in known if name in found), None)
        for known in (_HOST, _PORT)
    )
    if not host:
        return None
    return host if port is None else f"{host}:{port}"
