"""Charges spans: a batch in, the cost of each span for its user and call out.

A span is charged when it arrives. A charge never waits for its trace to complete; it waits for the
trace's user, for a moment. Self time is charged, of servers, consumers and what runs inside them; a
client's span is charged when its other side is a backend (``db.system``), which makes no spans of
its own, and not when it is a service that does.

Columns are NumPy and Arrow arrays throughout: a batch may be eight spans of an idle platform or
twenty thousand of a busy one, and a data frame's fixed cost would be most of the former.
"""

from collections.abc import Callable
from functools import partial
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from heatshield.call_key import LONGEST
from heatshield.clock import Instant
from heatshield.identity.wire_id import wire_id
from heatshield_collector.link.charges import (
    CHARGES,
    Booleans,
    Integers,
    LinkedColumns,
    Owners,
    charged,
    settled_table,
)
from heatshield_collector.link.duplicates import SeenSpans, UnstoredSpans
from heatshield_collector.link.identity import (
    RANK_ENTRY,
    RANK_OTHER,
    RANK_SERVER,
    RequestUsers,
)
from heatshield_collector.link.linked import Linked
from heatshield_collector.link.pending import Charge, PendingCharges, Settled
from heatshield_collector.link.requests import request_parts
from heatshield_collector.link.torn import TornTraces
from heatshield_collector.link.tree import (
    CLIENT,
    CONSUMER,
    INTERNAL,
    PRODUCER,
    SERVER,
    Tree,
    enclosing,
    keys_of,
    trace_keys,
)
from heatshield_collector.model import DECODED_SPANS, SPANS

__all__ = ["Linker"]

_NAMING: Final = ("user", "service", "name", "call")
"""Columns of what a breaker names. Senders choose the texts, so what is longer than
:data:`~heatshield.call_key.LONGEST` or not printable is hashed, as services do it: two that begin
alike must not be charged as one, and each can be cut."""

_CUT: Final = ("backend", "key_pattern", "instance", "address")
"""Columns of other texts that linking remembers: what is longer is cut."""

_SPACE, _TILDE = np.uint8(ord(" ")), np.uint8(ord("~"))
"""The first and the last visible character of ASCII."""

_NOT_STORED: Final = list(DECODED_SPANS)[len(SPANS) :]
_ERROR: Final = 2
_KIND_MIX: Final = np.uint64(0x2545F4914F6CDD1D)

_NO_CHARGES: Final = CHARGES.empty_table()


class Linker:
    """Links spans of many batches. Not thread-safe: one thread owns it.

    Args:
        reports: tells which charges, rows of ``link.CHARGES``, are of processes that send charge
            reports, at monotonic seconds: those wait for no user, for reports say whose they are.
    """

    def __init__(self, reports: Callable[[pa.Table, float], Booleans] | None = None) -> None:
        self._reports = reports
        self.tree = Tree()
        self.seen = SeenSpans()
        self._unstored = UnstoredSpans()
        self.users = RequestUsers()
        self._torn = TornTraces()
        self.pending = PendingCharges()

    def link(self, spans: pa.Table, instant: Instant) -> Linked:
        """Charge a batch.

        Args:
            spans: ``model.DECODED_SPANS``, or ``model.SPANS`` as the store has them.
            instant: when it was received. What is remembered ages on the monotonic clock; requests
                are stamped with the wall clock's time.
        """
        now_ns = _monotonic_ns(instant)
        columns = _bounded(_columns(spans))
        batch = self._batch(columns, now_ns)
        named = self._learn(columns["user"], batch, now_ns)
        fresh = self.seen.fresh(batch.identity, now_ns)
        worth = fresh & ((batch.busy_ns > 0) | batch.opens)
        for cost in ("elements", "rows", "bytes"):
            worth |= fresh & (columns[cost].to_numpy() > 0)
        charges = self._charge(columns, batch, np.flatnonzero(worth), now_ns)
        settled = self.pending.give_up(now_ns) + self._resolve(named) + self._torn.settled(now_ns)
        if settled:
            charges = pa.concat_tables([charges, settled_table(settled)])
        summed = partial(
            request_parts,
            columns,
            batch.traces,
            batch.roots,
            batch.rank,
            batch.errors,
            batch.busy_ns,
            fresh | self._unstored.take(batch.identity),
            instant.epoch_ns,
        )
        return Linked(charges, summed, batch.opens & fresh, batch.errors)

    def overdue(self, instant: Instant) -> Linked:
        """Charges that no span has named a user of in time, when no batch has come meanwhile."""
        now_ns = _monotonic_ns(instant)
        settled = self.pending.give_up(now_ns) + self._torn.settled(now_ns)
        return Linked.of_charges(settled_table(settled) if settled else _NO_CHARGES)

    def charged_before(self, spans: pa.Table) -> None:
        """Take spans as charged that an earlier process has charged: they may be delivered again.

        Args:
            spans: as :meth:`~heatshield_collector.store.TelemetryStore.newest_spans` tells them.
        """
        self.seen.remember(_identities(spans))

    def not_stored(self, spans: pa.Table) -> None:
        """Remember that spans of a batch were charged and not stored; from any thread.

        Args:
            spans: as :meth:`link` had them.
        """
        self._unstored.add(_identities(spans))

    def _batch(self, columns: dict[str, pa.Array], now_ns: int) -> LinkedColumns:
        traces = trace_keys(columns["trace_id"])
        keys, _ = keys_of(traces, columns["span_id"])
        parents, has_parent = keys_of(traces, columns["parent_span_id"])
        kind = columns["kind"].to_numpy()
        start, duration = (columns[name].to_numpy() for name in ("start_ns", "duration_ns"))
        placed = self.tree.place(keys, parents, has_parent, start, duration, kind, now_ns)
        service = _text_keys(columns["service"])
        name, call = columns["name"], columns["call"]
        guards = _true(pc.equal(call, name)) & (kind <= INTERNAL)
        opens = (kind == SERVER) | (kind == CONSUMER) | guards
        above = enclosing(placed.parent, opens)
        elsewhere = ((kind == CLIENT) | (kind == PRODUCER)) & ~_valid(columns["backend"])
        rank = np.where(~has_parent, RANK_ENTRY, np.where(kind == SERVER, RANK_SERVER, RANK_OTHER))
        failed = columns["status"].to_numpy() == _ERROR
        waited_ns = pc.fill_null(columns["waited_us"], 0).to_numpy() * 1_000
        return LinkedColumns(
            traces=traces,
            keys=keys ^ service,
            parents=placed.parent,
            above=np.where(placed.local, parents ^ service, np.uint64(0)),
            identity=_identity(keys ^ service, kind),
            roots=~has_parent,
            rank=rank,
            opens=opens,
            errors=failed & ~_valid(columns["rejected"]),
            call=pc.coalesce(call, name.take(pa.array(above, mask=above < 0)), name),
            # in line a call costs nothing, and the user may wait only for being paced
            busy_ns=np.where(elsewhere, 0, np.maximum(placed.self_ns - waited_ns, 0)),
        )

    def _learn(self, users: pa.Array, batch: LinkedColumns, now_ns: int) -> list[int]:
        """Learn the users that this batch names; the traces that it names one for, in order."""
        rows = np.flatnonzero(_valid(users))
        if not len(rows):
            return []
        traces, named = batch.traces[rows], users.take(pa.array(rows))
        # The spans of a request mostly stand together, and one of them says it for all.
        others = np.asarray(pc.not_equal(named.slice(1), named.slice(0, len(rows) - 1)))
        first = np.flatnonzero(np.append(True, (traces[1:] != traces[:-1]) | others))
        ranks = np.minimum.reduceat(batch.rank[rows], first).tolist()
        told = traces[first].tolist()
        users_told = named.take(pa.array(first)).to_pylist()
        self.users.learn(zip(told, users_told, ranks, strict=True), now_ns)
        return list(dict.fromkeys(told))

    def _resolve(self, named: list[int]) -> list[Settled]:
        """Settle charges that waited for a user that this batch names."""
        settled: list[Settled] = []
        if not len(self.pending):
            return settled
        for trace in named:
            if known := self.users.of(trace):
                settled += self.pending.resolve(trace, known.user, eligible=not known.conflict)
        return settled

    def _charge(
        self, columns: dict[str, pa.Array], batch: LinkedColumns, rows: Integers, now_ns: int
    ) -> pa.Table:
        """Charge the spans of these rows whose users are known; the others wait."""
        owners, missing = self._owners(columns, batch, rows, now_ns)
        charges = charged(columns, batch, rows, owners)
        if missing.any():
            self._torn.hold(charges.filter(missing != 0), missing[missing != 0], now_ns)
            charges = charges.filter(missing == 0)
        return self._hold(charges, now_ns) if owners.users.null_count else charges

    def _owners(
        self, columns: dict[str, pa.Array], batch: LinkedColumns, rows: Integers, now_ns: int
    ) -> tuple[Owners, npt.NDArray[np.uint64]]:
        """Whom the spans at these rows are charged to: their trace's user; in a conflict, whom
        their own service has named. And the keys of spans that those wait for who may yet be named.
        """
        missing = np.zeros(len(rows), dtype=np.uint64)
        traces, of_row = np.unique(batch.traces[rows], return_inverse=True)
        known = [self.users.of(trace) for trace in traces.tolist()]
        users = [one and one.user for one in known]
        eligible = [bool(one and not one.conflict) for one in known]
        if any(one and one.conflict for one in known):
            torn = np.array([bool(one and one.conflict) for one in known])[of_row]
            seen, missing[torn] = self._torn.users(columns, batch, rows[torn], now_ns)
            place = seen.indices.fill_null(-1).to_numpy()
            of_row[torn] = np.where(place >= 0, len(users) + place, of_row[torn])
            users += seen.dictionary.to_pylist()
            eligible += [True] * len(seen.dictionary)
        owners = Owners(
            pa.array(users, pa.string()), pa.array(eligible, pa.bool_()), pa.array(of_row)
        )
        return owners, missing

    def _hold(self, charges: pa.Table, now_ns: int) -> pa.Table:
        """Put by charges without a user; those that there is no room for are charged to no user."""
        nameless = pc.is_null(charges.column("user"))
        if self._reports is not None:
            reported = self._reports(charges, now_ns / 1e9)
            nameless = pc.and_not(nameless, pa.chunked_array([reported]))
        unnamed = charges.filter(nameless).drop_columns(["user", "eligible", "transferred"])
        settled = self.pending.hold(map(Charge.of_row, unnamed.to_pylist()), now_ns)
        named = charges.filter(pc.invert(nameless))
        return pa.concat_tables([named, settled_table(settled)]) if settled else named


def _monotonic_ns(instant: Instant) -> int:
    return round(instant.monotonic_s * 1e9)


def _in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _columns(spans: pa.Table) -> dict[str, pa.Array]:
    """``model.DECODED_SPANS``, each column in one piece; what is not there is null."""
    columns = dict(zip(spans.column_names, map(_in_one_piece, spans.columns), strict=True))
    for field in _NOT_STORED:
        if field.name not in columns:
            columns[field.name] = pa.nulls(spans.num_rows, field.type)
    return columns


def _bounded(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """The same columns, but no text that linking remembers is longer than ``LONGEST``."""
    bounded = dict(columns)
    for name in _NAMING:
        bounded[name] = _wire_ids(columns[name])
    for name in _CUT:
        # Characters are never more than bytes, whose count needs no look at the text.
        if _longest_bytes(columns[name]) > LONGEST:
            bounded[name] = pc.utf8_slice_codeunits(columns[name], 0, LONGEST)
    return bounded


def _wire_ids(texts: pa.Array) -> pa.Array:
    """Each text as services send it (:func:`~heatshield.identity.wire_id.wire_id`)."""
    if _longest_bytes(texts) <= LONGEST and _is_visible_ascii(texts):
        return texts
    distinct = pc.dictionary_encode(texts)
    named = pa.array([wire_id(one) for one in distinct.dictionary.to_pylist()], pa.string())
    return named.take(distinct.indices)


def _is_visible_ascii(texts: pa.Array) -> bool:
    """Whether no text needs a closer look; of all texts' bytes at once, which lie in a row."""
    data = texts.buffers()[2]
    if not len(texts) or data is None:
        return True
    begins = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4)
    content = np.frombuffer(data, np.uint8)[begins[0] : begins[-1]]
    return not content.size or bool((content - _SPACE <= _TILDE - _SPACE).all())


def _longest_bytes(texts: pa.Array) -> int:
    """The length of the longest text, from where each begins: Arrow's own way calls it twice."""
    if not len(texts):
        return 0
    begins = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, texts.offset * 4)
    return int(np.diff(begins).max())


def _identities(spans: pa.Table) -> npt.NDArray[np.uint64]:
    """uint64[n]: the same of spans as they are stored."""
    names = ("trace_id", "span_id", "kind", "service")
    columns = {name: _in_one_piece(spans.column(name)) for name in names}
    keys, _ = keys_of(trace_keys(columns["trace_id"]), columns["span_id"])
    service = _text_keys(_wire_ids(columns["service"]))
    return _identity(keys ^ service, columns["kind"].to_numpy())


def _identity(keys: npt.NDArray[np.uint64], kind: npt.NDArray[np.int8]) -> npt.NDArray[np.uint64]:
    """uint64[n]: one number a span, of all that tells it from others."""
    identity: npt.NDArray[np.uint64] = keys ^ kind.astype(np.uint64) * _KIND_MIX
    return identity


def _valid(values: pa.Array) -> Booleans:
    return np.asarray(values.is_valid())


def _true(values: pa.Array) -> Booleans:
    return np.asarray(pc.fill_null(values, pa.scalar(False, pa.bool_())))


def _text_keys(texts: pa.Array) -> npt.NDArray[np.uint64]:
    """uint64[n]: a number for each text, the same in every batch."""
    distinct = texts.dictionary_encode()
    keys = [crc32(text.encode()) << 32 for text in distinct.dictionary.to_pylist()]
    of_text: npt.NDArray[np.uint64] = np.array(keys, dtype=np.uint64)[distinct.indices.to_numpy()]
    return of_text
