"""Spans and log records as OpenTelemetry's SDK makes them, and their names read back."""

from collections.abc import Sequence

from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from heatshield_collector.intake.payload import Payload


def some_spans(count: int):
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("tests")
    for i in range(count):
        with tracer.start_as_current_span(f"span {i}", attributes={"i": i, "list": [1.5, 2.5]}):
            pass
    return kept.get_finished_spans()


def some_logs(count: int):
    kept = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    logger = provider.get_logger("tests")
    for i in range(count):
        logger.emit(LogRecord(body=f"log {i}", attributes={"i": i}))
    return kept.get_finished_logs()


def span_names(payloads: Sequence[Payload]) -> list[str]:
    assert {payload.signal for payload in payloads} == {"traces"}
    return [
        span.name
        for payload in payloads
        for part in ExportTraceServiceRequest.FromString(payload.body).resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]


def log_names(payloads: Sequence[Payload]) -> list[str]:
    assert {payload.signal for payload in payloads} == {"logs"}
    return [
        record.body.string_value
        for payload in payloads
        for part in ExportLogsServiceRequest.FromString(payload.body).resource_logs
        for scope in part.scope_logs
        for record in scope.log_records
    ]
