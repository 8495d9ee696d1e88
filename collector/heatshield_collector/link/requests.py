"""What a batch saw of each request: one row a trace, for the store to add up."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from heatshield_collector.link.identity import RANK_UNNAMED
from heatshield_collector.model import REQUEST_PARTS

__all__ = ["request_parts"]

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
    now_ns: int,
) -> pa.Table:
    """Sum a batch of spans up by trace.

    Args:
        columns: of ``model.SPANS``, n entries each, as are the arrays that follow.
        traces: the key of each span's trace.
        roots: which spans have no parent.
        rank: precedence of each span as a witness of who the user is.
        errors: which spans failed.
        busy_ns: self time that is charged.
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
    np.maximum.at(end, of_span, start + np.minimum(duration, np.iinfo(np.int64).max - start))
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
            pa.array(np.bincount(of_span, minlength=count).astype(np.int32)),
            pa.array(_sums(of_span, errors.astype(np.int64), count).astype(np.int32)),
            pa.array(_sums(of_span, busy_ns, count)),
            pa.array(_sums(of_span, columns["elements"].to_numpy(), count)),
            received,
            received,
        ],
        schema=REQUEST_PARTS,
    )


def _witness(users: pa.Array, of_span: Integers, rank: Integers, count: int) -> Integers:
    """int64[count]: for each trace the span of lowest rank that names a user, or none."""
    named = np.flatnonzero(np.asarray(users.is_valid()))
    # The last write wins, so the most credible goes last.
    named = named[np.argsort(-rank[named], kind="stable")]
    witness = np.full(count, _NONE)
    witness[of_span[named]] = named
    return witness


def _taken(values: pa.Array, at: Integers) -> pa.Array:
    return values.take(pa.array(at, mask=at == _NONE))


def _sums(of_span: Integers, values: Integers, count: int) -> Integers:
    # Sums saturate far beyond anything real: a sender's absurd count must not wrap around.
    sums = np.zeros(count, dtype=np.int64)
    np.add.at(sums, of_span, np.minimum(values, 2**40))
    return sums
