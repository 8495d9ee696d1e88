"""A batch of spans in, what they cost whom out.

Charged on arrival: a charge never waits for its trace to complete, only, for a moment, for the
trace's user. Self time is charged, of servers, consumers and what runs inside them; a client's
span is charged when its other side is a backend (``db.system``) that makes no spans of its own,
and not when it is a service that does.

A charge names its (user, service, call), where the call is the innermost enclosing one that a
breaker can refuse: the span says so (``heatshield.call``), or, from services that are instrumented by
something else, it is the nearest server span above it. Where the time was spent in a backend, the
charge also names that.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from heatshield_collector.link.duplicates import SeenSpans
from heatshield_collector.link.identity import (
    RANK_ENTRY,
    RANK_OTHER,
    RANK_SERVER,
    RANK_UNNAMED,
    RequestUsers,
)
from heatshield_collector.link.pending import Charge, PendingCharges, Settled
from heatshield_collector.link.tree import (
    CONSUMER,
    INTERNAL,
    SERVER,
    Placed,
    Tree,
    enclosing,
    keys_of,
    trace_keys,
)
from heatshield_collector.model import REQUEST_PARTS

__all__ = ["CHARGES", "Linked", "Linker"]

CHARGES: Final = {
    "trace": pl.UInt64,
    "user": pl.String,
    "service": pl.String,
    "call": pl.String,
    "backend": pl.String,  # null, or the backend the time was spent in
    "operation": pl.String,  # the span's own name
    "busy_us": pl.Int64,
    "elements": pl.Int64,
    "calls": pl.Int64,
    "errors": pl.Int64,
    "eligible": pl.Boolean,  # may count towards a trip
    "trace_id": pl.Binary,
}
"""Columns of a table of charges; one row a span."""


@dataclass(frozen=True, slots=True)
class Linked:
    """What linking a batch gave.

    Attributes:
        charges: columns as :data:`CHARGES` says; duplicates left out.
        parts: ``model.REQUEST_PARTS``, one row a trace of the batch.
        calls: rows of the spans that open a call, for rates and durations.
    """

    charges: pl.DataFrame
    parts: pa.Table
    calls: npt.NDArray[np.bool_]


class Linker:
    """Links spans of many batches. Not thread-safe: one thread owns it."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.seen = SeenSpans()
        self.users = RequestUsers()
        self.pending = PendingCharges()

    def link(self, spans: pa.Table, now_ns: int) -> Linked:
        """Charge a batch.

        Args:
            spans: ``model.SPANS``.
            now_ns: when it was received, nanoseconds since the Unix epoch.
        """
        spans = spans.combine_chunks()
        traces = trace_keys(_column(spans, "trace_id"))
        placed, roots = self._place(spans, traces, now_ns)
        frame = _frame(spans, traces, placed, roots)
        named = frame.filter(pl.col("named").is_not_null())
        self._learn(named, now_ns)
        fresh = self.seen.fresh(frame["identity"].to_numpy(), now_ns)
        charges = self._charge(frame.filter(pl.Series(fresh)), now_ns)
        return Linked(charges, _parts(frame, now_ns), frame["opens"].to_numpy())

    def _place(
        self, spans: pa.Table, traces: npt.NDArray[np.uint64], now_ns: int
    ) -> tuple[Placed, npt.NDArray[np.bool_]]:
        keys, _ = keys_of(traces, _column(spans, "span_id"))
        parents, has_parent = keys_of(traces, _column(spans, "parent_span_id"))
        placed = self.tree.place(
            keys,
            parents,
            has_parent,
            _column(spans, "start_ns").to_numpy(),
            _column(spans, "duration_ns").to_numpy(),
            _column(spans, "kind").to_numpy(),
            now_ns,
        )
        return placed, ~has_parent

    def _learn(self, named: pl.DataFrame, now_ns: int) -> None:
        distinct = named.select("trace", "named", "rank").unique()
        self.users.learn(distinct.iter_rows(), now_ns)

    def _charge(self, fresh: pl.DataFrame, now_ns: int) -> pl.DataFrame:
        worth = fresh.filter(
            (pl.col("busy_us") > 0) | (pl.col("elements") > 0) | (pl.col("calls") > 0)
        )
        traces = worth["trace"].unique().to_list()
        known = [(trace, self.users.of(trace)) for trace in traces]
        identities = pl.DataFrame(
            [(trace, who.user, not who.conflict) for trace, who in known if who],
            schema={"trace": pl.UInt64, "user": pl.String, "eligible": pl.Boolean},
            orient="row",
        )
        charged = worth.join(identities, on="trace", how="left").select(*CHARGES)
        nameless = charged["user"].is_null()
        settled: list[Settled] = []
        if nameless.any():
            self.pending.hold(_pending(charged.filter(nameless)), now_ns)
            charged = charged.filter(~nameless)
        if len(self.pending):
            for trace, who in known:
                if who:
                    settled += self.pending.resolve(trace, who.user, eligible=not who.conflict)
        return pl.concat([charged, _frame_of(settled + self.pending.give_up(now_ns))])

    def overdue(self, now_ns: int) -> pl.DataFrame:
        """Charges that nobody came for, when no batch has come to say so."""
        return _frame_of(self.pending.give_up(now_ns))


def _column(table: pa.Table, name: str) -> pa.Array:
    chunks = table.column(name).chunks
    return chunks[0] if chunks else pa.array([], table.schema.field(name).type)


def _frame(
    spans: pa.Table,
    traces: npt.NDArray[np.uint64],
    placed: Placed,
    roots: npt.NDArray[np.bool_],
) -> pl.DataFrame:
    """Everything about the spans that charging and summing up need, one row a span."""
    frame = pl.DataFrame(
        pl.from_arrow(
            spans.select(
                ["trace_id", "span_id", "service", "name", "kind", "user", "call", "backend"]
                + ["status", "rejected", "elements", "start_ns", "duration_ns"]
            )
        )
    )
    kind = frame["kind"].to_numpy()
    own_call = frame.select(
        pl.col("call").eq_missing(pl.col("name")) & (pl.col("kind") <= INTERNAL)
    ).to_series()
    opens = np.isin(kind, (SERVER, CONSUMER)) | own_call.to_numpy()
    call_row = enclosing(placed.parent, opens)
    above = frame["name"].gather(np.maximum(call_row, 0)).set(pl.Series(call_row < 0), None)
    spent_here = np.isin(kind, (0, INTERNAL, SERVER, CONSUMER))
    busy_ns = np.where(spent_here | frame["backend"].is_not_null().to_numpy(), placed.self_ns, 0)
    rank = np.where(roots, RANK_ENTRY, np.where(kind == SERVER, RANK_SERVER, RANK_OTHER))
    identity = pl.struct("span_id", "kind", "service").hash()
    rejected = pl.col("rejected").is_not_null()
    return frame.with_columns(
        pl.Series("trace", traces),
        pl.Series("root", roots),
        pl.Series("opens", opens),
        pl.Series("busy_ns", busy_ns),
        pl.Series("busy_us", busy_ns // 1000),
        pl.Series("rank", rank.astype(np.int8)),
        (identity ^ pl.Series(traces)).alias("identity"),
        pl.coalesce(pl.col("call"), above, pl.col("name")).alias("call"),
        pl.col("name").alias("operation"),
        pl.col("user").alias("named"),
        pl.Series("calls", opens.astype(np.int64)),
        ((pl.col("status") == 2) & ~rejected).cast(pl.Int64).alias("errors"),
    ).drop("user")


def _parts(frame: pl.DataFrame, now_ns: int) -> pa.Table:
    """One row a trace: what this batch saw of the request."""
    root = pl.col("root")
    named = frame.filter(pl.col("named").is_not_null()).select("trace", "rank", "named")
    best = named.sort("rank").unique("trace", keep="first")
    parts = (
        frame.group_by("trace")
        .agg(
            pl.col("trace_id").first(),
            pl.col("start_ns").min(),
            (pl.col("start_ns") + pl.col("duration_ns")).max().alias("end_ns"),
            pl.col("service").filter(root).first(),
            pl.col("name").filter(root).first().alias("call"),
            pl.len().cast(pl.Int32).alias("spans"),
            pl.col("errors").sum().cast(pl.Int32),
            pl.col("busy_ns").sum(),
            pl.col("elements").sum(),
        )
        .join(best, on="trace", how="left")
        .with_columns(
            pl.col("named").alias("user"),
            pl.col("rank").fill_null(RANK_UNNAMED).cast(pl.Int8).alias("user_rank"),
            pl.lit(now_ns, pl.Int64).alias("received_ns"),
            pl.lit(now_ns, pl.Int64).alias("last_received_ns"),
        )
    )
    return parts.select(REQUEST_PARTS.names).to_arrow().cast(REQUEST_PARTS)


_WAITS: Final = ("trace", "service", "call", "backend", "operation")
_COSTS: Final = ("busy_us", "elements", "calls", "errors")


def _pending(charges: pl.DataFrame) -> Iterable[Charge]:
    sums = charges.group_by(_WAITS).agg(pl.col(_COSTS).sum(), pl.col("trace_id").first())
    return (Charge(**row) for row in sums.select(Charge._fields).iter_rows(named=True))


def _frame_of(settled: list[Settled]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = [
        {**one.charge._asdict(), "user": one.user, "eligible": one.eligible} for one in settled
    ]
    return pl.DataFrame(rows, schema=CHARGES)
