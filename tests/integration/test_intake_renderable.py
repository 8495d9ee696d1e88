"""What was taken in can always be answered: hostile values go in, and every route answers."""

import http.client
import json
import math

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector_process import collector_process

TRACE_ID = b"\xab" * 16
TIMES = [0, 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
TEXTS = ["", "\0", "a\0b", "\ufffd", "\u202e", "\x1e\x1f", '"\\\n{}', "x" * 100_000, "\U0010ffff"]
NUMBERS = [0.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324]
READ = [
    "/metrics",
    "/api/requests?limit=1000&since_s=31622400",
    f"/api/requests/{TRACE_ID.hex()}",
    "/api/metrics?limit=10000&since_s=86400",
    "/api/users/hot?limit=1000",
    "/api/users/hot?by=user&cost=elements&window=5m",
    "/api/calls?limit=1000",
    "/api/findings",
    "/api/alerts",
    "/api/audit",
    "/api/mode",
    "/v1/breakers",
    "/healthz",
    "/readyz",
]


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with collector_process(tmp_path_factory.mktemp("collector") / "data") as running:
        yield running


def ask(collector, method, path, body=None, content_type="application/json"):
    connection = http.client.HTTPConnection(collector.host, collector.port, timeout=30)
    connection.request(method, path, body, {"content-type": content_type})
    answer = connection.getresponse()
    return answer.status, answer.read()


def attribute(to, key, value):
    one = to.attributes.add(key=key).value
    if isinstance(value, str):
        one.string_value = value
    elif isinstance(value, float):
        one.double_value = value
    else:
        one.int_value = value


def hostile_spans():
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute(resource.resource, "service.name", "s\0\u202e")
    spans = resource.scope_spans.add().spans
    cases = [(start, end) for start in TIMES for end in TIMES]
    for index, (start, end) in enumerate(cases, 1):
        span = spans.add(trace_id=TRACE_ID, span_id=index.to_bytes(8, "big"), kind=2)
        span.start_time_unix_nano, span.end_time_unix_nano = start, end
        span.name = TEXTS[index % len(TEXTS)]
        attribute(span, "enduser.id", TEXTS[index % len(TEXTS)])
        for name in ("heatshield.cost.elements", "heatshield.cost.rows", "heatshield.cost.bytes"):
            attribute(span, name, [-(2**63), 2**63 - 1, 0][index % 3])
        attribute(span, "number", NUMBERS[index % len(NUMBERS)])
        event = span.events.add(time_unix_nano=start, name=span.name)
        attribute(event, "number", NUMBERS[index % len(NUMBERS)])
        # Each is a request of its own, too.
        other = spans.add()
        other.CopyFrom(span)
        other.trace_id = index.to_bytes(16, "big")
    return request


def hostile_logs():
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for time in TIMES:
        for text in TEXTS:
            record = records.add(time_unix_nano=time, trace_id=TRACE_ID, severity_text=text)
            record.body.string_value = text
        for number in NUMBERS:
            records.add(trace_id=TRACE_ID).body.array_value.values.add().double_value = number
    return request


def hostile_metrics():
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for text in TEXTS:
        for number in NUMBERS:
            for time in TIMES:
                metric = metrics.add(name="m" + text, unit=text, description=text)
                point = metric.gauge.data_points.add(as_double=number, time_unix_nano=time)
                exemplar = point.exemplars.add(trace_id=TRACE_ID, as_double=number)
                exemplar.time_unix_nano = time
                attribute(point, "k" + text, number)
    for counts in ([2**63 - 1, 2**63 - 1], [2**64 - 1, 2**64 - 1]):
        points = metrics.add(name="h").histogram.data_points
        points.add(count=2**64 - 1, sum=math.inf, bucket_counts=counts, explicit_bounds=[math.nan])
    return request


@pytest.fixture(scope="module")
def fed(collector):
    for signal, request in (
        ("traces", hostile_spans()),
        ("logs", hostile_logs()),
        ("metrics", hostile_metrics()),
    ):
        body = request.SerializeToString()
        status, said = ask(collector, "POST", f"/v1/{signal}", body, "application/x-protobuf")
        assert status == 200, said
    return collector


@pytest.mark.parametrize("path", READ)
def test_every_route_answers_whatever_was_sent(fed, path) -> None:
    status, body = ask(fed, "GET", path)
    assert status == 200, body
    if path != "/metrics":
        json.loads(body, parse_constant=pytest.fail)


@pytest.mark.parametrize("bad", ["\\ud800", "a\\udc00\\ud800b"])
def test_a_lone_surrogate_in_a_report_breaks_nothing(fed, bad) -> None:
    row = dict.fromkeys(("id", "user", "service", "call"), "~") | {"count": 3}
    report = {"service": "~", "instance": "~", "workers": 1, "rejected": [row]}
    status, body = ask(
        fed, "POST", "/v1/breakers/report", json.dumps(report).replace("~", bad).encode()
    )
    assert status == 200, body
    for path in READ:
        status, body = ask(fed, "GET", path)
        assert status == 200, (path, body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/breakers", '{"user": "~", "service": "~", "call": "~", "reason": "~"}'),
        ("PUT", "/api/mode", '{"mode": "protect", "by": "~"}'),
        ("PUT", "/api/mode", '{"mode": "~", "by": "me"}'),
        ("POST", "/v1/breakers", '{"user": "u", "service": "s", "call": "c", "rate_per_s": 1e308}'),
        ("POST", "/v1/breakers", '{"user": "u", "service": "s", "call": "c", "lease_ms": 1e400}'),
        ("POST", "/v1/breakers", '{"user": "u", "service": "s", "call": "c", "lease_ms": NaN}'),
        ("POST", "/v1/breakers/report", '{"service": "s", "instance": "i", "workers": 1e400}'),
        ("POST", "/v1/breakers/report", '{"service": "s", "instance": "i", "applied": "~"}'),
        ("POST", "/v1/breakers/report", '{"service": "~", "~": "~"}'),
        ("DELETE", "/v1/breakers/%ED%A0%80?by=%ED%A0%80", None),
        ("DELETE", "/v1/breakers/%00", None),
        ("GET", "/api/requests?min_duration_ms=1e308", None),
        ("GET", "/api/requests?min_duration_ms=1e300", None),
        ("GET", "/api/requests?min_duration_ms=1e14", None),
        ("GET", "/api/requests?since_s=1e308", None),
        ("GET", "/api/requests?since_s=5e-324", None),
        ("GET", "/api/requests?user=%ED%A0%80&service=%00&call=%FF", None),
        ("GET", "/api/requests?limit=" + "9" * 5000, None),
        ("GET", "/api/metrics?since_s=1e308&name=%00", None),
        ("GET", "/api/metrics?name=%ED%A0%80", None),
        ("GET", "/v1/breakers?wait=1e308", None),
        ("GET", "/v1/breakers?service=%ED%A0%80&instance=%FF&workers=1", None),
        ("GET", "/v1/breakers?service=s&instance=i&workers=" + "9" * 5000, None),
        ("GET", "/%ED%A0%80", None),
        ("GET", "/api/requests/%ED%A0%80", None),
    ],
)
def test_no_parameter_or_body_is_answered_with_a_fault(fed, method, path, body) -> None:
    for bad in ("\\ud800", "\\u0000"):
        status, said = ask(fed, method, path, body and body.replace("~", bad).encode())
        assert status < 500, said
        json.loads(said, parse_constant=pytest.fail)
    for shown in READ:
        status, said = ask(fed, "GET", shown)
        assert status == 200, (shown, said)
