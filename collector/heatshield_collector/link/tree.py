"""Places spans in their trees: parents, self times and enclosing calls of a batch.

*Self time* of a span is its duration less the union of its direct children's intervals, each
clipped to the span. The spans of one process arrive together or children first, because a child
ends first; so only children wait, in bounded memory, for a parent that a later batch brings. A
child that arrives after its parent can't lower what was charged and is counted as late.

Spans are named by 64-bit keys, a mix of their trace and span ids (both random): two of a million
spans share a key with a chance of 3e-8, and then one self time is off.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["CLIENT", "CONSUMER", "INTERNAL", "PRODUCER", "SERVER", "Tree", "keys_of", "trace_keys"]

INTERNAL: Final = 1
SERVER: Final = 2
CLIENT: Final = 3
PRODUCER: Final = 4
CONSUMER: Final = 5

SPAN_ID_BYTES: Final = 8

WAIT_NS: Final = 60 * 10**9
"""How long a child waits for its parent: as long as pending charges do."""

WAITING_MOST: Final = 200_000
"""Children that wait at once; 32 bytes each."""

LONGEST_NS: Final = 3600 * 10**9
"""Durations are clamped to an hour here, so that sums over a batch fit 64 bits."""

DEEPEST: Final = 64
"""Levels that are climbed to find the enclosing call."""

Keys = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

_TRACE_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_SPAN_MIX: Final = np.uint64(0xC2B2AE3D27D4EB4F)


def trace_keys(trace_ids: pa.Array) -> Keys:
    """uint64[n]: one number a trace."""
    halves = _words(trace_ids).reshape(-1, 2)
    mixed: Keys = halves[:, 0] * _TRACE_MIX ^ halves[:, 1]
    return mixed


def keys_of(traces: Keys, span_ids: pa.Array) -> tuple[Keys, npt.NDArray[np.bool_]]:
    """Keys of spans, and which have one at all (a root's parent has none)."""
    lengths = np.diff(_offsets(span_ids))
    named = lengths == SPAN_ID_BYTES
    words = np.zeros(len(span_ids), dtype=np.uint64)
    words[named] = _words(span_ids)
    keys: Keys = words * _SPAN_MIX ^ traces
    return keys, named


def _offsets(ids: pa.Array) -> Integers:
    buffer = ids.buffers()[1]
    offsets = np.frombuffer(buffer, dtype=np.int32)[ids.offset : ids.offset + len(ids) + 1]
    return offsets.astype(np.int64)


def _words(ids: pa.Array) -> Keys:
    """The bytes of ids, each of 0, 8 or 16 bytes, one after the other as 64-bit words."""
    offsets, data = _offsets(ids), ids.buffers()[2]
    if data is None:
        return np.empty(0, dtype=np.uint64)
    # The copy aligns the words; a slice of a bytes column need not be.
    return np.frombuffer(bytes(data[int(offsets[0]) : int(offsets[-1])]), dtype="<u8")


@dataclass(slots=True)
class _Waiting:
    """Children whose parent has not been seen."""

    parent: Keys = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    start: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    end: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    since: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def keep(self, which: npt.NDArray[np.bool_]) -> None:
        self.parent, self.start = self.parent[which], self.start[which]
        self.end, self.since = self.end[which], self.since[which]

    def add(self, parent: Keys, start: Integers, end: Integers, now_ns: int) -> None:
        self.parent = np.concatenate([self.parent, parent])
        self.start = np.concatenate([self.start, start])
        self.end = np.concatenate([self.end, end])
        self.since = np.concatenate([self.since, np.full(len(parent), now_ns)])


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the spans of a batch stand.

    Attributes:
        parent: int64[n], row of the parent in the batch, -1 when it is not in it.
        local: bool[n], whether the parent is in the same process, wherever it is.
        self_ns: int64[n], self time.
    """

    parent: Integers
    local: npt.NDArray[np.bool_]
    self_ns: Integers


class Tree:
    """Places batches of spans, remembering children that wait for their parent.

    Attributes:
        evicted: children that waited too long, or that there was no room for.
    """

    def __init__(self, waiting_most: int = WAITING_MOST) -> None:
        self._waiting = _Waiting()
        self._most = waiting_most
        self.evicted = 0

    def place(
        self,
        keys: Keys,
        parent_keys: Keys,
        has_parent: npt.NDArray[np.bool_],
        start_ns: Integers,
        duration_ns: Integers,
        kind: npt.NDArray[np.int8],
        now_ns: int,
    ) -> Placed:
        """Find parents and self times.

        Args:
            keys: of the spans, in order of arrival.
            parent_keys: of their parents.
            has_parent: which spans have one at all.
            start_ns: nanoseconds since the Unix epoch.
            duration_ns: nanoseconds.
            kind: OTLP span kinds. A server's or consumer's parent is in another process, where
                the client's span covers the time.
            now_ns: when the batch was received; monotonic.
        """
        duration = np.minimum(duration_ns, LONGEST_NS)
        # Zipkin gives both sides of a call one id: what ran inside belongs to the server's.
        order = np.lexsort(((kind == CLIENT) | (kind == PRODUCER), keys))
        ordered = keys[order]
        # A span that names itself as its parent would lose all its time to itself.
        local = has_parent & (kind != SERVER) & (kind != CONSUMER) & (parent_keys != keys)
        parent = np.full(len(keys), -1, dtype=np.int64)
        rows = np.flatnonzero(local)
        parent[rows] = _find(ordered, order, parent_keys[rows])
        inside = np.flatnonzero(parent >= 0)
        end = start_ns + duration
        of_waiting = _find(ordered, order, self._waiting.parent)
        met = of_waiting >= 0
        self_ns = duration - _covered(
            np.concatenate([parent[inside], of_waiting[met]]),
            np.concatenate([start_ns[inside], self._waiting.start[met]]),
            np.concatenate([end[inside], self._waiting.end[met]]),
            start_ns,
            duration,
        )
        alone = rows[parent[rows] < 0]
        self._wait(~met, parent_keys[alone], start_ns[alone], end[alone], now_ns)
        return Placed(parent, local, self_ns)

    def _wait(
        self,
        keep: npt.NDArray[np.bool_],
        parent: Keys,
        start: Integers,
        end: Integers,
        now_ns: int,
    ) -> None:
        before = int(keep.sum()) + len(parent)
        self._waiting.keep(keep & (self._waiting.since > now_ns - WAIT_NS))
        self._waiting.add(parent, start, end, now_ns)
        excess = len(self._waiting.parent) - self._most
        if excess > 0:
            self._waiting.keep(np.arange(len(self._waiting.parent)) >= excess)
        self.evicted += before - len(self._waiting.parent)


def _find(ordered: Keys, order: Integers, wanted: Keys) -> Integers:
    """int64[len(wanted)]: the row that has each key, -1 where none has."""
    if not len(ordered) or not len(wanted):
        return np.full(len(wanted), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    found: Integers = np.where(ordered[at] == wanted, order[at], -1)
    return found


def _covered(
    parent: Integers, start: Integers, end: Integers, span_start: Integers, duration: Integers
) -> Integers:
    """int64[n]: nanoseconds of each span that its children's intervals cover together.

    All parents are swept at once: laid end to end on one axis, intervals of a later parent begin
    after those of an earlier one end, so one running maximum serves for all.
    """
    covered = np.zeros(len(duration), dtype=np.int64)
    if not len(parent):
        return covered
    base = np.cumsum(duration) - duration
    left = np.clip(start - span_start[parent], 0, duration[parent]) + base[parent]
    right = np.clip(end - span_start[parent], 0, duration[parent]) + base[parent]
    order = np.argsort(left, kind="stable")
    # Zero-length parents share a place on the axis, and have nothing to cover.
    left, right, parent = left[order], right[order], parent[order]
    reached = np.maximum.accumulate(right)
    before = np.concatenate([[np.int64(-1)], reached[:-1]])
    np.add.at(covered, parent, np.maximum(0, right - np.maximum(left, before)))
    return covered


def enclosing(parent: Integers, opens: npt.NDArray[np.bool_]) -> Integers:
    """int64[n]: the nearest span at or above each row that opens a call; -1 where none is known.

    Args:
        parent: row of each span's parent, -1 for none.
        opens: which spans open a call.
    """
    at = np.arange(len(parent))
    for _ in range(DEEPEST):
        climbing = (at >= 0) & ~opens[at]
        if not climbing.any():
            break
        at = np.where(climbing, parent[at], at)
    return np.where((at >= 0) & opens[at], at, -1)
