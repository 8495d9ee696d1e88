"""OTLP JSON to the protobuf bytes it stands for, so that only one decoder is needed behind it.

OTLP JSON is proto3's JSON mapping with one exception: trace and span ids are hexadecimal, not
base64 (OTLP 1.x, "JSON Protobuf Encoding"). So the ids are rewritten and protobuf's own parser
does the rest: enums as integers, 64-bit integers as text or number, unknown fields ignored.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
from heatshield_collector.intake.json_mending import Level, parse_leniently, save
from heatshield_collector.intake.payload import MalformedError, Signal

__all__ = ["Converted", "protobuf_from_json"]

MAX_VALUES: Final = 500_000
"""Most objects, lists and numbers in one request; 8 MiB from an exporter have fewer. Each takes up
to 6 µs of Python."""

_REQUESTS: Final[dict[Signal, type[Message]]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}

# Each level in its JSON name and in its original name; the mapping asks parsers to take both.
_LEVELS: Final[dict[Signal, tuple[Level, ...]]] = {
    "traces": (
        Level(("resourceSpans", "resource_spans"), "resource_spans"),
        Level(("scopeSpans", "scope_spans"), "scope_spans"),
        Level(("spans",), "spans"),
    ),
    "logs": (
        Level(("resourceLogs", "resource_logs"), "resource_logs"),
        Level(("scopeLogs", "scope_logs"), "scope_logs"),
        Level(("logRecords", "log_records"), "log_records"),
    ),
    "metrics": (
        Level(("resourceMetrics", "resource_metrics"), "resource_metrics"),
        Level(("scopeMetrics", "scope_metrics"), "scope_metrics"),
        Level(("metrics",), "metrics"),
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


@dataclass(frozen=True, slots=True)
class Converted:
    """An export request as protobuf bytes.

    Attributes:
        body: the serialized request.
        left_out: how many records of the JSON are damaged and not in it.
        mended: how many records in it were mended.
    """

    body: bytes
    left_out: int = 0
    mended: int = 0


def protobuf_from_json(signal: Signal, text: bytes) -> Converted:
    """The export request that ``text`` is.

    Raises:
        MalformedError: no JSON, or not the JSON of that signal's request, or one of more resources
            or scopes than a request may have.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = parse_leniently(text)
        _bound(text, document)
        return _saved(signal, document)
    _bound(text, document)
    try:
        for record in _records(signal, _object(document)):
            _rewrite(signal, record)
        request = json_format.ParseDict(document, _REQUESTS[signal](), ignore_unknown_fields=True)
    except (json_format.ParseError, _RecordError):
        # Parsed again, because ids have been rewritten up to where it failed.
        return _saved(signal, orjson.loads(text))
    return Converted(request.SerializeToString())


def _bound(text: bytes, document: Any) -> None:
    """Refuse more than :data:`MAX_VALUES`; few have so many braces and commas."""
    if text.count(b"{") + text.count(b",") <= MAX_VALUES:
        return
    values, waiting = 0, [document]
    while waiting and values <= MAX_VALUES:
        value = waiting.pop()
        values += not isinstance(value, str)
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    if values > MAX_VALUES:
        raise MalformedError(f"more than {MAX_VALUES} objects, lists and numbers in one request")


class _RecordError(MalformedError):
    """One record is not what OTLP JSON says that it is."""


def _saved(signal: Signal, document: Any) -> Converted:
    _records(signal, _object(document))  # bounds them
    saved = save(
        document, _REQUESTS[signal](), _LEVELS[signal], lambda record: _rewrite(signal, record)
    )
    return Converted(saved.request.SerializeToString(), saved.left_out, saved.mended)


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise MalformedError("an export request is a JSON object")
    return document


def _rewrite(signal: Signal, record: dict[str, Any]) -> None:
    for one in _exemplars(record) if signal == "metrics" else _with_links(record):
        _rewrite_ids(one)


def _records(signal: Signal, document: dict[str, Any]) -> Iterable[dict[str, Any]]:
    level: list[dict[str, Any]] = [document]
    *above, records = _LEVELS[signal]
    for one in above:
        level = [child for parent in level for child in _objects(parent, one.json_names)]
        if len(level) > MAX_RESOURCES:
            raise MalformedError(f"more than {MAX_RESOURCES} resources or scopes in one request")
    return [child for parent in level for child in _objects(parent, records.json_names)]


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
            raise _RecordError(f"{name} is not hexadecimal text") from error
