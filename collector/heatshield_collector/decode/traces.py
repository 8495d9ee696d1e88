"""OTLP trace payloads -> one Arrow table with the schema of ``model.DECODED_SPANS``."""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heatshield import names
from heatshield_collector.decode.attributes import Attributes, flatten, json_value
from heatshield_collector.decode.detected_request import DetectedRequest
from heatshield_collector.decode.errors import DecodeError
from heatshield_collector.decode.records import NO_ID, Decoded, int64, read, valid_ids, within
from heatshield_collector.decode.span_columns import DETECTED, NAMED, RECORDED_USERS
from heatshield_collector.model import DECODED_SPANS, attributes_of

__all__ = ["decode_detected", "decode_traces"]

DB_SYSTEM: Final = ("db.system.name", "db.system")
"""The stable semantic convention and the one before it."""

_NO_NAME: Final = pa.scalar("", pa.string())
_COLON: Final = pa.scalar(":", pa.string())
_NULL: Final = pa.scalar(None, pa.string())
_NAMED: Final = pa.array(sorted(NAMED), pa.string())

MAX_EVENTS: Final = 200_000
"""Most events, and most links, of what is decoded at once: each costs 2 µs of Python."""

_HOST: Final = ("server.address", "net.peer.name", "network.peer.address", "net.peer.ip")
_PORT: Final = ("server.port", "net.peer.port", "network.peer.port")
"""The stable semantic convention, and those before it and below it."""

REDIS_COMMAND_WORDS: Final = 2
"""A Redis command's name and key: the words of its arguments that are not elements."""


def decode_traces(payloads: Sequence[bytes], received_ns: int) -> Decoded:
    """Decode trace payloads jointly.

    Args:
        payloads: serialized ``ExportTraceServiceRequest`` messages.
        received_ns: when they were received, nanoseconds since the Unix epoch.

    Raises:
        DecodeError: when any payload is not such a message.
    """
    records = read(ExportTraceServiceRequest, payloads, "spans")
    spans = records.fields
    start = int64(spans.field("start_time_unix_nano"))
    end = int64(spans.field("end_time_unix_nano"))
    status = spans.field("status")
    parent = spans.field("parent_span_id")
    attributes = flatten(spans.field("attributes"))
    columns = {
        "trace_id": spans.field("trace_id"),
        "span_id": spans.field("span_id"),
        "parent_span_id": pc.if_else(pa.array(valid_ids(parent, 8)), parent, NO_ID),
        "service": records.service,
        "instance": records.instance,
        "name": spans.field("name"),
        "kind": within(spans.field("kind"), 5),
        "start_ns": pa.array(start),
        "duration_ns": pa.array(np.maximum(end - start, 0)),
        "status": within(_of_set(status, "code", 0), 2),
        "status_message": _of_set(status, "message", ""),
        **_named(attributes),
        "attribute_keys": attributes.keys_column(),
        "attribute_values": attributes.values_column(),
        "events": _texts(spans.field("events"), ("time_unix_nano", "name")),
        "links": _texts(spans.field("links"), ("trace_id", "span_id")),
        "scope": records.scope,
        "trace_state": spans.field("trace_state"),
        "flags": spans.field("flags").cast(pa.int64()),
        "dropped": _dropped(spans),
        "resource_id": records.resource_id,
        "received_ns": pa.array(np.full(len(spans), received_ns)),
    }
    table = pa.table([columns[name] for name in DECODED_SPANS.names], schema=DECODED_SPANS)
    keep = valid_ids(columns["trace_id"], 16) & valid_ids(columns["span_id"], 8)
    rejected = np.bincount(records.payload[~keep], minlength=len(payloads))
    if not keep.all():
        table = table.filter(pa.array(keep))
    return Decoded(table, records.resources, (rejected + records.left_out).tolist(), records.mended)


def decode_detected(payloads: Sequence[bytes]) -> tuple[pa.Table, list[int]]:
    """Decode trace payloads as :func:`decode_traces` does, but only what detection reads.

    It costs half as much. Recordings name users by more attributes than services do.

    Args:
        payloads: serialized ``ExportTraceServiceRequest`` messages.

    Returns:
        ``span_columns.DETECTED``, and for each payload how many of its spans are left out.

    Raises:
        DecodeError: when any payload is not such a message.
    """
    records = read(DetectedRequest, payloads, "spans")
    spans = records.fields
    start, end = (int64(spans.field(f"{name}_time_unix_nano")) for name in ("start", "end"))
    parent = spans.field("parent_span_id")
    columns = {
        "trace_id": spans.field("trace_id"),
        "span_id": spans.field("span_id"),
        "parent_span_id": pc.if_else(pa.array(valid_ids(parent, 8)), parent, NO_ID),
        "service": records.service,
        "instance": records.instance,
        "name": spans.field("name"),
        "kind": within(spans.field("kind"), 5),
        "start_ns": pa.array(start),
        "duration_ns": pa.array(np.maximum(end - start, 0)),
        "status": within(_of_set(spans.field("status"), "code", 0), 2),
        **_named(flatten(_only_named(spans.field("attributes"))), RECORDED_USERS),
    }
    table = pa.table([columns[name] for name in DETECTED.names], schema=DETECTED)
    keep = valid_ids(columns["trace_id"], 16) & valid_ids(columns["span_id"], 8) & (end > 0)
    left_out = np.bincount(records.payload[~keep], minlength=len(payloads)) + records.left_out
    return table if keep.all() else table.filter(pa.array(keep)), left_out.tolist()


def _only_named(lists: pa.ListArray) -> pa.ListArray:
    """Attribute lists without the attributes that no column is made from."""
    entries = lists.values
    if entries.type.get_field_index("key") < 0:
        return lists
    kept = np.asarray(pc.is_in(entries.field("key"), value_set=_NAMED))
    before = np.concatenate(([0], np.cumsum(kept)))
    offsets = pa.array(before[lists.offsets.to_numpy()], pa.int32())
    return pa.ListArray.from_arrays(offsets, entries.filter(pa.array(kept)))


def _of_set(parent: pa.StructArray, name: str, default: Any) -> pa.Array:
    child = parent.field(name)
    return pc.if_else(parent.is_valid(), child, pa.scalar(default, child.type))


def _named(
    attributes: Attributes, users: Sequence[str] = names.USER_ATTRIBUTES
) -> dict[str, pa.Array]:
    """The columns that are made from single attributes."""
    elements, said = attributes.integers_of(names.COST_ELEMENTS)
    words, counted = attributes.integers_of(names.REDIS_ARGS_LENGTH)
    # Clamped first: the least integer minus two would come out as the greatest.
    stored = np.maximum(words, REDIS_COMMAND_WORDS) - REDIS_COMMAND_WORDS
    elements = np.where(said, elements, np.where(counted, stored, 0))
    size, sized = attributes.integers_of(names.BATCH_SIZE)
    backend = pc.coalesce(*(attributes.texts_of(name) for name in DB_SYSTEM))
    return {
        "user": user_of(attributes, users),
        "call": attributes.texts_of(names.CALL),
        "backend": backend,
        "rejected": attributes.texts_of(names.REJECTED),
        "elements": pa.array(np.maximum(elements, 0)),
        "rows": pa.array(np.maximum(attributes.integers_of(names.COST_ROWS)[0], 0)),
        "bytes": pa.array(np.maximum(attributes.integers_of(names.COST_BYTES)[0], 0)),
        "key_pattern": attributes.texts_of(names.REDIS_KEY_PATTERN),
        "size": pa.array(np.maximum(size, 0), mask=~sized),
        "waited_us": pa.array(np.maximum(attributes.integers_of(names.WAITED_US)[0], 0)),
        "address": _address(attributes, backend),
    }


def _address(attributes: Attributes, backend: pa.Array) -> pa.Array:
    """string[rows]: ``host:port`` of backends, as far as they say it; null elsewhere."""
    if backend.null_count == len(backend):
        return pa.nulls(len(backend), pa.string())
    host, port = (
        pc.coalesce(*(attributes.texts_of(name, kinds="si") for name in known))
        for known in (_HOST, _PORT)
    )
    whole = pc.coalesce(pc.binary_join_element_wise(host, port, _COLON), host)
    return pc.if_else(pc.and_(backend.is_valid(), pc.not_equal(host, _NO_NAME)), whole, _NULL)


def user_of(attributes: Attributes, known: Sequence[str] = names.USER_ATTRIBUTES) -> pa.Array:
    """string[rows]: the first non-empty of the attributes that name a user, else null."""
    found = [attributes.texts_of(name, kinds="si") for name in known]
    return pc.coalesce(
        *(
            pc.if_else(pc.equal(texts, _NO_NAME), pa.scalar(None, pa.string()), texts)
            for texts in found
        )
    )


def _dropped(spans: pa.StructArray) -> pa.Array:
    counts = ("dropped_attributes_count", "dropped_events_count", "dropped_links_count")
    return pa.array(sum(spans.field(name).to_numpy().astype(np.int64) for name in counts))


def _texts(lists: pa.ListArray, fields: tuple[str, str]) -> pa.Array:
    """Events or links as JSON, null where a span has none; only spans with some are touched."""
    if len(lists.values) > MAX_EVENTS:
        raise DecodeError(f"more than {MAX_EVENTS} events or links")
    sizes = np.diff(lists.offsets.to_numpy())
    texts: list[str | None] = [None] * len(lists)
    rows = np.flatnonzero(sizes)
    if len(rows):
        members = _members(lists.values, fields)
        ends = np.cumsum(sizes)
        for row in rows.tolist():
            texts[row] = json.dumps(members[ends[row] - sizes[row] : ends[row]])
    return pa.array(texts, pa.string())


def _members(values: pa.StructArray, fields: tuple[str, str]) -> list[dict[str, Any]]:
    attributes = flatten(values.field("attributes"))
    first, second = (values.field(name).to_pylist() for name in fields)
    rows = zip(
        first,
        second,
        attributes.keys_column().to_pylist(),
        attributes.values_column().to_pylist(),
        strict=True,
    )
    if fields[0] == "time_unix_nano":
        return [
            {"time_ns": time, "name": name, "attributes": _json_attributes(keys, texts)}
            for time, name, keys, texts in rows
        ]
    return [
        {
            "trace_id": trace.hex(),
            "span_id": span.hex(),
            "attributes": _json_attributes(keys, texts),
        }
        for trace, span, keys, texts in rows
    ]


def _json_attributes(keys: str, texts: str) -> dict[str, Any]:
    return {name: json_value(value) for name, value in attributes_of(keys, texts).items()}
