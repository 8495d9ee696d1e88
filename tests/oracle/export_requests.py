"""Serialized OTLP export requests with ids one can audit."""

from collections.abc import Iterable

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

START_NS = 1_700_000_000 * 10**9
MS = 1_000_000


def traces(numbers: Iterable[int], service: str = "shop", user: str = "u", **fields: int) -> bytes:
    """One root span a number, which is its trace's and its own id; 0 makes an invalid one."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = service
    scope = resource.scope_spans.add()
    for number in numbers:
        span = scope.spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name="POST /p",
            kind=2,
            start_time_unix_nano=fields.get("start_ns", START_NS),
            end_time_unix_nano=fields.get("start_ns", START_NS) + fields.get("duration_ns", MS),
        )
        span.attributes.add(key="enduser.id").value.string_value = user
    return request.SerializeToString()


def logs(numbers: Iterable[int], service: str = "shop") -> bytes:
    """One record a number, in the trace of that number."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = service
    scope = resource.scope_logs.add()
    for number in numbers:
        record = scope.log_records.add(
            trace_id=number.to_bytes(16, "big"), time_unix_nano=START_NS + number
        )
        record.body.string_value = f"line {number}"
    return request.SerializeToString()


def metrics(numbers: Iterable[int], service: str = "shop") -> bytes:
    """One gauge with a point for each number, which is its value."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = service
    gauge = resource.scope_metrics.add().metrics.add(name="depth").gauge
    for number in numbers:
        gauge.data_points.add(as_int=number, time_unix_nano=START_NS + number)
    return request.SerializeToString()
