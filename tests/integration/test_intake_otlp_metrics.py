"""OTLP metrics into a real collector: from stock exporters, as JSON, and read back over its API."""

import http.client
import json
import subprocess
import sys
import time
import urllib.request

import grpc
import pytest
from listeners import grpc_listener, loop_thread
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcExporter,
)
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.resources import Resource
from recording_committer import RecordingCommitter

from collector_process import collector_process
from heatshield_collector.intake.payload import Accepted

TRACE_ID = "5b8efff798038103d269b633813fc60c"


def some_metrics(service="stock"):
    """A counter, a gauge and a histogram, as OpenTelemetry's SDK makes them."""
    reader = InMemoryMetricReader()
    resource = Resource({"service.name": service, "service.instance.id": "i-1"})
    meter = MeterProvider([reader], resource).get_meter("tests")
    meter.create_counter("jobs", unit="1").add(3, {"kind": "a"})
    meter.create_gauge("depth").set(-2.5)
    meter.create_histogram("took", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1.0]).record(
        0.05
    )
    return reader.get_metrics_data()


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with collector_process(tmp_path_factory.mktemp("collector") / "data") as running:
        yield running


def get(collector, **query):
    text = "&".join(f"{name}={value}" for name, value in query.items())
    with urllib.request.urlopen(f"{collector.url}/api/metrics?{text}", timeout=5) as answer:
        return json.load(answer)["metrics"]


def post(collector, body, content_type="application/json"):
    connection = http.client.HTTPConnection(collector.host, collector.port, timeout=10)
    connection.request("POST", "/v1/metrics", body, {"content-type": content_type})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"{}")


@pytest.mark.parametrize("compression", list(Compression), ids=lambda each: each.value)
def test_what_the_stock_http_exporter_sends_is_there_once_it_is_acknowledged(
    collector, compression
):
    exporter = OTLPMetricExporter(f"{collector.url}/v1/metrics", compression=compression)
    service = f"stock-{compression.value}"
    assert exporter.export(some_metrics(service)) is MetricExportResult.SUCCESS
    found = {one["name"]: one for one in get(collector, service=service)}
    assert set(found) == {"jobs", "depth", "took"}
    jobs, depth, took = found["jobs"], found["depth"], found["took"]
    assert (jobs["kind"], jobs["temporality"], jobs["value"]) == ("counter", "cumulative", 3)
    assert (jobs["attributes"], jobs["instance"]) == ({"kind": "a"}, "i-1")
    assert (depth["kind"], depth["value"], depth["count"]) == ("gauge", -2.5, None)
    assert (took["kind"], took["unit"], took["count"], took["value"]) == ("histogram", "s", 1, 0.05)
    assert took["buckets"] == [
        {"le": "0.1", "count": 1}, {"le": "1.0", "count": 1}, {"le": "+Inf", "count": 1},
    ]  # fmt: skip


def test_the_stock_grpc_exporter_is_understood():
    committer = RecordingCommitter()
    with loop_thread() as thread, grpc_listener(thread, committer, 1 << 20) as address:
        exporter = GrpcExporter(address, insecure=True, compression=grpc.Compression.Gzip)
        assert exporter.export(some_metrics()) is MetricExportResult.SUCCESS
        exporter.shutdown()
    (payload,) = committer.payloads
    assert payload.signal == "metrics"
    request = ExportMetricsServiceRequest.FromString(payload.body)
    names = [m.name for m in request.resource_metrics[0].scope_metrics[0].metrics]
    assert names == ["jobs", "depth", "took"]


def as_json(*metrics):
    attributes = [{"key": "service.name", "value": {"stringValue": "by-hand"}}]
    document = {
        "resourceMetrics": [
            {"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": metrics}]}
        ]
    }
    return json.dumps(document)


def test_json_is_understood_with_hexadecimal_ids_in_exemplars(collector):
    exemplar = {"traceId": TRACE_ID, "spanId": "eee19b7ec3c1b174", "asDouble": 0.5}
    point = {"count": "1", "sum": 0.5, "bucketCounts": ["1"], "exemplars": [exemplar]}
    histogram = {"dataPoints": [point], "aggregationTemporality": 2}
    assert post(collector, as_json({"name": "lag", "histogram": histogram})) == (200, {})
    (found,) = get(collector, name="lag")
    assert found["exemplars"] == [{"trace_id": TRACE_ID, "value": 0.5, "time_ns": 0}]


def test_points_that_say_nothing_are_counted_back_to_the_sender(collector):
    good, bad = {"asInt": "1"}, {}
    body = as_json({"name": "some", "gauge": {"dataPoints": [good, bad]}})
    status, answer = post(collector, body)
    assert status == 200
    assert answer["partialSuccess"]["rejectedDataPoints"] == "1"
    assert "a point a value" in answer["partialSuccess"]["errorMessage"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\xff\xff", "application/x-protobuf"),
        (b"[]", "application/json"),
        (as_json({"name": "x", "gauge": {"dataPoints": [{"exemplars": [{"traceId": "zz"}]}]}}),
         "application/json"),
    ],
)  # fmt: skip
def test_what_is_no_metrics_request_gets_a_400(collector, body, content_type):
    connection = http.client.HTTPConnection(collector.host, collector.port, timeout=10)
    connection.request("POST", "/v1/metrics", body, {"content-type": content_type})
    assert connection.getresponse().status == 400


def test_numbers_that_json_does_not_have_are_answered_as_text(collector):
    point = {"asDouble": "NaN", "timeUnixNano": "5"}
    post(collector, as_json({"name": "undefined", "gauge": {"dataPoints": [point]}}))
    (found,) = get(collector, name="undefined")
    assert (found["value"], found["time_ns"]) == ("NaN", 5)


def test_samples_received_are_counted(collector):
    post(collector, as_json({"name": "counted", "gauge": {"dataPoints": [{"asInt": "1"}]}}))
    with urllib.request.urlopen(f"{collector.url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    (total,) = [line for line in lines if line.startswith("heatshield_samples_received_total ")]
    assert float(total.split()[1]) >= 1


def test_the_command_shows_metrics_and_the_series_of_one(collector):
    exporter = OTLPMetricExporter(f"{collector.url}/v1/metrics")
    exporter.export(some_metrics("shown"))

    def run(*words):
        command = [sys.executable, "-c", "from heatshield.cli import main; main()", "metrics"]
        return subprocess.run(
            [*command, *words, "--endpoint", collector.url],
            capture_output=True, text=True, check=False, env={"COLUMNS": "160"},
        )  # fmt: skip

    listed = run("--service", "shown")
    assert listed.returncode == 0, listed.stderr
    assert "jobs" in listed.stdout
    assert "histogram" in listed.stdout
    one = run("took", "--service", "shown")
    assert "1, mean 50.0 ms" in one.stdout
    as_json_ = json.loads(run("jobs", "--service", "shown", "--json").stdout)
    assert as_json_["metrics"][0]["value"] == 3
    none = run("no_such_metric")
    assert (none.returncode, none.stdout) == (1, "")
    assert "no_such_metric" in none.stderr


def test_what_comes_in_makes_no_request_of_the_collectors_own(collector):
    """Each payload would make a span, and each span a payload."""
    post(collector, as_json({"name": "m", "gauge": {"dataPoints": [{"asInt": "1"}]}}))
    urllib.request.urlopen(f"{collector.url}/api/mode", timeout=5).close()

    def calls():
        with urllib.request.urlopen(f"{collector.url}/api/requests?own=true", timeout=5) as answer:
            return {one["call"] for one in json.load(answer)["requests"]}

    deadline = time.monotonic() + 10
    while "GET /api/mode" not in calls():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not any("/v1/" in call for call in calls())


def test_an_answer_of_partial_success_names_data_points():
    """gRPC and HTTP share it."""
    from heatshield_collector.intake.answers import export_response

    response = export_response("metrics", Accepted(2, "why"))
    assert response.partial_success.rejected_data_points == 2
    assert response.partial_success.error_message == "why"
