"""Sums up what a batch has of each request: one row a trace, which the store adds up."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from heatshield_collector.link.identity import RANK_UNNAMED
from heatshield_collector.model import REQUEST_PARTS

__all__ = ["request_parts", "unlinked_parts"]

Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

_NONE: Final = -1


def request_parts(
    columns: dict[str, pa.Array],
    traces: npt.NDArray[np.uint64],
    roots: Booleans,
    rank: Integers,
    errors: Booleans,
    busy_ns: Integers,
    counted: Booleans,
    now_ns: int,
) -> pa.Table:
    """Sum a batch of spans up by trace.

    Args:
        columns: of ``model.SPANS``, n entries each, as are the arrays that follow.
        traces: the key of each span's trace.
        roots: which spans have no parent.
        rank: precedence of the user that each span names.
        errors: which spans failed.
        busy_ns: self time that is charged.
        counted: which spans no part that is stored has counted before.
        now_ns: when the batch was received.

    Returns:
        ``model.REQUEST_PARTS``.
    """
    distinct, first, of_span = np.unique(traces, return_index=True, return_inverse=True)
    count = len(distinct)
    start, duration = (columns[name].to_numpy() for name in ("start_ns", "duration_ns"))
    begin = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(begin, of_span, start)
    end = np.zeros(count, dtype=np.int64)
    np.maximum.at(end, of_span, _end(start, duration))
    root = np.full(count, _NONE)
    root[of_span[roots]] = np.flatnonzero(roots)
    witness = _witness(columns["user"], of_span, rank, count)
    ranks = np.where(witness == _NONE, RANK_UNNAMED, rank[np.maximum(witness, 0)])
    received = pa.array(np.full(count, now_ns))
    return pa.table(
        [
            columns["trace_id"].take(pa.array(first)),
            pa.array(begin),
            pa.array(end),
            _taken(columns["user"], witness),
            pa.array(ranks.astype(np.int8)),
            _taken(columns["service"], root),
            _taken(columns["name"], root),
            pa.array(_sums(of_span, counted.astype(np.int64), count).astype(np.int32)),
            pa.array(_sums(of_span, (errors & counted).astype(np.int64), count).astype(np.int32)),
            pa.array(_sums(of_span, busy_ns * counted, count)),
            pa.array(_sums(of_span, columns["elements"].to_numpy() * counted, count)),
            received,
            received,
            _services(columns["service"], of_span, count),
        ],
        schema=REQUEST_PARTS,
    )


def unlinked_parts(spans: pa.Table, now_ns: int) -> pa.Table:
    """Say of a batch that could not be linked which requests it has spans of.

    The store finds the spans of a request through its parts.

    Args:
        spans: ``model.SPANS``.
        now_ns: when the batch was received.

    Returns:
        ``model.REQUEST_PARTS``.
    """
    start, duration = (spans.column(name).to_numpy() for name in ("start_ns", "duration_ns"))
    ends = pa.array(_end(start, duration))
    told = spans.select(["trace_id", "start_ns", "service"]).append_column("end_ns", ends)
    by_trace = told.group_by("trace_id", use_threads=False).aggregate(
        [("start_ns", "min"), ("end_ns", "max"), ("start_ns", "count"), ("service", "distinct")]
    )
    count = by_trace.num_rows
    known = {
        "trace_id": by_trace.column("trace_id"),
        "start_ns": by_trace.column("start_ns_min"),
        "end_ns": by_trace.column("end_ns_max"),
        "user_rank": np.full(count, RANK_UNNAMED, dtype=np.int8),
        "spans": by_trace.column("start_ns_count").cast(pa.int32()),
        "received_ns": np.full(count, now_ns),
        "last_received_ns": np.full(count, now_ns),
        "services": by_trace.column("service_distinct"),
    }
    columns = [
        known[name] if name in known else _nothing(name, count) for name in REQUEST_PARTS.names
    ]
    return pa.table(columns, schema=REQUEST_PARTS)


def _nothing(name: str, count: int) -> pa.Array:
    """A column without information: texts are null, numbers zero."""
    kind = REQUEST_PARTS.field(name).type
    if pa.types.is_string(kind):
        return pa.nulls(count, kind)
    return pa.repeat(pa.scalar(0, kind), count)


def _end(start: Integers, duration: Integers) -> Integers:
    """int64[n]: ends of spans, saturating."""
    ends: Integers = start + np.minimum(duration, np.iinfo(np.int64).max - start)
    return ends


def _witness(users: pa.Array, of_span: Integers, rank: Integers, count: int) -> Integers:
    """int64[count]: for each trace the span of lowest rank that names a user, or none."""
    named = np.flatnonzero(np.asarray(users.is_valid()))
    # The last write wins, so the lowest rank goes last.
    named = named[np.argsort(-rank[named], kind="stable")]
    witness = np.full(count, _NONE)
    witness[of_span[named]] = named
    return witness


def _taken(values: pa.Array, at: Integers) -> pa.Array:
    return values.take(pa.array(at, mask=at == _NONE))


def _services(services: pa.Array, of_span: Integers, count: int) -> pa.Array:
    """list<string>[count]: the services with spans of each trace, sorted."""
    encoded = services.dictionary_encode()
    names = encoded.dictionary
    order = np.argsort(np.array(names.to_pylist(), dtype=object))
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    pairs = np.unique(of_span * len(names) + place[encoded.indices.to_numpy()])
    of_pair, which = np.divmod(pairs, max(1, len(names)))
    offsets = np.searchsorted(of_pair, np.arange(count + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(order[which])))


def _sums(of_span: Integers, values: Integers, count: int) -> Integers:
    # Sums saturate far beyond anything real: a sender's absurd count must not wrap around.
    sums = np.zeros(count, dtype=np.int64)
    np.add.at(sums, of_span, np.minimum(values, 2**40))
    return sums
