"""Every command against a real HTTP server that answers as the collector's API does."""

import http.server
import json
import subprocess
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from heatshield.cli.app import app
from heatshield.integrations.catalogue import CATALOGUE

TRACE = "ab" * 16
ENTRY = {
    "id": "b-8",
    "user": "u-1",
    "service": "shop",
    "call": "POST /p",
    "mode": "reject",
    "lease_ms": 30_000,
    "issuer": "human:root",
    "reason": "",
    "evidence": {},
    "rate_per_s": 0.0,
    "tenant": "default",
    "seq": 4,
}
OTHER = ENTRY | {"id": "b-9", "user": "u-2"}
HOT = {
    "cost": "busy",
    "window": "10s",
    "at_ns": 1_700_000_000 * 10**9,
    "capacity": 4.0,
    "users": [
        {
            "user": "u-1",
            "service": "shop",
            "call": "POST /p",
            "load": 1.5,
            "lower": 1.5,
            "upper": 1.5,
            "share": 0.9,
            "baseline": 0.01,
            "class": "hot",
            "breaker": "b-8",
            "trace_id": TRACE,
        }
    ],
}
LINKED = {
    "trace_id": TRACE,
    "user": "u-1",
    "user_from": "root",
    "start_ns": 1_700_000_000 * 10**9,
    "duration_ms": 10.0,
    "services": ["shop"],
    "cost": {"busy_s": 0.01, "calls": 1, "errors": 0, "elements": 20_000, "rows": 0, "bytes": 0},
    "spans": [
        {
            "span_id": "01" * 8,
            "parent_span_id": None,
            "orphan": False,
            "depth": 0,
            "service": "shop",
            "instance": "i",
            "name": "POST /p",
            "kind": "server",
            "start_ns": 1_700_000_000 * 10**9,
            "duration_ns": 10_000_000,
            "self_ns": 10_000_000,
            "status": "unset",
            "status_message": "",
            "user": "u-1",
            "call": "POST /p",
            "rejected": None,
            "cost": {"elements": 20_000},
            "attributes": {},
            "events": [],
        }
    ],
    "logs": [],
}


class Api:
    """A collector's API from a table of canned answers; remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.answers = {
            ("GET", "/healthz"): (200, {}),
            ("GET", "/readyz"): (200, {}),
            ("GET", "/api/users/hot"): (200, HOT),
            ("GET", f"/api/requests/{TRACE}"): (200, LINKED),
            ("GET", "/v1/breakers"): (
                200,
                {"epoch": 1, "version": 4, "mode": "protect", "entries": [ENTRY, OTHER]},
            ),
            ("POST", "/v1/breakers"): (201, ENTRY),
            ("DELETE", "/v1/breakers/b-8"): (200, {"cleared": ENTRY}),
            ("GET", "/api/mode"): (200, {"mode": "protect"}),
            ("PUT", "/api/mode"): (200, {"mode": "shadow"}),
        }

    def answer(self, method, target, headers, body):
        parts = urlsplit(target)
        given = json.loads(body) if body else None
        self.asked.append((method, parts.path, parse_qs(parts.query), given, headers))
        return self.answers.get((method, parts.path), (404, {"error": f"no {parts.path} here"}))

    def body_of(self, method):
        return next(given for asked, _, _, given, _ in self.asked if asked == method)


@pytest.fixture
def api(monkeypatch):
    state = Api()

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = state.answer(self.command, self.path, dict(self.headers), body)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815  http.server's names

        def log_message(self, *_):
            """Keep the test's output to the test."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        state.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("HEATSHIELD_ENDPOINT", state.endpoint)
        monkeypatch.setenv("COLUMNS", "160")
        yield state
        server.shutdown()


@pytest.fixture
def nobody(monkeypatch):
    """An endpoint at which nothing listens."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_address[1]
    monkeypatch.setenv("HEATSHIELD_ENDPOINT", f"http://127.0.0.1:{port}")
    return f"http://127.0.0.1:{port}"


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def test_request_shows_the_waterfall_and_json_is_the_answer_unchanged(api):
    shown = run("request", TRACE)
    assert shown.exit_code == 0, shown.output
    assert "20,000" in shown.stdout
    assert "shop POST /p" in shown.stdout
    assert json.loads(run("request", TRACE, "--json").stdout) == LINKED


def test_an_unknown_request_says_what_the_collector_says(api):
    result = run("request", "no/such")
    assert result.exit_code == 1
    assert "no /api/requests/no%2Fsuch here" in result.stderr
    assert result.stdout == ""


def test_hot_asks_for_what_the_flags_say(api):
    result = run("hot", "--once", "--cost", "elements", "--window", "1m", "--limit", "3")
    assert result.exit_code == 0, result.output
    assert api.asked[0][2] == {
        "cost": ["elements"],
        "window": ["1m"],
        "limit": ["3"],
        "by": ["call"],
    }
    assert "u-1" in result.stdout


def test_hot_into_a_pipe_prints_once_and_json_is_the_answer_unchanged(api):
    assert "90.0%" in run("hot").stdout
    assert json.loads(run("hot", "--once", "--json").stdout) == HOT


def test_an_unknown_window_is_a_wrong_call(api):
    assert run("hot", "--window", "2h").exit_code == 2
    assert api.asked == []


def test_breakers_lists_what_is_held(api):
    assert "b-8" in run("breakers").stdout
    held = json.loads(run("breakers", "--json").stdout)
    assert [entry["id"] for entry in held["entries"]] == ["b-8", "b-9"]


def test_trip_sends_the_entry_with_a_human_issuer_and_the_token(api, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    result = run(
        "trip", "u-1", "shop", "POST /p", "--lease", "2m", "--reason", "r", "--token", "s3"
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert api.body_of("POST") == {
        "user": "u-1",
        "service": "shop",
        "call": "POST /p",
        "mode": "reject",
        "lease_ms": 120_000,
        "reason": "r",
        "issuer": "human:ada",
    }
    assert api.asked[0][4]["Authorization"] == "Bearer s3"
    assert (
        "tripped b-8: reject POST /p of shop for user u-1, for 120 s or until it is cleared"
        in result.stdout
    )
    assert "shadow" not in result.stdout


def test_trip_in_shadow_says_that_nothing_is_enforced(api):
    api.answers["GET", "/api/mode"] = (200, {"mode": "shadow"})
    assert "nothing is enforced" in run("trip", "u-1", "shop", "POST /p").stdout


def test_trickle_needs_a_rate_and_sends_it(api):
    assert run("trip", "u-1", "shop", "c", "--mode", "trickle").exit_code == 2
    assert run("trip", "u-1", "shop", "c", "--rate", "2").exit_code == 2
    assert api.asked == []
    assert run("trip", "u-1", "shop", "c", "--mode", "trickle", "--rate", "2").exit_code == 0
    assert api.body_of("POST")["rate_per_s"] == 2


def test_trip_json_is_the_entry(api):
    assert json.loads(run("trip", "u-1", "shop", "POST /p", "--json").stdout) == ENTRY


def test_a_lease_beyond_the_ceiling_is_a_wrong_call(api):
    assert run("trip", "u-1", "shop", "c", "--lease", "16m").exit_code == 2
    assert api.asked == []


def test_clear_by_id_and_by_user(api, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert "cleared b-8: u-1 can POST /p of shop again" in run("clear", "b-8").stdout
    assert api.asked[-1][:3] == ("DELETE", "/v1/breakers/b-8", {"by": ["ada"]})
    assert json.loads(run("clear", "--user", "u-1", "--json").stdout) == {"cleared": [ENTRY]}
    assert api.asked[-1][1] == "/v1/breakers/b-8"


def test_clear_of_a_user_without_breakers_fails_and_without_a_name_is_a_wrong_call(api):
    assert run("clear", "--user", "u-3").exit_code == 1
    assert run("clear").exit_code == 2
    assert run("clear", "b-8", "--user", "u-1").exit_code == 2
    assert not any(method == "DELETE" for method, *_ in api.asked)


def test_mode_is_shown_and_switched(api, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert run("mode").stdout == "protect: breakers are enforced\n"
    assert "nothing is enforced" in run("mode", "shadow").stdout
    assert api.body_of("PUT") == {"mode": "shadow", "by": "ada"}
    assert json.loads(run("mode", "--json").stdout) == {"mode": "protect"}


def test_a_refusal_shows_the_bodys_message_alone(api):
    api.answers["POST", "/v1/breakers"] = (403, {"error": "an ingest token can't write entries"})
    result = run("trip", "u-1", "shop", "c", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "heatshield: an ingest token can't write entries\n"


@pytest.mark.parametrize(("status", "body"), [(502, b"<html>"), (500, b""), (200, b"<html>")])
def test_something_that_is_no_collector_is_said_so(api, status, body):
    api.answers["GET", "/api/mode"] = (status, body)
    result = run("mode")
    assert result.exit_code == 1
    assert str(status) in result.stderr or "did not answer with JSON" in result.stderr


def test_doctor_finds_a_collector_and_this_interpreter(api):
    result = run("doctor", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["reachable"] is True
    assert [(probe["path"], probe["status"]) for probe in found["probes"]] == [
        ("/healthz", 200),
        ("/readyz", 200),
    ]
    assert all(probe["latency_ms"] > 0 for probe in found["probes"])
    assert found["versions"]["heatshield"]
    assert found["instrumented"] is False
    states = {row["name"]: row["state"] for row in found["integrations"]}
    assert states == dict.fromkeys((one.name for one in CATALOGUE), "available")
    assert "✓" in run("doctor").stdout


def test_doctor_says_why_a_collector_is_not_ready(api):
    api.answers["GET", "/readyz"] = (503, {"ready": False, "reasons": ["the store is opening"]})
    found = run("doctor")
    assert found.exit_code == 0
    assert "answers 503" in found.stdout
    assert "✗ the store is opening" in found.stdout


def test_doctor_without_a_collector_says_so_and_exits_with_1(nobody):
    shown = run("doctor")
    assert shown.exit_code == 1
    assert f"no collector answers at {nobody}" in shown.stdout.replace("\n", "")
    found = run("doctor", "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["reachable"] is False


@pytest.mark.parametrize(
    "command",
    [
        ("request", TRACE),
        ("hot", "--once"),
        ("hot", "--json"),
        ("breakers", "--json"),
        ("trip", "u", "s", "c"),
        ("clear", "b-1"),
        ("mode",),
    ],
)
def test_without_a_collector_every_command_says_how_to_start_one(nobody, command):
    result = run(*command)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert (
        result.stderr
        == f"heatshield: no collector answers at {nobody}: start one with `heatshield up`"
        " (connection refused)\n"
    )


def test_a_misspelt_setting_is_a_wrong_call(api, monkeypatch):
    monkeypatch.setenv("HEATSHIELD_ENDPONT", "http://x")
    result = run("mode")
    assert result.exit_code == 2
    assert "did you mean 'HEATSHIELD_ENDPOINT'" in result.stderr


def program(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", "from heatshield.cli import main; main()", *arguments],
        capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def test_the_program_prints_json_on_stdout_alone(api):
    result = program("hot", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == HOT
    assert result.stderr == ""


def test_run_starts_the_command_in_its_place_with_the_flags_in_its_environment():
    script = "import os, sys; print(os.environ['HEATSHIELD_SERVICE'], sys.argv[1:]); sys.exit(7)"
    result = program("run", "--service", "shop", "--", sys.executable, "-c", script, "--json", "-x")
    assert result.returncode == 7, result.stderr
    assert result.stdout == "shop ['--json', '-x']\n"


def test_doctor_under_run_sees_an_instrumented_interpreter(api):
    """`heatshield run` reaches a Python child, and the doctor names what is active in it."""
    doctor = "from heatshield.cli import main; main()"
    result = program(
        "run", "--service", "shop", "--", sys.executable, "-c", doctor, "doctor", "--json"
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["instrumented"] is True
    assert found["instrumentation"]["service"] == "shop"
    assert {row["state"] for row in found["integrations"]} == {"active"}


def test_run_of_a_command_that_is_not_there_exits_as_a_shell_does():
    result = program("run", "--", "no-such-program-here")
    assert result.returncode == 127
    assert result.stderr == "heatshield: no-such-program-here: command not found\n"


def test_importing_the_command_line_loads_nothing_heavy():
    """Rich, the SDK and the server's libraries are imported by the commands that need them."""
    code = (
        "import sys, heatshield.cli;"
        "print([m for m in ('rich.console', 'opentelemetry.sdk', 'fastapi', 'duckdb', 'polars',"
        " 'grafana_foundation_sdk') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout == "[]\n"


def test_a_collector_that_hangs_is_given_up_on(monkeypatch):
    """A listener that accepts and never answers costs the timeout, not forever."""
    import socket

    from heatshield.cli.client import Collector
    from heatshield.cli.errors import CollectorUnreachable

    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = Collector(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.05)
        started = time.monotonic()
        with pytest.raises(CollectorUnreachable, match="timed out"):
            source.get("/api/mode")
        assert time.monotonic() - started < 2
