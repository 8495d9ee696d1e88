"""Rows of ``model.DECODED_SPANS`` with ordinary values, and the slow, obvious self time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from heatshield_collector.model import DECODED_SPANS

START_NS = 1_700_000_000 * 10**9
MS = 1_000_000
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def span_id(number: int) -> bytes:
    return number.to_bytes(8, "big") if number else b""


def span(number: int, trace: int = 1, parent: int = 0, **columns: Any) -> dict[str, Any]:
    """One span; ``parent`` 0 makes it a root."""
    row = {
        "trace_id": trace_id(trace),
        "span_id": span_id(number),
        "parent_span_id": span_id(parent),
        "service": "shop",
        "instance": "i-1",
        "name": "POST /p",
        "kind": SERVER,
        "start_ns": START_NS,
        "duration_ns": 10 * MS,
        "status": 0,
        "status_message": "",
        "elements": 0,
        "rows": 0,
        "bytes": 0,
        "attribute_keys": "",
        "attribute_values": "",
        "scope": "",
        "trace_state": "",
        "flags": 0,
        "dropped": 0,
        "resource_id": 7,
        "received_ns": START_NS,
    }
    return row | columns


def table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """``model.DECODED_SPANS``; what a row does not say is null."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=DECODED_SPANS)


def union_ns(intervals: Iterable[tuple[int, int]]) -> int:
    """How much the intervals cover together: one after the other, by their starts."""
    covered, reached = 0, None
    for start, end in sorted(intervals):
        if reached is None or start > reached:
            reached = start
        if end > reached:
            covered += end - reached
            reached = end
    return covered


def self_ns(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> int:
    """Duration less the union of the direct children's intervals, each clipped to the span.

    A server's or consumer's parent is in another process and loses nothing by it.
    """
    start, end = row["start_ns"], row["start_ns"] + row["duration_ns"]
    children = [
        (max(start, child["start_ns"]), min(end, child["start_ns"] + child["duration_ns"]))
        for child in rows
        if child is not row
        and child["kind"] not in (SERVER, CONSUMER)
        and child["trace_id"] == row["trace_id"]
        and child["parent_span_id"] == row["span_id"] != child["span_id"]
    ]
    return row["duration_ns"] - union_ns(pair for pair in children if pair[0] < pair[1])
