"""What a scrape of a service gets to see, in process."""

import asyncio
import gzip

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from heatshield import names
from heatshield.counters import COUNTERS
from heatshield.metrics import exposition, families, wsgi_app
from heatshield.metrics.families import Families
from heatshield.metrics.readings import READINGS
from heatshield.metrics.red import Red

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TRACE_ID = 0x5B8EFFF798038103D269B633813FC60C


@pytest.fixture
def red(monkeypatch):
    made = Red()
    monkeypatch.setattr(families, "RED", made)
    return made


@pytest.fixture
def served(monkeypatch, red):
    """The registry that is served is one of the test's own."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Families())
    monkeypatch.setattr(exposition, "REGISTRY", registry)
    yield registry
    READINGS.clear()


def scrape(method="GET", query="", **headers):
    async def ask():
        transport = httpx.ASGITransport(exposition.asgi_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.request(method, f"/metrics{query}", headers=headers)

    return asyncio.run(ask())


def samples(text, parse=plain):
    return {
        (sample.name, *sorted(sample.labels.items())): sample
        for family in parse(text)
        for sample in family.samples
    }


def test_requests_errors_durations_and_what_is_in_flight_are_shown(served, red):
    red.begin()
    red.begin()
    red.observe("GET /a", "ok", 0.02)
    red.observe("GET /a", "error", 3.0)
    red.observe("GET /a", "rejected", 0.001)
    red.end()
    found = samples(scrape().text)
    call = ("call", "GET /a")
    for outcome in ("ok", "error", "rejected"):
        assert found[names.SERVICE_REQUESTS, call, ("outcome", outcome)].value == 1
    duration = names.SERVICE_REQUEST_DURATION
    assert found[f"{duration}_count", call].value == 2
    assert found[f"{duration}_sum", call].value == pytest.approx(3.02)
    assert found[f"{duration}_bucket", call, ("le", "0.025")].value == 1
    assert found[names.SERVICE_REQUESTS_IN_FLIGHT,].value == 1


def test_openmetrics_has_exemplars_that_lead_to_the_request(served, red):
    red.observe("GET /a", "ok", 0.02, trace_id=TRACE_ID, end_ns=1_700_000_000_500_000_000)
    answer = scrape(accept=OPENMETRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    found = samples(answer.text, openmetrics)
    bucket = (f"{names.SERVICE_REQUEST_DURATION}_bucket", ("call", "GET /a"), ("le", "0.025"))
    exemplar = found[bucket].exemplar
    assert exemplar.labels == {"trace_id": f"{TRACE_ID:032x}"}
    assert (exemplar.value, float(exemplar.timestamp)) == (0.02, 1_700_000_000.5)


def test_the_older_format_has_none(served, red):
    red.observe("GET /a", "ok", 0.02, trace_id=TRACE_ID)
    answer = scrape()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert f"{TRACE_ID:032x}" not in answer.text


def test_breakers_and_queues_are_read_at_each_scrape(served):
    READINGS.breakers = lambda: {"reject": 2.0}
    READINGS.queues = lambda: {"spans": 7.0, "logs": 1.0}
    found = samples(scrape().text)
    assert found[names.SERVICE_BREAKERS, ("mode", "reject")].value == 2
    assert found[names.SERVICE_QUEUE_RECORDS, ("queue", "spans")].value == 7


def test_a_reading_that_fails_is_counted_and_takes_nothing_else_along(served, red):
    def fail():
        raise RuntimeError

    READINGS.breakers = fail
    red.observe("GET /a", "ok", 0.02)
    before = COUNTERS.errors.get("metrics", 0)
    found = samples(scrape().text)
    assert (names.SERVICE_REQUESTS, ("call", "GET /a"), ("outcome", "ok")) in found
    assert COUNTERS.errors["metrics"] == before + 1


def test_what_was_dropped_and_swallowed_is_shown(served):
    COUNTERS.drop("for the exposition", 3)
    COUNTERS.error("for the exposition")
    found = samples(scrape().text)
    assert found[names.TELEMETRY_DROPPED, ("cause", "for the exposition")].value >= 3
    assert found[names.INSTRUMENTATION_ERRORS, ("where", "for the exposition")].value >= 1


def test_an_answer_is_compressed_where_that_is_understood(served):
    async def ask():
        sent = []

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "method": "GET",
            "headers": [(b"accept-encoding", b"br;q=0.5, gzip;q=0.1")],
        }  # fmt: skip
        await exposition.asgi_app()(scope, None, send)
        return sent

    start, body = asyncio.run(ask())
    assert (b"content-encoding", b"gzip") in start["headers"]
    assert names.SERVICE_REQUESTS.encode() in gzip.decompress(body["body"])


def test_only_what_is_asked_for_by_name_is_shown(served, red):
    red.begin()
    answer = scrape(query=f"?name[]={names.SERVICE_REQUESTS_IN_FLIGHT}")
    assert list(samples(answer.text)) == [(names.SERVICE_REQUESTS_IN_FLIGHT,)]


def test_head_has_no_body_and_nothing_else_is_allowed(served):
    assert (scrape("HEAD").status_code, scrape("HEAD").content) == (200, b"")
    refused = scrape("POST")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_wsgi_shows_the_same(served, red):
    red.observe("GET /a", "ok", 0.02)
    with httpx.Client(transport=httpx.WSGITransport(wsgi_app()), base_url="http://shop") as client:
        answer = client.get("/metrics", headers={"accept": OPENMETRICS})
    found = samples(answer.text, openmetrics)
    assert (names.SERVICE_REQUESTS, ("call", "GET /a"), ("outcome", "ok")) in found
