"""The OTLP/HTTP endpoints: every status, its body, and what is counted, without a network."""

import asyncio
import gzip
import json

import httpx
import pytest
from google.protobuf.json_format import ParseDict
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from recording_committer import RecordingCommitter
from starlette.applications import Starlette

from heatshield_collector.authenticator import AdminTokenAuthenticator
from heatshield_collector.intake import http
from heatshield_collector.intake.http import routes
from heatshield_collector.intake.payload import Accepted, MalformedError, OverloadedError, Payload

LIMIT = 100_000
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
ENCODINGS = [PROTOBUF, JSON]
RESPONSES = {
    "traces": ExportTraceServiceResponse,
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
}
REJECTED = {
    "traces": "rejected_spans",
    "logs": "rejected_log_records",
    "metrics": "rejected_data_points",
}


def ask(
    committer: RecordingCommitter,
    body: bytes = b"",
    headers: dict[str, str] = PROTOBUF,
    path: str = "/v1/traces",
    method: str = "POST",
) -> httpx.Response:
    app = Starlette(routes=routes(committer, LIMIT, committer, AdminTokenAuthenticator()))

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
            return await client.request(method, path, content=body, headers=headers)

    return asyncio.run(send())


def read(response: httpx.Response, kind: type):
    """The body as a message, in the encoding that the response says it is in."""
    if response.headers["content-type"] == "application/json":
        return ParseDict(response.json(), kind())
    assert response.headers["content-type"] == "application/x-protobuf"
    return kind.FromString(response.content)


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_a_payload_is_committed_as_it_came(signal) -> None:
    committer = RecordingCommitter()
    response = ask(committer, b"payload", path=f"/v1/{signal}")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "application/x-protobuf"
    assert committer.payloads == [Payload(signal, b"payload")]
    assert committer.refused_causes == []


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_json_is_committed_as_protobuf_and_answered_in_json(signal) -> None:
    committer = RecordingCommitter()
    response = ask(committer, b'{"unknown": 1}', JSON, f"/v1/{signal}")
    assert (response.status_code, response.content) == (200, b"{}")
    assert response.headers["content-type"] == "application/json"
    assert committer.payloads == [Payload(signal, b"")]


@pytest.mark.parametrize(("headers", "body"), [(PROTOBUF, b""), (JSON, b"{}")])
def test_an_empty_request_succeeds_without_partial_success(headers, body) -> None:
    response = ask(RecordingCommitter(), body, headers)
    assert response.status_code == 200
    assert not read(response, ExportTraceServiceResponse).HasField("partial_success")


@pytest.mark.parametrize("headers", ENCODINGS, ids=["protobuf", "json"])
@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_partial_success_says_how_many_and_why(signal, headers) -> None:
    committer = RecordingCommitter(Accepted(3, "3 ids were zero"))
    response = ask(committer, b"{}" if headers is JSON else b"", headers, f"/v1/{signal}")
    partial = read(response, RESPONSES[signal]).partial_success
    assert (response.status_code, getattr(partial, REJECTED[signal])) == (200, 3)
    assert partial.error_message == "3 ids were zero"


def check_refusal(response, committer, http_status: int, code: int, cause: str) -> Status:
    status = read(response, Status)
    assert (response.status_code, status.code) == (http_status, code)
    assert status.message
    assert committer.refused_causes == [cause]
    return status


@pytest.mark.parametrize("headers", ENCODINGS, ids=["protobuf", "json"])
def test_malformed_is_400(headers) -> None:
    committer = RecordingCommitter(MalformedError("field 7 is broken"))
    response = ask(committer, b"{}", headers)
    status = check_refusal(response, committer, 400, 3, "malformed")
    assert status.message == "field 7 is broken"
    assert "retry-after" not in response.headers


def test_json_that_is_none_is_400_in_json() -> None:
    committer = RecordingCommitter()
    check_refusal(ask(committer, b"{", JSON), committer, 400, 3, "malformed")
    assert committer.payloads == []


def test_a_broken_content_coding_is_400() -> None:
    committer = RecordingCommitter()
    response = ask(committer, b"not gzip", PROTOBUF | {"content-encoding": "gzip"})
    check_refusal(response, committer, 400, 3, "malformed")


@pytest.mark.parametrize("headers", ENCODINGS, ids=["protobuf", "json"])
def test_over_the_limit_is_413(headers) -> None:
    committer = RecordingCommitter()
    response = ask(committer, bytes(LIMIT + 1), headers)
    check_refusal(response, committer, 413, 8, "too_large")


def test_exactly_the_limit_is_taken() -> None:
    assert ask(RecordingCommitter(), bytes(LIMIT)).status_code == 200


@pytest.mark.parametrize("headers", ENCODINGS, ids=["protobuf", "json"])
@pytest.mark.parametrize("size", [LIMIT + 1, 10 << 20], ids=["inline", "in a thread"])
def test_over_the_limit_once_inflated_is_413(headers, size) -> None:
    committer = RecordingCommitter()
    body = gzip.compress(bytes(size))
    response = ask(committer, body, headers | {"content-encoding": "gzip"})
    check_refusal(response, committer, 413, 8, "too_large")
    assert committer.payloads == []


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "text/plain"}, {}, PROTOBUF | {"content-encoding": "br"}],
    ids=["content type", "no content type", "content encoding"],
)
def test_another_content_is_415(headers) -> None:
    committer = RecordingCommitter()
    check_refusal(ask(committer, b"abc", headers), committer, 415, 3, "unsupported")


def test_an_answer_to_neither_encoding_is_json() -> None:
    response = ask(RecordingCommitter(), b"abc", {"content-type": "text/plain"})
    assert "text/plain" in json.loads(response.content)["message"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("headers", ENCODINGS, ids=["protobuf", "json"])
def test_another_method_is_405(method, headers) -> None:
    response = ask(RecordingCommitter(), b"", headers, method=method)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert read(response, Status).code == 12


@pytest.mark.parametrize("headers", ENCODINGS, ids=["protobuf", "json"])
@pytest.mark.parametrize(("delay_s", "seconds"), [(0.0, "1"), (0.2, "1"), (7.5, "8")])
def test_overload_is_503_with_the_time_to_come_again(headers, delay_s, seconds) -> None:
    """Retry-After has whole seconds, and never 0; RetryInfo has the exact time."""
    committer = RecordingCommitter(OverloadedError(delay_s, "the queue is full"))
    response = ask(committer, b"{}", headers)
    status = check_refusal(response, committer, 503, 14, "overload")
    assert response.headers["retry-after"] == seconds
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    assert info.retry_delay.ToNanoseconds() == delay_s * 1e9


def test_a_fault_of_ours_is_retryable_and_says_nothing_of_the_inside() -> None:
    committer = RecordingCommitter(RuntimeError("secret detail"))
    response = ask(committer, b"x")
    status = check_refusal(response, committer, 503, 14, "internal")
    assert "retry-after" in response.headers
    assert "secret" not in status.message


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_json_has_a_limit_of_its_own(monkeypatch, coding) -> None:
    monkeypatch.setattr(http, "_JSON_BYTES", 1_000)
    headers = {"content-encoding": coding}
    for size, status in ((1_000, 200), (1_001, 413)):
        text = b"{}".ljust(size)
        body = gzip.compress(text) if coding == "gzip" else text
        assert ask(RecordingCommitter(), body, JSON | headers).status_code == status
    assert ask(RecordingCommitter(), bytes(1_001), PROTOBUF).status_code == 200
