"""The whole loop in a real collector, fed by stock OpenTelemetry: found, cut, shown."""

import contextlib
import json
import queue
import threading
import time
import urllib.request
from dataclasses import dataclass

import httpx
import pytest
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

from collector_process import collector_process
from heatshield import names
from heatshield.cli.local_token import local_token

CALL = "POST /purchases/{user}"
HOT = "u-hot"
MS = 1_000_000
GRANTED_WITHIN_S = 1.5
WORKERS = 4
BURNS = 5
"""Quarters of a second for which it burns: less than what refuses a user who is paced."""


class Shop:
    """A service as stock OpenTelemetry instruments it; durations are said, not slept."""

    def __init__(self, url):
        resource = Resource.create({"service.name": "shop", "service.instance.id": "i-1"})
        self.spans = TracerProvider(resource=resource)
        self.spans.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces"), schedule_delay_millis=100)
        )
        self.logs = LoggerProvider(resource=resource)
        self.logs.add_log_record_processor(
            BatchLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs"))
        )

    def purchase(self, user, took_ms, elements, ended_ms=0):
        """One request with its write to Redis and a line in the log; its trace id.

        Args:
            user: who purchases.
            took_ms: how long it took, with the wait for Redis, which serves one after the other.
            elements: written.
            ended_ms: how long ago it ended.
        """
        tracer, logger = self.spans.get_tracer("shop"), self.logs.get_logger("shop")
        end_ns = time.time_ns() - ended_ms * MS
        start_ns = end_ns - took_ms * MS
        server = tracer.start_span(
            CALL, kind=SpanKind.SERVER, start_time=start_ns, attributes={names.ENDUSER_ID: user}
        )
        inside = trace.set_span_in_context(server)
        write = tracer.start_span(
            "SADD",
            inside,
            SpanKind.CLIENT,
            {"db.system": "redis", "server.address": "cart", names.COST_ELEMENTS: elements},
            start_time=start_ns + MS,
        )
        logger.emit(
            timestamp=end_ns - MS,
            context=trace.set_span_in_context(write),
            severity_number=SeverityNumber.INFO,
            body=f"{elements} stickers written",
        )
        write.end(end_ns - MS)
        server.end(end_ns)
        return f"{server.get_span_context().trace_id:032x}"

    def flush(self):
        assert self.spans.force_flush(10_000)
        assert self.logs.force_flush(10_000)

    def shutdown(self):
        self.spans.shutdown()
        self.logs.shutdown()


class Watch:
    """What a client of the breaker stream hears, and when; its instance has four workers."""

    def __init__(self, url):
        self.heard = queue.Queue()
        self._url = f"{url}/v1/breakers/stream"
        report = {"service": "shop", "instance": "i-1", "workers": WORKERS}
        httpx.post(f"{url}/v1/breakers/report", json=report).raise_for_status()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self):
        self._thread.start()

    def join(self):
        """After the collector has ended."""
        self._thread.join(10)

    def _listen(self):
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.stream("GET", self._url, timeout=httpx.Timeout(10, read=None)) as response,
        ):
            event = None
            for line in response.iter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    said = json.loads(line.removeprefix("data: "))
                    self.heard.put((event, said, time.monotonic()))

    def until(self, name, timeout_s=10.0):
        deadline_s = time.monotonic() + timeout_s
        while True:
            event, said, at_s = self.heard.get(timeout=max(0.0, deadline_s - time.monotonic()))
            if event == name:
                return said, at_s


@dataclass
class Story:
    """What happened, for the tests to look at."""

    url: str
    delta: dict
    granted_after_s: float
    hot_traces: list[str]
    ordinary_trace: str
    watch: Watch

    def get(self, path):
        response = httpx.get(self.url + path, timeout=20)
        response.raise_for_status()
        return response.json()


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Eight seconds of forty ordinary users, then one who keeps their Redis busy: whoever asks it
    meanwhile waits for a whole write of that user's at least.
    """
    folder = tmp_path_factory.mktemp("loop") / "data"
    with collector_process(folder, "--mode", "protect", "--cold-start-s", "0") as collector:
        watch, shop = Watch(collector.url), Shop(collector.url)
        watch.start()
        watch.until("snapshot")
        for step in range(80):
            traces = [shop.purchase(f"u-{user}", 3, 5) for user in range(step % 2, 40, 2)]
            shop.flush()
            time.sleep(0.1)
        assert not any(event == "delta" for event, *_ in list(watch.heard.queue))
        first_s = time.monotonic()
        hot = []
        for step in range(BURNS):
            time.sleep(0.25)
            for number in range(3):  # asked for at once, and served one after the other
                hot += [shop.purchase(HOT, 80 * (number + 1), 20_000, 160 - 80 * number)]
            for user in range(step % 2, 40, 2):
                shop.purchase(f"u-{user}", 180, 5)
            shop.flush()
        delta, granted_s = watch.until("delta")
        yield Story(collector.url, delta, granted_s - first_s, hot, traces[0], watch)
        shop.shutdown()
    watch.join()


def test_exactly_the_hot_user_s_call_is_granted_in_time(story):
    (entry,) = story.delta["upsert"]
    assert (entry["user"], entry["service"], entry["call"]) == (HOT, "shop", CALL)
    assert (entry["mode"], entry["issuer"]) == ("pace", "rule:HarmfulUser")
    assert story.delta["mode"] == "protect"
    assert story.granted_after_s < GRANTED_WITHIN_S


def test_its_evidence_is_a_request_of_that_user(story):
    (entry,) = story.delta["upsert"]
    assert entry["evidence"]["trace_ids"]
    assert set(entry["evidence"]["trace_ids"]) <= set(story.hot_traces)


def test_nobody_else_is_cut(story):
    state = story.get("/v1/breakers")
    assert {entry["user"] for entry in state["entries"]} == {HOT}
    harmful = story.get("/api/findings?class=harmful")["findings"]
    assert {row["user"] for row in harmful} == {HOT}


def test_the_finding_says_why_and_who_suffers_and_so_do_the_entry_and_the_alert(story):
    (entry,) = story.delta["upsert"]
    (finding,) = story.get(f"/api/findings?class=harmful&user={HOT}&service=shop")["findings"]
    assert (finding["call"], finding["action"] != "none") == (CALL, True)
    assert finding["victims"]["harmed"] > 0
    assert set(finding["trace_ids"]) <= set(story.hot_traces)
    assert entry["evidence"]["finding"] == finding["id"]
    assert entry["evidence"]["victims"]["harmed"] > 0
    assert entry["reason"].startswith(f"{HOT} keeps ")
    assert "% busy" in entry["reason"]
    alerts = {row["name"]: row for row in story.get("/api/alerts")["alerts"]}
    assert alerts["HarmfulUser"]["annotations"]["why"].startswith(f"{HOT} keeps ")
    assert "are slower than usual" in alerts["HarmfulUser"]["annotations"]["harm"]


def test_a_request_is_shown_with_its_spans_and_logs_in_place(story):
    request = story.get(f"/api/requests/{story.hot_traces[0]}")
    assert (request["user"], request["user_from"]) == (HOT, "entry span")
    server, write = request["spans"]
    assert (server["name"], server["kind"], server["depth"]) == (CALL, "server", 0)
    assert (write["name"], write["depth"], write["parent_span_id"]) == (
        "SADD", 1, server["span_id"],
    )  # fmt: skip
    assert server["self_ns"] == 2 * MS
    assert write["self_ns"] == 78 * MS
    assert request["cost"]["busy_s"] == pytest.approx(0.08)
    assert request["cost"]["elements"] == 20_000
    (line,) = request["logs"]
    assert (line["body"], line["span_id"]) == ("20000 stickers written", write["span_id"])


def test_requests_are_found_by_their_user(story):
    found = story.get(f"/api/requests?user={HOT}")["requests"]
    assert {row["trace_id"] for row in found} == set(story.hot_traces)
    assert {(row["service"], row["call"], row["spans"]) for row in found} == {("shop", CALL, 2)}
    others = story.get("/api/requests?user=u-0")["requests"]
    assert 0 < len(others) <= 50
    assert story.get(f"/api/requests/{story.ordinary_trace}")["user"].startswith("u-")


@pytest.mark.parametrize(("cost", "load"), [("busy", 0.24), ("elements", 30_000), ("calls", 1.5)])
def test_the_hot_user_leads_the_list_by_every_cost_but_calls(story, cost, load):
    view = story.get(f"/api/users/hot?cost={cost}&window=10s&limit=100")
    rows = {row["user"]: row for row in view["users"]}
    assert rows[HOT]["load"] >= load * 0.9
    if cost != "calls":
        assert view["users"][0]["user"] == HOT
    assert rows[HOT]["breaker"] == story.delta["upsert"][0]["id"]
    # The collector is a service of its own, with a worker once its first spans have come.
    assert view["capacity"] in (WORKERS, WORKERS + 1)


def test_calls_show_the_service_and_the_backend_behind_it(story):
    calls = {
        (row["service"], row["call"]): row for row in story.get("/api/calls?window=1m")["calls"]
    }
    assert calls["redis", "SADD"]["elements"] > 0
    assert calls["shop", CALL]["rate"] > 0
    assert calls["shop", CALL]["p99_ms"] >= 100


def test_metrics_tell_of_loads_breakers_and_what_is_durable(story):
    lines = httpx.get(f"{story.url}/metrics", timeout=20).text.splitlines()
    plain = [line for line in lines if not line.startswith("#") and " # " not in line]
    series = {key: float(value) for key, _, value in (line.rpartition(" ") for line in plain)}
    spans = 2 * (20 * 80 + 23 * BURNS)
    assert series[names.SPANS_RECEIVED] >= spans  # the collector's own are among them
    assert series[names.LOGS_RECEIVED] >= spans / 2
    held = {key: count for key, count in series.items() if key.startswith(f"{names.BREAKERS}{{")}
    assert [*held.values()] == [1], held
    hot = [key for key in series if key.startswith(names.USER_LOAD) and f'user="{HOT}"' in key]
    assert hot
    assert series[f'{names.SERVICE_CAPACITY}{{service="shop"}}'] == WORKERS


def test_a_person_clears_the_breaker_and_the_stream_says_so(story):
    """Last: it changes what the others look at."""
    (entry,) = story.delta["upsert"]
    url = f"{story.url}/v1/breakers/{entry['id']}?by=ana"
    admin = {"Authorization": f"Bearer {local_token(url)}"}
    clearing = urllib.request.Request(url, method="DELETE", headers=admin)
    with urllib.request.urlopen(clearing, timeout=10) as answer:
        assert json.load(answer)["cleared"]["user"] == HOT
    said, _ = story.watch.until("delta")
    while not said["remove"]:  # on a slow machine it had been refused by then
        said, _ = story.watch.until("delta")
    assert said["remove"] == [entry["id"]]
    deadline_s = time.monotonic() + 10  # the audit is written beside what it records
    while "cleared" not in (changes := history(story, entry["id"])):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert (changes["opened"], changes["cleared"]) == ("rule:HarmfulUser", "human:ana")


def history(story, entry_id):
    """Who changed an entry, by change. That a rule may not trip again so soon names no entry."""
    rows = story.get("/api/audit")["changes"]
    return {row["change"]: row["issuer"] for row in rows if row["entry_id"] == entry_id}
