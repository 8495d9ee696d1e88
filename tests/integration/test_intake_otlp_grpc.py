"""OTLP/gRPC over a real socket, with OpenTelemetry's own exporters and with bare stubs."""

import asyncio
import threading
from collections.abc import Iterator

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from listeners import LoopThread, grpc_listener, loop_thread
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.trace.export import SpanExportResult
from recording_committer import RecordingCommitter
from stock_telemetry import log_names, some_logs, some_spans, span_names

from heatshield_collector.authenticator import AdminTokenAuthenticator
from heatshield_collector.intake import grpc as grpc_module
from heatshield_collector.intake.grpc import GrpcListener
from heatshield_collector.intake.payload import Accepted, MalformedError, OverloadedError, Payload

LIMIT = 1 << 20
COMPRESSIONS = [grpc.Compression.NoCompression, grpc.Compression.Gzip]


@pytest.fixture(scope="module")
def thread() -> Iterator[LoopThread]:
    with loop_thread() as started:
        yield started


@pytest.fixture
def committer() -> RecordingCommitter:
    return RecordingCommitter()


@pytest.fixture
def address(thread, committer) -> Iterator[str]:
    with grpc_listener(thread, committer, LIMIT) as started:
        yield started


@pytest.fixture
def channel(address) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as opened:
        yield opened


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda each: each.name)
def test_stock_span_exporter(address, committer, compression) -> None:
    exporter = OTLPSpanExporter(address, insecure=True, compression=compression)
    assert exporter.export(some_spans(50)) is SpanExportResult.SUCCESS
    assert span_names(committer.payloads) == [f"span {i}" for i in range(50)]
    exporter.shutdown()


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda each: each.name)
def test_stock_log_exporter(address, committer, compression) -> None:
    exporter = OTLPLogExporter(address, insecure=True, compression=compression)
    assert exporter.export(some_logs(50)) is LogRecordExportResult.SUCCESS
    assert log_names(committer.payloads) == [f"log {i}" for i in range(50)]
    exporter.shutdown()


def test_a_stock_exporter_comes_again_after_overload(address, committer) -> None:
    """UNAVAILABLE with RetryInfo makes it wait that long and send the same spans once more."""
    submit = committer.submit

    async def overloaded_once(payload):
        committer.answer = OverloadedError(0.01) if not committer.payloads else Accepted()
        return await submit(payload)

    committer.submit = overloaded_once
    exporter = OTLPSpanExporter(address, insecure=True)
    assert exporter.export(some_spans(3)) is SpanExportResult.SUCCESS
    assert len(committer.payloads) == 2
    assert committer.payloads[0] == committer.payloads[1]
    exporter.shutdown()


def test_an_empty_request_succeeds_without_partial_success(channel, committer) -> None:
    traces = TraceServiceStub(channel).Export(ExportTraceServiceRequest())
    logs = LogsServiceStub(channel).Export(ExportLogsServiceRequest())
    assert not traces.HasField("partial_success")
    assert not logs.HasField("partial_success")
    assert committer.payloads == [Payload("traces", b""), Payload("logs", b"")]


def test_partial_success_says_how_many_and_why(channel, committer) -> None:
    committer.answer = Accepted(3, "3 ids were zero")
    traces = TraceServiceStub(channel).Export(ExportTraceServiceRequest())
    logs = LogsServiceStub(channel).Export(ExportLogsServiceRequest())
    assert traces.partial_success.rejected_spans == 3
    assert logs.partial_success.rejected_log_records == 3
    assert traces.partial_success.error_message == "3 ids were zero"


def refusal(channel: grpc.Channel, body: bytes = b"x", **options) -> grpc.Call:
    """Sends raw bytes, as no generated stub would."""
    method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(method)(body, timeout=20, **options)
    return raised.value


def status_of(error: grpc.Call) -> Status:
    return Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])


def test_malformed_is_invalid_argument_and_final(channel, committer) -> None:
    committer.answer = MalformedError("field 7 is broken")
    error = refusal(channel)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "field 7 is broken"
    assert not status_of(error).details
    assert committer.payloads == [Payload("traces", b"x")]
    assert committer.refused_causes == ["malformed"]


def test_overload_is_unavailable_with_the_time_to_come_again(channel, committer) -> None:
    committer.answer = OverloadedError(2.5, "the queue is full")
    error = refusal(channel)
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "the queue is full")
    info = RetryInfo()
    assert status_of(error).details[0].Unpack(info)
    assert info.retry_delay.ToMilliseconds() == 2500
    assert committer.refused_causes == ["overload"]


def test_a_fault_of_ours_is_retryable_and_says_nothing_of_the_inside(channel, committer) -> None:
    committer.answer = RuntimeError("secret detail")
    error = refusal(channel)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert status_of(error).details
    assert "secret" not in error.details()
    assert committer.refused_causes == ["internal"]


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda each: each.name)
def test_over_the_limit_is_refused_also_once_inflated(channel, committer, compression) -> None:
    error = refusal(channel, bytes(LIMIT + 1), compression=compression)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert committer.payloads == []


def test_exports_in_flight_are_bounded_in_number(monkeypatch, thread, committer) -> None:
    """Each holds a message before the bounded queue sees it."""
    monkeypatch.setattr(grpc_module, "_MOST_EXPORTS", 1)
    arrived, go_on = threading.Event(), threading.Event()

    async def slow(payload):
        arrived.set()
        await asyncio.to_thread(go_on.wait, 10)
        return Accepted()

    committer.submit = slow
    with (
        grpc_listener(thread, committer, LIMIT) as address,
        grpc.insecure_channel(address) as channel,
    ):
        first = TraceServiceStub(channel).Export.future(ExportTraceServiceRequest())
        assert arrived.wait(10)
        error = refusal(channel)
        go_on.set()
        first.result(timeout=10)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    info = RetryInfo()
    assert status_of(error).details[0].Unpack(info)
    assert info.retry_delay.ToMilliseconds() == 1000
    assert committer.refused_causes == ["overload"]


def test_another_method_is_unimplemented(channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Other")(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_address_in_use_is_an_error_and_not_shared(thread, committer, address) -> None:
    second = GrpcListener(committer, LIMIT, committer, AdminTokenAuthenticator())
    with pytest.raises(OSError, match=r"can't listen on"):
        thread.run(second.start(address))
    thread.run(second.stop())


def test_stopping_lets_an_export_in_flight_finish(thread, committer) -> None:
    """The sender still gets its answer; afterwards nobody listens."""
    listener = GrpcListener(committer, LIMIT, committer, AdminTokenAuthenticator())
    port = thread.run(listener.start("127.0.0.1:0"))
    stops = []
    submit = committer.submit

    async def stop_meanwhile(payload):
        stops.append(thread.loop.create_task(listener.stop(grace_s=10)))
        return await submit(payload)

    committer.submit = stop_meanwhile
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        TraceServiceStub(opened).Export(ExportTraceServiceRequest(), timeout=10)
        thread.run(stops[0])
        thread.run(listener.stop())
        assert refusal(opened).code() is grpc.StatusCode.UNAVAILABLE
