"""Spans and log records to OTLP's protobuf, with this process's resource on them.

The resource is written here and not where spans are made: a process that forked, or a tracer
provider that the service had set up itself, must still say which instance it is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from heatshield.counters import COUNTERS
from heatshield.export.logs import LogEvent
from heatshield.names import ENDUSER_ID, OTLP_LOGS_PATH, OTLP_TRACES_PATH
from heatshield.spans import rejection_as_no_error

__all__ = ["Payload", "encode"]

T = TypeVar("T")


class Payload(NamedTuple):
    """One OTLP request body."""

    path: str
    body: bytes
    records: int


def encode(
    spans: Sequence[ReadableSpan], logs: Sequence[LogEvent], resource: Mapping[str, str | int]
) -> list[Payload]:
    """One payload a signal, none for a signal without records.

    A record that can't be encoded is dropped and counted, never its batch.
    """
    payloads: list[Payload] = []
    if spans:
        payloads += _payload(OTLP_TRACES_PATH, spans, lambda rows: _traces(rows, resource))
    if logs:
        own = Resource(dict(resource))
        payloads += _payload(OTLP_LOGS_PATH, logs, lambda rows: _logs(rows, own))
    return payloads


def _payload(
    path: str, rows: Sequence[T], encoder: Callable[[Sequence[T]], bytes]
) -> Iterable[Payload]:
    try:
        return [Payload(path, encoder(rows), len(rows))]
    except Exception:  # noqa: BLE001  # an attribute of any type may be in there
        if len(rows) == 1:
            COUNTERS.drop("not_encodable")
            return []
        half = len(rows) // 2
        return [*_payload(path, rows[:half], encoder), *_payload(path, rows[half:], encoder)]


def _traces(spans: Sequence[ReadableSpan], resource: Mapping[str, str | int]) -> bytes:
    request: Any = encode_spans([rejection_as_no_error(span) for span in spans])
    for of_resource in request.resource_spans:
        attributes = of_resource.resource.attributes
        kept = [attribute for attribute in attributes if attribute.key not in resource]
        del attributes[:]
        attributes.extend(kept)
        for key, value in resource.items():
            added = attributes.add(key=key)
            if isinstance(value, int):
                added.value.int_value = value
            else:
                added.value.string_value = value
    body: bytes = request.SerializeToString()
    return body


def _logs(events: Sequence[LogEvent], resource: Resource) -> bytes:
    scopes: dict[str, InstrumentationScope] = {}
    records = [
        ReadableLogRecord(
            _record(event),
            resource,
            scopes.setdefault(event.logger, InstrumentationScope(event.logger)),
        )
        for event in events
    ]
    body: bytes = encode_logs(records).SerializeToString()
    return body


def _record(event: LogEvent) -> LogRecord:
    attributes = dict(event.attributes)
    if event.user is not None:
        attributes[ENDUSER_ID] = event.user
    return LogRecord(
        timestamp=event.time_ns,
        observed_timestamp=event.time_ns,
        context=set_span_in_context(NonRecordingSpan(event.span)),
        severity_number=SeverityNumber(event.severity),
        severity_text=event.severity_text,
        body=event.body,
        attributes=attributes,
    )
