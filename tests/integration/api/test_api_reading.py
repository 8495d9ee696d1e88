"""The routes that people and pages read: requests, loads, findings, alerts, health, metrics."""

import json

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from heatshield.clock import Instant
from heatshield_alerts.rules import Alert, AlertState
from heatshield_alerts.series import Labels
from heatshield_collector.store.protocol import StoreError

START_NS = 1_700_000_000 * 10**9
TRACE = "ab" * 16

SUMMARY = {
    "trace_id": bytes.fromhex(TRACE),
    "start_ns": START_NS,
    "duration_ns": 1_500_000,
    "user": "u-1",
    "service": None,
    "call": None,
    "spans": 3,
    "errors": 1,
    "busy_ns": 250_000_000,
    "elements": 20_000,
    "services": ["gateway", "shop"],
}


def test_search_hands_every_parameter_to_the_store(face):
    face.store.summaries = [SUMMARY]
    answer = face.get(
        "/api/requests?user=u-1&service=shop&call=POST%20/p&errors=true"
        "&min_duration_ms=2.5&since_s=60&limit=7"
    )
    query = face.store.query
    assert (query.user, query.service, query.call, query.errors) == ("u-1", "shop", "POST /p", True)
    assert (query.min_duration_ns, query.limit) == (2_500_000, 7)
    assert query.since_ns == START_NS - 60 * 10**9
    assert query.until_ns >= START_NS
    assert answer.json() == {
        "requests": [
            {
                "trace_id": TRACE,
                "user": "u-1",
                "service": None,
                "call": None,
                "start_ns": START_NS,
                "duration_ms": 1.5,
                "spans": 3,
                "errors": 1,
                "busy_s": 0.25,
                "elements": 20_000,
                "services": ["gateway", "shop"],
            }
        ]
    }


def test_search_without_parameters_asks_for_the_last_hour_of_anything(face):
    assert face.get("/api/requests").json() == {"requests": []}
    query = face.store.query
    assert (query.user, query.errors, query.limit) == (None, None, 50)
    assert query.since_ns == START_NS - 3600 * 10**9


@pytest.mark.parametrize(
    ("path", "named", "allowed"),
    [
        ("/api/requests?limit=0", "limit", "greater than or equal to 1"),
        ("/api/requests?limit=5000", "limit", "less than or equal to 1000"),
        ("/api/requests?errors=perhaps", "errors", "boolean"),
        ("/api/requests?since_s=-1", "since_s", "greater than 0"),
        ("/api/requests?min_duration_ms=nan", "min_duration_ms", "finite"),
        (
            "/api/users/hot?cost=money",
            "cost",
            "'busy', 'calls', 'elements', 'cpu', 'backend' or 'wait'",
        ),
        ("/api/users/hot?window=2h", "window", "'1s', '10s', '1m' or '5m'"),
        ("/api/requests/xyz", "trace_id", "pattern"),
        ("/v1/breakers?wait=3600", "wait", "less than or equal to 60"),
    ],
)
def test_a_wrong_parameter_is_422_and_says_which_and_what_is_allowed(face, path, named, allowed):
    answer = face.get(path)
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]
    assert named in answer.json()["error"]
    assert allowed in answer.json()["error"]


def test_one_request_is_linked(face, span_row):
    face.store.spans = [
        span_row(
            1,
            service="gateway",
            attribute_keys="i:http.status_code\x1fs:odd",
            attribute_values="200\x1f1",
        ),
        span_row(2, parent=1, user="u-1", elements=20_000, start_ns=START_NS + 1),
    ]
    face.store.user = ("u-1", 1)
    answer = face.get(f"/api/requests/{TRACE}").json()
    assert (answer["trace_id"], answer["user"], answer["user_from"]) == (
        TRACE,
        "u-1",
        "server span",
    )
    assert answer["services"] == ["gateway", "shop"]
    assert answer["cost"]["elements"] == 20_000
    assert [span["depth"] for span in answer["spans"]] == [0, 1]
    assert answer["spans"][0]["attributes"] == {"http.status_code": 200, "odd": "1"}


def test_a_value_that_json_does_not_have_becomes_null(face, span_row):
    face.store.spans = [span_row(1, attribute_keys="d:ratio", attribute_values="nan")]
    answer = face.get(f"/api/requests/{TRACE}")
    assert json.loads(answer.text)["spans"][0]["attributes"] == {"ratio": None}


@pytest.mark.parametrize("asked", ["0" * 16 + "ab" * 8, "AB" * 8])
def test_short_and_upper_case_ids_find_their_request(face, span_row, asked):
    face.store.spans = [span_row(1, trace_id=bytes(8) + b"\xab" * 8)]
    assert face.get(f"/api/requests/{asked}").json()["trace_id"] == "0" * 16 + "ab" * 8


def test_an_unknown_request_is_404_with_a_sentence(face):
    answer = face.get(f"/api/requests/{TRACE}")
    assert answer.status_code == 404
    assert TRACE in answer.json()["error"]


def test_a_store_that_fails_is_503_with_retry_after(face):
    face.store.error = StoreError("the disk is on fire")
    answer = face.get("/api/requests")
    assert (answer.status_code, answer.json()) == (503, {"error": "the disk is on fire"})
    assert answer.headers["retry-after"] == "1"


def test_an_unforeseen_failure_is_500_and_tells_nothing_of_the_inside(face):
    face.store.error = RuntimeError("secret path /etc/x")
    answer = face.get("/api/requests")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert list(answer.json()) == ["error"]


def test_unknown_paths_and_methods_are_json_errors_too(face):
    missing, wrong = face.get("/api/nothing"), face.call("POST", "/api/requests")
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert "/api/nothing" in missing.json()["error"]
    assert "GET" in wrong.json()["error"]


def test_hot_users_have_the_documented_shape(face):
    answer = face.get("/api/users/hot?cost=elements&window=1s&limit=3").json()
    assert face.ports.loads.asked == ("elements", "1s", 3, "call")
    assert answer == {
        "cost": "elements",
        "window": "1s",
        "at_ns": START_NS,
        "capacity": 8.0,
        "users": [
            {
                "user": "u-1",
                "service": "shop",
                "call": "POST /p",
                "load": 2.0,
                "lower": 1.9,
                "upper": 2.1,
                "share": 0.25,
                "baseline": None,
                "class": "hot",
                "breaker": "b-1",
                "trace_id": TRACE,
                "done": "",
            }
        ],
    }


def test_calls_have_the_documented_shape(face):
    answer = face.get("/api/calls?window=1m&limit=2").json()
    assert face.ports.loads.asked == ("1m", 2)
    assert answer["window"] == "1m"
    assert answer["calls"] == [
        {
            "service": "shop",
            "call": "POST /p",
            "rate": 10.0,
            "errors_per_s": 0.5,
            "busy": 2.0,
            "elements": 20_000.0,
            "p50_ms": 12.5,
            "p99_ms": None,
        }
    ]


def test_alerts_are_those_of_the_moment(face):
    since = Instant(1.0, START_NS)
    labels = Labels({"user": "u-1"})
    face.alerts.append(Alert("HarmfulUser", labels, AlertState.FIRING, 2.0, {}, since, since))
    assert face.get("/api/alerts").json()["alerts"] == [
        {
            "name": "HarmfulUser",
            "state": "firing",
            "labels": {"user": "u-1"},
            "annotations": {},
            "value": 2.0,
            "active_at_ns": START_NS,
            "fired_at_ns": START_NS,
            "resolved_at_ns": None,
            "done": "",
        }
    ]


def test_health_is_ok_while_readiness_says_why_not(face):
    assert face.get("/readyz").json() == {"ready": True, "reasons": [], "notes": []}
    face.reasons.append("the commit loop has not started")
    answer = face.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        503,
        {"ready": False, "reasons": ["the commit loop has not started"], "notes": []},
    )
    assert face.get("/healthz").status_code == 200


def test_metrics_come_in_the_format_that_is_asked_for(face):
    plain = face.get("/metrics", headers={"Accept": "text/plain"})
    assert plain.headers["content-type"].startswith("text/plain")
    rich = face.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert rich.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name for family in text_string_to_metric_families(rich.text)}
    assert "heatshield_spans_received" in families


def test_documentation_lists_every_route_with_its_shape(face):
    document = face.get("/openapi.json").json()
    assert set(document["paths"]) >= {
        "/api/requests",
        "/api/requests/{trace_id}",
        "/api/users/hot",
        "/api/calls",
        "/api/findings",
        "/api/alerts",
        "/api/events",
        "/api/mode",
        "/v1/breakers",
        "/v1/breakers/{entry_id}",
        "/v1/breakers/stream",
        "/v1/breakers/report",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    shapes = document["components"]["schemas"]
    assert "class" in shapes["UserLoad"]["properties"]
    assert "entries" in shapes["BreakerState"]["properties"]
    assert "self_ns" in shapes["LinkedSpan"]["properties"]
    assert face.get("/docs").status_code == 200


def test_a_body_beyond_the_limit_is_413(face):
    answer = face.call("POST", "/v1/breakers/report", json={"service": "x" * 2**20})
    assert answer.status_code == 413
    assert face.breakers.reports == []


def test_intake_routes_are_mounted_as_they_are(face):
    class Take:
        """Speaks ASGI itself, as the OTLP endpoints do; the API's limit on bodies is not its."""

        async def __call__(self, scope, receive, send):
            body = await Request(scope, receive).body()
            await PlainTextResponse(f"taken {len(body)}")(scope, receive, send)

    face.intake.append(Route("/v1/traces", Take(), methods=["POST"]))
    assert face.call("POST", "/v1/traces", content=b"x" * 2**21).text == f"taken {2**21}"
