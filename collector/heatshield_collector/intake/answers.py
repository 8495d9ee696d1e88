"""What a sender is told: OTLP's export responses and google.rpc.Status, the same on HTTP and gRPC.

Retryable is only what says so: overload carries ``RetryInfo`` (and ``Retry-After`` on HTTP), what
is the sender's fault never does (OTLP 1.x, "Failures").
"""

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from heatshield_collector.intake.payload import (
    Accepted,
    IntakeError,
    MalformedError,
    OverloadedError,
    Signal,
    TooLargeError,
    UnsupportedError,
)
from heatshield_collector.ports import AccessError, UnauthenticatedError

__all__ = ["export_response", "fault", "retry_info", "status_of"]

_FAULT_RETRY_S: Final = 5.0
"""After a fault of ours the sender still has the data, so it is asked to come again; not at once,
because the fault may last."""

_RESPONSES: Final[dict[Signal, tuple[type[Message], str]]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
}
"""Each signal's response, and what it calls the number of records left out."""

_CODES: Final[dict[type[IntakeError | AccessError], int]] = {
    UnauthenticatedError: code_pb2.UNAUTHENTICATED,
    AccessError: code_pb2.PERMISSION_DENIED,
    MalformedError: code_pb2.INVALID_ARGUMENT,
    UnsupportedError: code_pb2.INVALID_ARGUMENT,
    TooLargeError: code_pb2.RESOURCE_EXHAUSTED,  # what gRPC itself says; without RetryInfo: final
    OverloadedError: code_pb2.UNAVAILABLE,
}


def export_response(signal: Signal, accepted: Accepted) -> Message:
    """The signal's ``Export…ServiceResponse``; ``partial_success`` is unset on full success.

    With none rejected it is a warning, as OTLP has it: all was kept, though not as it came.
    """
    kind, rejected = _RESPONSES[signal]
    response = kind()
    if accepted.rejected or accepted.reason:
        setattr(response.partial_success, rejected, accepted.rejected)
        response.partial_success.error_message = accepted.reason
    return response


def status_of(error: IntakeError | AccessError) -> Status:
    """The error as ``google.rpc.Status``, with ``RetryInfo`` where a retry makes sense."""
    status = Status(code=_code_of(error), message=str(error))
    if isinstance(error, OverloadedError):
        status.details.add().Pack(retry_info(error))
    return status


def _code_of(error: IntakeError | AccessError) -> int:
    known = (_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)
    return next(known, code_pb2.INTERNAL)


def retry_info(error: OverloadedError) -> RetryInfo:
    """When to come again, as ``google.rpc.RetryInfo``."""
    delay = Duration()
    delay.FromNanoseconds(int(error.retry_after_s * 1e9))
    return RetryInfo(retry_delay=delay)


def fault() -> OverloadedError:
    """The answer to a defect of ours: nothing was kept, send again later."""
    error = OverloadedError(_FAULT_RETRY_S, "internal error of the collector; nothing was kept")
    error.cause = IntakeError.cause
    return error
