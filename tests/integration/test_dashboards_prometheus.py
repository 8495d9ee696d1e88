"""Every query of every panel runs in a real Prometheus, Debian's, and finds something."""

import http.server
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from heatshield import names
from heatshield.cli.local_token import local_token
from heatshield_dashboards.hot_users import hot_users
from heatshield_dashboards.provision import Places, as_object, files
from heatshield_stickershop.platform import Platform, PlatformSettings

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
SCRAPE_S = 0.2
"""Faster than what is provisioned, so that the test need not wait for a rate."""

VARIABLES = {
    "$__rate_interval": "5s",
    "$cost": "busy",
    "$window": "10s",
    "$service": ".*",
}

DASHBOARD = as_object(hot_users())
TARGETS = [
    pytest.param(target, id=f"{panel['title']}-{target['refId']}".replace(" ", "_"))
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
] + [
    pytest.param(
        {"expr": one["expr"], "legendFormat": one["titleFormat"], "instant": False}, id=one["name"]
    )
    for one in DASHBOARD["annotations"]["list"]
    if "expr" in one
]


def needs(program):
    if program is None:
        assert os.environ.get("CI") != "true", "Prometheus has to be installed in CI"
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    return program


def substituted(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def canned_registry():
    """The metrics of heatshield.names with the labels that are documented there."""
    registry = CollectorRegistry()

    def gauge(name, **labels):
        made = Gauge(name, "canned", list(labels), registry=registry)
        return made.labels(**labels) if labels else made

    def counter(name, **labels):
        made = Counter(name.removesuffix("_total"), "canned", list(labels), registry=registry)
        return made.labels(**labels) if labels else made

    call = {"service": "shop", "call": "POST /purchases/{user}"}
    load = {"cost": "busy", "window": "10s"}
    gauge(names.USER_LOAD, user="u-1", **call, **load).set(2.0)
    gauge(names.CALL_LOAD, **call, **load).set(2.5)
    gauge(names.FINDING, **{"class": "hot"}, action="none", user="u-1", **call, **load).set(2.0)
    gauge(names.SERVICE_CAPACITY, service="shop").set(4)
    gauge(names.ALERTS, alertname="HarmfulUser", alertstate="firing").set(1)
    gauge(names.BREAKERS, state="open", mode="reject").set(1)
    gauge(names.BREAKER_HELD, user="u-1", **call, state="open", mode="reject").set(1)
    gauge(names.RULE_FAILING, group="mine", rule="Mine").set(1)
    for plain in (
        names.COMMIT_QUEUE_BYTES,
        names.STORE_BYTES,
        names.STREAM_SUBSCRIBERS,
        names.INSTANCES_BEHIND,
        names.INSTANCES_NOT_ENFORCING,
        names.POLICY_IN_FORCE,
    ):
        gauge(plain).set(1)
    moving = [
        counter(names.BREAKER_REJECTED, **call),
        counter(names.REQUESTS, **call, outcome="ok"),
        counter(names.SPANS_RECEIVED),
        counter(names.LOGS_RECEIVED),
        counter(names.SAMPLES_RECEIVED),
        counter(names.CHARGES_DROPPED, cause="pending_full"),
        counter(names.CHARGE_REPORTS, outcome="counted"),
        counter(names.PAYLOADS_REFUSED, cause="overload"),
        counter(names.STREAMS_CUT_OFF, cause="behind"),
        counter(names.REQUESTS_COLLAPSED),
        counter(names.EVALUATION_FAILURES),
        counter(names.POLICY_FAILURES),
        counter(names.JOURNAL_DROPPED),
        counter(names.STATE_WRITE_FAILURES),
        counter(names.NOTIFICATIONS, outcome="failed"),
    ]
    duration = Histogram(names.REQUEST_DURATION, "canned", list(call), registry=registry)
    durations = duration.labels(**call)
    commits = Histogram(names.COMMIT_SECONDS, "canned", registry=registry)

    def happen():
        for one in moving:
            one.inc()
        commits.observe(0.02)
        durations.observe(0.2, exemplar={"trace_id": "ab" * 16})

    return registry, happen


@contextmanager
def canned_exposition():
    """An endpoint whose figures move at each scrape; yields its address."""
    registry, happen = canned_registry()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            happen()
            content = generate_latest(registry)
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Keep the test's output to the test."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def ask(method, url, body=None):
    """What an address answers, whatever its status."""
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {local_token(url)}",
    }
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.read().decode()


def until_refused(collector):
    """Wait until a service has reported that it refused the hot user."""
    deadline = time.monotonic() + 45
    while f"{names.BREAKER_REJECTED}{{" not in ask("GET", f"{collector}/metrics"):
        assert time.monotonic() < deadline, "nobody was refused"
        time.sleep(0.2)


@contextmanager
def stickershop():
    """The example's platform while a user with 20,000 stickers keeps buying; its collector.

    He is cut off first, for the panels that show refusals, and then let through in shadow, for
    those that show who is hot.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Platform(PlatformSettings(Path(folder), "protect", cold_start_s=0.0, seed=1)) as platform,
    ):
        load = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "heatshield_stickershop.load",
                    "--gateway",
                    platform.gateway_url,
                ),
                *("--seed", "1", "--calm-s", "8", "--hot-s", "120"),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            until_refused(platform.collector_url)
            ask("POST", f"{platform.collector_url}/v1/traces", b"no OTLP at all")
            ask("PUT", f"{platform.collector_url}/api/mode", b'{"mode": "shadow"}')
            yield platform.collector_url
        finally:
            load.kill()
            load.wait()


SOURCES = {"canned": canned_exposition, "stickershop": stickershop}
"""What Prometheus scrapes, each a context manager that yields the address of a collector."""


class Prometheus:
    """Asks one over its HTTP API, as Grafana does."""

    PATIENCE_S = 10.0
    """A finding or an alert of the traffic may be a few scrapes away."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path, **form):
        content = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", content, timeout=5) as response:
            answer = json.load(response)
        assert answer["status"] == "success"
        return answer["data"]

    def series(self, query, over_s=None):
        """What the query finds now, or over the last seconds; waits for there to be something."""
        deadline = time.monotonic() + self.PATIENCE_S
        while True:
            now = time.time()
            found = (
                self.ask("query", query=query)
                if over_s is None
                else self.ask("query_range", query=query, start=now - over_s, end=now, step="1")
            )["result"]
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    def scrapes(self):
        try:
            found = self.ask("query", query="count_over_time(up[1m]) and up == 1")["result"]
        except OSError:
            return 0
        return int(found[0]["value"][1]) if found else 0


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def prometheus_over(collector, folder):
    """Debian's Prometheus with the provisioned scrape configuration, scraping faster."""
    provisioned = files(Places(collector=collector))["prometheus/heatshield.yaml"]
    config = yaml.safe_load(provisioned)
    config["scrape_configs"][0]["scrape_interval"] = f"{round(SCRAPE_S * 1000)}ms"
    config["scrape_configs"][0]["scrape_timeout"] = f"{round(SCRAPE_S * 1000)}ms"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        prometheus = Prometheus(port)
        deadline = time.monotonic() + 30
        while prometheus.scrapes() < 5:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield prometheus
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture(scope="module", params=SOURCES)
def prometheus(request, tmp_path_factory):
    needs(PROMETHEUS)
    with (
        SOURCES[request.param]() as collector,
        prometheus_over(collector, tmp_path_factory.mktemp("prometheus")) as running,
    ):
        yield running


@pytest.mark.parametrize("target", TARGETS)
def test_a_panels_query_succeeds_and_finds_something(prometheus, target):
    """Asked as Grafana asks it: a table at this instant, a line over a range."""
    expression = substituted(target["expr"])
    found = prometheus.series(expression, over_s=None if target["instant"] else 10)
    assert found, f"nothing for {expression}"


@pytest.mark.parametrize("target", TARGETS)
def test_a_legend_names_labels_that_its_series_have(prometheus, target):
    wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    expression = substituted(target["expr"])
    found = prometheus.series(expression)
    assert found
    assert all(wanted <= set(series["metric"]) for series in found)


def test_the_requests_behind_a_duration_are_found_by_their_trace_id(prometheus):
    expression = next(t.values[0]["expr"] for t in TARGETS if t.values[0]["exemplar"])
    now = time.time()
    found = prometheus.ask(
        "query_exemplars", query=substituted(expression), start=now - 60, end=now + 1
    )
    labels = [exemplar["labels"] for series in found for exemplar in series["exemplars"]]
    assert labels
    assert all(re.fullmatch("[0-9a-f]{32}", label["trace_id"]) for label in labels)


def test_a_tables_columns_are_labels_of_its_series(prometheus):
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "table":
            columns = panel["transformations"][0]["options"]["includeByName"]
            found = prometheus.series(substituted(panel["targets"][0]["expr"]))
            assert set(columns) - {"Value"} <= set(found[0]["metric"])


def test_the_service_variable_finds_services(prometheus):
    variable = next(v for v in DASHBOARD["templating"]["list"] if v["name"] == "service")
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
    found = prometheus.series(f"group by ({label}) ({metric})")
    assert found
    assert all(series["metric"][label] for series in found)


def test_promtool_accepts_the_provisioned_scrape_configuration(tmp_path):
    needs(PROMTOOL)
    path = tmp_path / "prometheus.yaml"
    path.write_text(files(Places())["prometheus/heatshield.yaml"])
    checked = subprocess.run(
        [PROMTOOL, "check", "config", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_canned_metric_is_one_that_heatshield_names():
    """The canned figures stand in for the collector's: none may be invented."""
    registry, _ = canned_registry()
    exposed = {
        sample.name
        for sample in itertools.chain.from_iterable(f.samples for f in registry.collect())
        if not sample.name.endswith(("_created", "_bucket", "_count", "_sum"))
    }
    assert exposed <= {value for value in vars(names).values() if isinstance(value, str)}
