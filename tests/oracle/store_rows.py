"""Spans, logs, metrics and journals as a store is handed them, and what it is asked most."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from span_rows import MS, START_NS, table, trace_id

from heatshield.clock import Instant
from heatshield_collector.link import Linker
from heatshield_collector.model import (
    FINDINGS,
    LOGS,
    REQUEST_PARTS,
    RESOURCES,
    SAMPLES,
    SEPARATOR,
    SERIES,
    TABLES,
    escaped,
)
from heatshield_collector.store import RequestQuery

S = 10**9
HOUR_NS = 3_600 * S
SINCE_NS, UNTIL_NS = START_NS - S, START_NS + HOUR_NS
HARD_TEXT = f"a{SEPARATOR}b\x1e1 'quoted' % _ é"
"""What a joined text, a pattern or a statement put together of texts would get wrong."""


def moment(epoch_ns):
    """The instant at which the wall clock shows this, on a clock that has never jumped."""
    return Instant((epoch_ns - START_NS) / 1e9 + 1_000, epoch_ns)


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


def joined(**attributes):
    """The two texts that a row keeps its attributes in; texts and integers."""
    letters = {str: "s", int: "i"}
    keys = [f"{letters[type(value)]}:{escaped(name)}" for name, value in attributes.items()]
    values = [escaped(str(value)) for value in attributes.values()]
    return {
        "attribute_keys": SEPARATOR.join(keys),
        "attribute_values": SEPARATOR.join(values),
    }


def put_resource(store, resource_id, **attributes):
    rows = [{"resource_id": resource_id, **joined(**attributes)}]
    store.append({"resources": pa.Table.from_pylist(rows, schema=RESOURCES)})


def series_row(number, name="m", attributes=None, **columns):
    row = {
        "series_id": number, "name": name, "kind": "gauge", "temporality": "", "unit": "",
        "description": "", "service": "shop", "instance": "i-1", "bounds": None, "scope": "",
        "resource_id": 7, **joined(**(attributes or {})),
    }  # fmt: skip
    return row | columns


def put_samples(store, series, samples):
    """Store series and their samples: (series, seconds after the start, value[, received])."""
    rows = [
        {
            "series_id": number, "time_ns": START_NS + at_s * S, "start_ns": 0, "value": value,
            "received_ns": START_NS + (received[0] if received else at_s) * S,
            "exemplars": json.dumps([{"time_ns": START_NS + at_s * S, "value": value}]),
        }
        for number, at_s, value, *received in samples
    ]  # fmt: skip
    store.append(
        {
            "series": pa.Table.from_pylist(series, schema=SERIES),
            "samples": pa.Table.from_pylist(rows, schema=SAMPLES),
        }
    )


def put_parts(store, *parts):
    """Store parts of requests: (user, rank, service, call[, seconds after the start])."""
    rows = [
        {
            "trace_id": trace_id(1), "user": user, "user_rank": rank, "service": service,
            "call": call, "start_ns": at_ns, "end_ns": at_ns + MS, "spans": 1, "errors": 0,
            "busy_ns": 0, "elements": 0, "received_ns": at_ns, "last_received_ns": at_ns,
        }
        for user, rank, service, call, *late_s in parts
        for at_ns in [START_NS + (late_s[0] if late_s else 0) * S]
    ]  # fmt: skip
    store.append({"request_parts": pa.Table.from_pylist(rows, schema=REQUEST_PARTS)})


def at_once(work, count=4):
    """Run ``work(number)`` in threads that start together; what they return."""
    together = threading.Barrier(count)

    def run(number):
        together.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def parts_of(store):
    """(trace, spans) of each row of ``request_parts``."""
    rows = store._database.select("SELECT trace_id, spans FROM request_parts")
    return sorted((int.from_bytes(trace, "big"), spans) for trace, spans in rows)


def bulk_logs(first, count):
    """``model.LOGS`` of bodies that no compression removes, 64 bytes each."""
    texts = np.random.default_rng(first).bytes(32 * count).hex()
    known = {
        "time_ns": np.arange(first, first + count),
        "body": [texts[at : at + 64] for at in range(0, len(texts), 64)],
        "trace_id": pa.repeat(pa.scalar(b"", pa.binary()), count),
        "span_id": pa.repeat(pa.scalar(b"", pa.binary()), count),
        "received_ns": np.arange(START_NS + first, START_NS + first + count),
    }
    rest = {
        field.name: pa.repeat(
            pa.scalar("" if pa.types.is_string(field.type) else 0).cast(field.type), count
        )
        for field in LOGS
        if field.name not in known
    }
    return pa.table({**rest, **known}, schema=LOGS)


def finding(at, finding_id="f-1-1", **columns):
    """One row of a finding's life, as a journal is handed it."""
    row = {
        "id": finding_id, "class": "hot", "user": "u-1", "service": "shop", "call": "POST /p",
        "cost": "busy", "window": "1s", "load": 1.5, "at_ns": at, "trace_ids": "[]", "reason": "r",
        "opened_ns": at, **columns,
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=FINDINGS)
