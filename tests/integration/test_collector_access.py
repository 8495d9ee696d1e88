"""Who gets in at a real collector: other sites' pages, callers without a token, proxies."""

import http.client
import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from collector_process import collector_process
from heatshield.cli.app import app
from heatshield.cli.local_token import local_token

TOKEN = "of all callers"  # noqa: S105

ROUTES = [
    ("GET", "/api/requests"),
    ("GET", "/v1/breakers"),
    ("GET", "/v1/breakers/stream"),
    ("POST", "/v1/breakers/report"),
    ("GET", "/v1/check"),
    ("POST", "/v1/check/users/7"),
    ("POST", "/v1/traces"),
    ("POST", "/v1/charges"),
    ("PUT", "/api/mode"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("OPTIONS", "/v1/traces"),
]


def ask(collector, method, path, **headers):
    """Status and body; ``Host`` and the others exactly as they are given."""
    connection = http.client.HTTPConnection(collector.host, collector.port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    body = b"{}" if method in ("POST", "PUT") else b""
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("Content-Type", "application/json")
    connection.endheaders(body)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with collector_process(tmp_path_factory.mktemp("access") / "data") as started:
        yield started


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_another_sites_page_is_refused_on_every_route(collector, method, path):
    for headers in (
        {"Host": "evil.example:4318"},
        {"Host": "[::1"},
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        status, body = ask(collector, method, path, **headers)
        assert status == 403, headers
        assert "error" in json.loads(body)


def test_this_machine_sends_and_reads_without_ceremony(collector):
    for path in ("/api/requests", "/v1/breakers", "/metrics", "/docs"):
        assert ask(collector, "GET", path)[0] == 200
    assert ask(collector, "POST", "/v1/traces")[0] == 200


@pytest.mark.parametrize("header", ["X_Forwarded_For", "X_Forwarded_Proto", "Forwarded"])
def test_only_the_token_that_was_left_changes_anything_whatever_a_proxy_says(collector, header):
    said = {header: "127.0.0.1"}
    assert ask(collector, "PUT", "/api/mode", **said)[0] == 401
    bearing = {"Authorization": f"Bearer {local_token(collector.url)}"}
    assert ask(collector, "PUT", "/api/mode", **bearing)[0] == 422  # it is let in; {} is no mode


def test_beyond_loopback_it_refuses_to_start_without_a_token(tmp_path):
    command = [sys.executable, "-c", "from heatshield.cli import main; main()", "up"]
    flags = ["--data", str(tmp_path / "data"), "--http", "0.0.0.0:0", "--grpc", "off"]
    ended = subprocess.run(
        [*command, *flags], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert "openssl rand -hex 32" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) <= 4
    assert not (tmp_path / "data").exists()


def test_with_a_token_services_and_readers_need_it_and_the_command_line_needs_nothing(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("HEATSHIELD_COLLECTOR_TOKEN", TOKEN)
    with collector_process(tmp_path / "data", "--http", "0.0.0.0:0") as started:
        monkeypatch.delenv("HEATSHIELD_COLLECTOR_TOKEN")
        started.host = "127.0.0.1"
        bearing = {"Authorization": f"Bearer {TOKEN}"}
        for method, path in (("GET", "/api/requests"), ("POST", "/v1/traces"), ("GET", "/docs")):
            assert ask(started, method, path)[0] == 401
            assert ask(started, method, path, **bearing)[0] == 200
        assert ask(started, "PUT", "/api/mode", **bearing)[0] == 401
        assert ask(started, "GET", "/healthz", Host="balancer.example")[0] == 200
        monkeypatch.setenv("HEATSHIELD_ENDPOINT", started.url)
        changed = CliRunner().invoke(app, ["mode", "shadow"])
        assert changed.exit_code == 0, changed.output
        _instrumented(started.url)
        rows = json.loads(ask(started, "GET", "/api/requests?service=shop", **bearing)[1])
        assert [row["services"] for row in rows["requests"]] == [["shop"]]


def _instrumented(endpoint):
    """A service with the token sends a span."""
    code = (
        "import heatshield; heatshield.instrument()\n"
        "from opentelemetry import trace\n"
        "trace.get_tracer('t').start_span('buy', kind=trace.SpanKind.SERVER).end()\n"
        "assert heatshield.flush()\n"
    )
    environment = os.environ | {
        "HEATSHIELD_SERVICE": "shop",
        "HEATSHIELD_ENDPOINT": endpoint,
        "HEATSHIELD_TOKEN": TOKEN,
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
