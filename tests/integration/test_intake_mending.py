"""One bad record among many, over every way in: a real collector keeps the others and says so."""

import http.client
import json
import socket
import urllib.request

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from collector_process import collector_process

GOOD = 499
"""Records that have nothing wrong."""

PLACEHOLDER = b"~bad~"
SERVICES = {
    "traces": ("trace.v1.TraceService", ExportTraceServiceResponse),
    "logs": ("logs.v1.LogsService", ExportLogsServiceResponse),
    "metrics": ("metrics.v1.MetricsService", ExportMetricsServiceResponse),
}


@pytest.fixture(scope="module")
def grpc_address():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def collector(tmp_path_factory, grpc_address):
    folder = tmp_path_factory.mktemp("collector") / "data"
    with collector_process(folder, "--grpc", grpc_address) as running:
        yield running


def names():
    return [f"r{index}" for index in range(GOOD)] + [PLACEHOLDER.decode()]


def traces_of(trace: int):
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for index, name in enumerate(names(), 1):
        ids = {"trace_id": trace.to_bytes(16, "big"), "span_id": index.to_bytes(8, "big")}
        spans.add(name=name, kind=2, **ids)
    return request


def logs_of(_trace: int):
    request = ExportLogsServiceRequest()
    for name in names():
        request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = name
    return request


def metrics_of(_trace: int):
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for name in names():
        metrics.add(name=name).gauge.data_points.add(as_int=1)
    return request


REQUESTS = {"traces": traces_of, "logs": logs_of, "metrics": metrics_of}


@pytest.mark.parametrize("bad", [b"a\xff\xfe\xfdb", b"a\xed\xa0\x80b"], ids=["byte", "surrogate"])
@pytest.mark.parametrize("way", ["http", "grpc"])
@pytest.mark.parametrize("signal", list(SERVICES))
def test_protobuf_with_one_bad_text_is_kept_and_answered_with_a_warning(
    collector, grpc_address, signal, way, bad
) -> None:
    body = REQUESTS[signal](1).SerializeToString()
    assert body.count(PLACEHOLDER) == 1
    service, response = SERVICES[signal]
    body = body.replace(PLACEHOLDER, bad)
    answer = post(collector, signal, body) if way == "http" else export(grpc_address, service, body)
    partial = response.FromString(answer).partial_success
    assert "mended: 1 records" in partial.error_message
    assert not any(number for field, number in partial.ListFields() if "rejected" in field.name)


def post(collector, signal, body, content_type="application/x-protobuf"):
    connection = http.client.HTTPConnection(collector.host, collector.port, timeout=10)
    connection.request("POST", f"/v1/{signal}", body, {"content-type": content_type})
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read()


def export(address, service, body):
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
        return call(body, timeout=10)


@pytest.mark.parametrize(
    ("bad", "kept"),
    [(b'{"name": "a\xff"}', 0), (b'{"name": "a\\ud800"}', 0), (b"null", 1), (b'"x"', 1)],
    ids=["byte", "surrogate", "null", "text"],
)
def test_json_keeps_the_others(collector, bad, kept) -> None:
    trace = 77
    good = [
        f'{{"traceId": "{trace:032x}", "spanId": "{index:016x}", "name": "n"}}'.encode()
        for index in range(1, GOOD + 1)
    ]
    document = b'{"resourceSpans": [{"scopeSpans": [{"spans": [%s]}]}]}' % b",".join([*good, bad])
    partial = json.loads(post(collector, "traces", document, "application/json"))
    # What has no ids is left out whether its text is mended or not.
    assert partial["partialSuccess"]["rejectedSpans"] == "1"
    assert ("mended" in partial["partialSuccess"]["errorMessage"]) == (not kept)
    with urllib.request.urlopen(f"{collector.url}/api/requests/{trace:032x}", timeout=5) as answer:
        assert len(json.load(answer)["spans"]) == GOOD
