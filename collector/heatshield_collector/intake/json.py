"""OTLP JSON to the protobuf bytes it stands for, so that only one decoder is needed behind it.

OTLP JSON is proto3's JSON mapping with one exception: trace and span ids are hexadecimal, not
base64 (OTLP 1.x, "JSON Protobuf Encoding"). So the ids are rewritten and protobuf's own parser
does the rest: enums as integers, 64-bit integers as text or number, unknown fields ignored.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heatshield_collector.decode.records import MAX_RESOURCES
from heatshield_collector.intake.payload import MalformedError, Signal

__all__ = ["protobuf_from_json"]

_REASON_CHARS: Final = 300
"""Of a parser's complaint this much goes back to the sender; it can quote the input."""

_REQUESTS: Final[dict[Signal, type[Message]]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}

# Each level in its JSON name and in its original name; the mapping asks parsers to take both.
_RECORDS: Final[dict[Signal, tuple[tuple[str, ...], ...]]] = {
    "traces": (("resourceSpans", "resource_spans"), ("scopeSpans", "scope_spans"), ("spans",)),
    "logs": (
        ("resourceLogs", "resource_logs"),
        ("scopeLogs", "scope_logs"),
        ("logRecords", "log_records"),
    ),
    "metrics": (
        ("resourceMetrics", "resource_metrics"),
        ("scopeMetrics", "scope_metrics"),
        ("metrics",),
    ),
}
_POINTS_OF: Final = (
    "gauge",
    "sum",
    "histogram",
    "exponentialHistogram",
    "exponential_histogram",
)
"""Kinds of metrics whose points can have exemplars."""
_IDS: Final = ("traceId", "trace_id", "spanId", "span_id", "parentSpanId", "parent_span_id")


def protobuf_from_json(signal: Signal, text: bytes) -> bytes:
    """The export request that ``text`` is, as protobuf bytes.

    Raises:
        MalformedError: no JSON, or not the JSON of that signal's request, or one of more resources
            or scopes than a request may have.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"not JSON: {error}"[:_REASON_CHARS]) from error
    if not isinstance(document, dict):
        raise MalformedError("an export request is a JSON object")
    for record in _records(signal, document):
        for one in _exemplars(record) if signal == "metrics" else _with_links(record):
            _rewrite_ids(one)
    try:
        request = json_format.ParseDict(document, _REQUESTS[signal](), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise MalformedError(f"not OTLP JSON: {error}"[:_REASON_CHARS]) from error
    body: bytes = request.SerializeToString()
    return body


def _records(signal: Signal, document: dict[str, Any]) -> Iterable[dict[str, Any]]:
    level: list[dict[str, Any]] = [document]
    *above, records = _RECORDS[signal]
    for names in above:
        level = [child for parent in level for child in _objects(parent, names)]
        if len(level) > MAX_RESOURCES:
            raise MalformedError(f"more than {MAX_RESOURCES} resources or scopes in one request")
    return [child for parent in level for child in _objects(parent, records)]


def _with_links(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield record
    yield from _objects(record, ("links",))


def _exemplars(metric: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in _POINTS_OF:
        data = metric.get(kind)
        if isinstance(data, dict):
            for point in _objects(data, ("dataPoints", "data_points")):
                yield from _objects(point, ("exemplars",))


def _objects(parent: dict[str, Any], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Objects in the lists under ``names``; what has another shape is left for the parser."""
    for name in names:
        children = parent.get(name)
        if isinstance(children, list):
            yield from (child for child in children if isinstance(child, dict))


def _rewrite_ids(record: dict[str, Any]) -> None:
    for name in _IDS:
        text = record.get(name)
        if text is None:
            continue
        try:
            record[name] = base64.b64encode(binascii.unhexlify(text)).decode("ascii")
        except (binascii.Error, TypeError, ValueError) as error:
            raise MalformedError(f"{name} is not hexadecimal text"[:_REASON_CHARS]) from error
