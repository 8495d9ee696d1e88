"""OTLP/HTTP over real sockets: uvicorn, FastAPI around it, and OpenTelemetry's own exporters."""

import socket
from collections.abc import Iterator

import pytest
import requests
from google.rpc.status_pb2 import Status
from listeners import LoopThread, http_listener, loop_thread
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.trace.export import SpanExportResult
from recording_committer import RecordingCommitter
from stock_telemetry import log_names, some_logs, some_spans, span_names

from heatshield_collector.intake.payload import Accepted, OverloadedError

LIMIT = 1 << 20
PROTOBUF = {"content-type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def thread() -> Iterator[LoopThread]:
    with loop_thread() as started:
        yield started


@pytest.fixture
def committer() -> RecordingCommitter:
    return RecordingCommitter()


@pytest.fixture
def address(thread, committer) -> Iterator[str]:
    with http_listener(thread, committer, LIMIT) as started:
        yield started


@pytest.mark.parametrize("compression", list(Compression), ids=lambda each: each.value)
def test_stock_span_exporter(address, committer, compression) -> None:
    exporter = OTLPSpanExporter(f"{address}/v1/traces", compression=compression)
    assert exporter.export(some_spans(50)) is SpanExportResult.SUCCESS
    assert span_names(committer.payloads) == [f"span {i}" for i in range(50)]


@pytest.mark.parametrize("compression", list(Compression), ids=lambda each: each.value)
def test_stock_log_exporter(address, committer, compression) -> None:
    exporter = OTLPLogExporter(f"{address}/v1/logs", compression=compression)
    assert exporter.export(some_logs(50)) is LogRecordExportResult.SUCCESS
    assert log_names(committer.payloads) == [f"log {i}" for i in range(50)]


def test_a_stock_exporter_comes_again_after_overload(address, committer) -> None:
    """503 with Retry-After makes it wait and send the same spans once more."""
    first = OverloadedError(0.01)
    submit = committer.submit

    async def overloaded_once(payload):
        committer.answer = first if not committer.payloads else Accepted()
        return await submit(payload)

    committer.submit = overloaded_once
    exporter = OTLPSpanExporter(f"{address}/v1/traces")
    assert exporter.export(some_spans(3)) is SpanExportResult.SUCCESS
    assert len(committer.payloads) == 2
    assert committer.payloads[0] == committer.payloads[1]
    assert committer.refused_causes == ["overload"]


def test_a_chunked_body_is_taken(address, committer) -> None:
    pieces = iter([b"ab", b"cd"])
    response = requests.post(f"{address}/v1/traces", pieces, headers=PROTOBUF, timeout=10)
    assert response.status_code == 200
    assert [payload.body for payload in committer.payloads] == [b"abcd"]


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_a_sender_far_over_the_limit_reads_its_413(address, committer, chunked) -> None:
    """It gets the answer, not a broken connection, which it would take for a reason to retry."""
    body = bytes(30 << 20)
    data = iter([body]) if chunked else body
    response = requests.post(f"{address}/v1/traces", data, headers=PROTOBUF, timeout=30)
    assert response.status_code == 413
    assert Status.FromString(response.content).message
    assert committer.payloads == []


def test_the_connection_serves_on_after_a_refusal(address, committer) -> None:
    with requests.Session() as session:
        bad = session.post(f"{address}/v1/traces", b"x", headers={}, timeout=10)
        good = session.post(f"{address}/v1/traces", b"", headers=PROTOBUF, timeout=10)
    assert (bad.status_code, good.status_code) == (415, 200)


def test_a_sender_that_waits_for_leave_to_send_is_refused_first(address) -> None:
    """With Expect: 100-continue an over-large body need not be sent at all."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: c\r\nContent-Type: application/x-protobuf\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1)
        )
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


def test_the_rest_of_the_application_is_untouched(address) -> None:
    assert requests.get(f"{address}/openapi.json", timeout=10).status_code == 200
    assert requests.get(f"{address}/v1/profiles", timeout=10).status_code == 404
