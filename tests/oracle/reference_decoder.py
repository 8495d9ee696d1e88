"""The slow, obvious decoder: what every row must be, on protobuf's own classes, one by one.

It is the oracle of the columnar decoder. A row is a dict with the columns of
``model.DECODED_SPANS`` or ``model.LOGS``, but for three that are storage forms and stand here as
what they mean:

- ``attributes`` (typed as ``model.attributes_of`` gives them) for ``attribute_keys`` and
  ``attribute_values``;
- ``resource`` (attributes of the resource) for ``resource_id``;
- ``events`` and ``links`` as lists, ``None`` when there are none.

Nothing here is shared with the decoder it judges, not even constants.
"""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Row = dict[str, Any]

LARGEST_INT64 = 2**63 - 1


def reference_spans(payloads: Sequence[bytes], received_ns: int) -> tuple[list[Row], list[int]]:
    """The rows of all payloads in order, and how many spans of each payload were left out.

    Raises:
        google.protobuf.message.DecodeError: a payload is no export request.
    """
    rows: list[Row] = []
    rejected = []
    for payload in payloads:
        request = ExportTraceServiceRequest.FromString(payload)
        left_out = 0
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    if not (is_id(span.trace_id, 16) and is_id(span.span_id, 8)):
                        left_out += 1
                        continue
                    row = span_row(span, received_ns)
                    row.update(surroundings(resource_spans, scope_spans))
                    rows.append(row)
        rejected.append(left_out)
    return rows, rejected


def reference_logs(payloads: Sequence[bytes], received_ns: int) -> tuple[list[Row], list[int]]:
    """The same for log payloads; no record is ever left out."""
    rows: list[Row] = []
    for payload in payloads:
        request = ExportLogsServiceRequest.FromString(payload)
        for resource_logs in request.resource_logs:
            for scope_logs in resource_logs.scope_logs:
                for record in scope_logs.log_records:
                    row = log_row(record, received_ns)
                    row.update(surroundings(resource_logs, scope_logs))
                    rows.append(row)
    return rows, [0] * len(payloads)


def surroundings(resource_part: Any, scope_part: Any) -> Row:
    attributes = resource_part.resource.attributes
    service = first(attributes, "service.name")
    instance = first(attributes, "service.instance.id")
    return {
        "service": service if isinstance(service, str) else "unknown_service",
        "instance": instance if isinstance(instance, str) else "",
        "scope": scope_part.scope.name,
        "resource": typed(attributes),
    }


def span_row(span: Span, received_ns: int) -> Row:
    start = min(span.start_time_unix_nano, LARGEST_INT64)
    end = min(span.end_time_unix_nano, LARGEST_INT64)
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id if is_id(span.parent_span_id, 8) else b"",
        "name": span.name,
        "kind": span.kind if 0 <= span.kind <= 5 else 0,
        "start_ns": start,
        "duration_ns": max(0, end - start),
        "status": span.status.code if 0 <= span.status.code <= 2 else 0,
        "status_message": span.status.message,
        "user": user(span.attributes),
        "call": text(span.attributes, "heatshield.call"),
        "backend": backend(span.attributes),
        "rejected": text(span.attributes, "heatshield.rejected"),
        "elements": elements(span.attributes),
        "rows": cost(span.attributes, "heatshield.cost.rows"),
        "bytes": cost(span.attributes, "heatshield.cost.bytes"),
        "key_pattern": text(span.attributes, "heatshield.redis.key_pattern"),
        "size": size(span.attributes),
        "waited_us": cost(span.attributes, "heatshield.paced.waited_us"),
        "address": address(span.attributes),
        "attributes": typed(span.attributes),
        "events": [event_row(event) for event in span.events] or None,
        "links": [link_row(link) for link in span.links] or None,
        "trace_state": span.trace_state,
        "flags": span.flags,
        "dropped": span.dropped_attributes_count
        + span.dropped_events_count
        + span.dropped_links_count,
        "received_ns": received_ns,
    }


def event_row(event: Span.Event) -> Row:
    return {
        "time_ns": event.time_unix_nano,
        "name": event.name,
        "attributes": {key: as_json(value) for key, value in typed(event.attributes).items()},
    }


def link_row(link: Span.Link) -> Row:
    return {
        "trace_id": link.trace_id.hex(),
        "span_id": link.span_id.hex(),
        "attributes": {key: as_json(value) for key, value in typed(link.attributes).items()},
    }


def log_row(record: LogRecord, received_ns: int) -> Row:
    return {
        "trace_id": record.trace_id if is_id(record.trace_id, 16) else b"",
        "span_id": record.span_id if is_id(record.span_id, 8) else b"",
        "time_ns": min(record.time_unix_nano or record.observed_time_unix_nano, LARGEST_INT64),
        "severity": record.severity_number if 0 <= record.severity_number <= 24 else 0,
        "severity_text": record.severity_text,
        "body": body_text(record.body),
        "event_name": record.event_name,
        "user": user(record.attributes),
        "attributes": typed(record.attributes),
        "flags": record.flags,
        "dropped": record.dropped_attributes_count,
        "received_ns": received_ns,
    }


def is_id(raw: bytes, size: int) -> bool:
    return len(raw) == size and raw != bytes(size)


# -- single attributes ------------------------------------------------------------------------


def first(attributes: Iterable[KeyValue], key: str) -> Any:
    """The value of the first attribute of that name, ``None`` when there is none."""
    for attribute in attributes:
        if attribute.key == key:
            return value_of(attribute.value)
    return None


def user(attributes: Iterable[KeyValue]) -> str | None:
    for key in ("enduser.id", "user.id", "enduser.pseudo.id"):
        value = first(attributes, key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value:
            return value
    return None


def address(attributes: Sequence[KeyValue]) -> str | None:
    """``host:port`` of a backend, else its host."""
    if (text(attributes, "db.system.name") or text(attributes, "db.system")) is None:
        return None
    hosts = ("server.address", "net.peer.name", "network.peer.address", "net.peer.ip")
    ports = ("server.port", "net.peer.port", "network.peer.port")
    host, port = (first_of(attributes, known) for known in (hosts, ports))
    if not host:
        return None
    return host if port is None else f"{host}:{port}"


def first_of(attributes: Sequence[KeyValue], known: Sequence[str]) -> str | None:
    """The first of these attributes that is a text or an integer."""
    for name in known:
        found = next((one.value for one in attributes if one.key == name), None)
        kind = found.WhichOneof("value") if found is not None else None
        if found is not None and kind in {"string_value", "int_value"}:
            return str(getattr(found, kind))
    return None


def text(attributes: Iterable[KeyValue], key: str) -> str | None:
    value = first(attributes, key)
    return value if isinstance(value, str) else None


def backend(attributes: Iterable[KeyValue]) -> str | None:
    newer = text(attributes, "db.system.name")
    return newer if newer is not None else text(attributes, "db.system")


def integer(attributes: Iterable[KeyValue], key: str) -> int | None:
    value = first(attributes, key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def size(attributes: Iterable[KeyValue]) -> int | None:
    said = integer(attributes, "db.operation.batch.size")
    return None if said is None else max(0, said)


def elements(attributes: Iterable[KeyValue]) -> int:
    said = integer(attributes, "heatshield.cost.elements")
    if said is not None:
        return max(0, said)
    words = integer(attributes, "db.redis.args_length")
    return max(0, words - 2) if words is not None else 0


def cost(attributes: Iterable[KeyValue], key: str) -> int:
    return max(0, integer(attributes, key) or 0)


# -- values -----------------------------------------------------------------------------------


def typed(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """All attributes; of a name that stands twice the last one."""
    return {attribute.key: value_of(attribute.value) for attribute in attributes}


def value_of(value: AnyValue) -> Any:
    """A value as ``model.attributes_of`` gives it."""
    kind = value.WhichOneof("value")
    if kind in ("string_value", "int_value", "double_value", "bool_value"):
        return getattr(value, kind)
    if kind == "bytes_value":
        return {"bytes": value.bytes_value.hex()}
    if kind == "array_value":
        return [as_json(value_of(item)) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: as_json(value_of(pair.value)) for pair in value.kvlist_value.values}
    return None  # unset, or an index into a table that only profiles have


def as_json(value: Any) -> Any:
    """What JSON can't say is text, spelled as in protobuf's JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def body_text(body: AnyValue) -> str:
    value = value_of(body)
    match body.WhichOneof("value"):
        case "string_value":
            return str(value)
        case "bool_value":
            return "true" if value else "false"
        case "int_value" | "double_value":
            return repr(value)
        case "bytes_value":
            return str(value["bytes"])
        case "array_value" | "kvlist_value":
            return json.dumps(value)
        case _:
            return ""
