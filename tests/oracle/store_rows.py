"""Spans, logs and journals as a store is handed them, and what it is asked most."""

import pyarrow as pa
from span_rows import START_NS, table, trace_id

from heatshield.clock import Instant
from heatshield_collector.link import Linker
from heatshield_collector.model import LOGS, TABLES
from heatshield_collector.store import RequestQuery

S = 10**9
HOUR_NS = 3_600 * S


def put(store, rows, received_ns=START_NS, linker=None):
    """Store spans with their request parts, as the commit loop does."""
    spans = table([{**row, "received_ns": received_ns} for row in rows])
    parts = (linker or Linker()).link(spans, Instant(received_ns / 1e9, received_ns)).parts
    store.append({"spans": spans, "request_parts": parts})


def log(number, trace=1, **columns):
    row = {
        "trace_id": trace_id(trace) if trace else b"",
        "span_id": b"",
        "service": "shop",
        "instance": "i-1",
        "time_ns": START_NS + number,
        "severity": 9,
        "severity_text": "INFO",
        "body": f"line {number}",
        "event_name": "",
        "attribute_keys": "",
        "attribute_values": "",
        "scope": "",
        "flags": 0,
        "dropped": 0,
        "resource_id": 7,
        "received_ns": START_NS,
    }
    return row | columns


def put_logs(store, rows):
    store.append({"logs": pa.Table.from_pylist(rows, schema=LOGS)})


def audit(at_ns, entry_id="b-1"):
    row = {
        "at_ns": at_ns, "change": "opened", "entry_id": entry_id, "issuer": "human:a",
        "reason": "r", "version": "1.1", "entry": "{}",
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=TABLES["audit"])


def found(store, **query):
    return store.requests(RequestQuery(START_NS - S, START_NS + HOUR_NS, **query))


def traces(rows):
    return [int.from_bytes(row["trace_id"], "big") for row in rows]
