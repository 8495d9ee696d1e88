"""The commands against `heatshield up` itself: what one prints is what the other holds."""

import json
import re
import subprocess
import sys
import time
import urllib.request

import pytest
from typer.testing import CliRunner

from heatshield import names
from heatshield.cli.app import app

TRACE = "5e" * 16
ROOT, WRITE = "0a" * 8, "0b" * 8
MS = 1_000_000


def attribute(key, value):
    kind = "intValue" if isinstance(value, int) else "stringValue"
    return {"key": key, "value": {kind: value}}


def resource(service):
    return {"attributes": [attribute(names.SERVICE_NAME, service)]}


def spans(start_ns):
    root = {
        "traceId": TRACE,
        "spanId": ROOT,
        "name": "POST /purchases/{user}",
        "kind": 2,
        "startTimeUnixNano": start_ns,
        "endTimeUnixNano": start_ns + 100 * MS,
        "attributes": [attribute(names.ENDUSER_ID, "u-1")],
    }
    write = {
        "traceId": TRACE,
        "spanId": WRITE,
        "parentSpanId": ROOT,
        "name": "SADD",
        "kind": 3,
        "startTimeUnixNano": start_ns + 10 * MS,
        "endTimeUnixNano": start_ns + 90 * MS,
        "attributes": [
            attribute("db.system", "redis"),
            attribute(names.COST_ELEMENTS, 20_000),
        ],
    }
    return {
        "resourceSpans": [{"resource": resource("shop"), "scopeSpans": [{"spans": [root, write]}]}]
    }


def logs(start_ns):
    record = {
        "traceId": TRACE,
        "spanId": WRITE,
        "timeUnixNano": start_ns + 89 * MS,
        "severityText": "INFO",
        "body": {"stringValue": "ownership \x1b[31mrefreshed"},
    }
    return {
        "resourceLogs": [{"resource": resource("shop"), "scopeLogs": [{"logRecords": [record]}]}]
    }


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    """A collector that has one request; yields its address."""
    folder = tmp_path_factory.mktemp("collector")
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from heatshield.cli import main; main()", "up"),
            *("--data", str(folder / "data"), "--http", "127.0.0.1:0", "--grpc", "off"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    try:
        said = process.stdout.readline()
        address = re.search(r"http://[0-9.:]+", said)
        assert address, said
        start_ns = time.time_ns() - 200 * MS
        for path, body in ((names.OTLP_TRACES_PATH, spans(start_ns)), ("/v1/logs", logs(start_ns))):
            sent = urllib.request.Request(
                address[0] + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(sent, timeout=10) as response:
                assert response.status == 200
        yield address[0]
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def run(collector, monkeypatch):
    monkeypatch.setenv("HEATSHIELD_ENDPOINT", collector)
    monkeypatch.setenv("COLUMNS", "140")
    return lambda *arguments: CliRunner().invoke(app, arguments)


def held(run):
    return {entry["id"] for entry in json.loads(run("breakers", "--json").stdout)["entries"]}


def test_request_shows_the_write_of_a_whole_collection_with_its_user_and_log(run):
    result = run("request", TRACE)
    assert result.exit_code == 0, result.output
    assert re.search(r"user +u-1", result.stdout)
    assert re.search(r"shop SADD .*80\.0 ms +80\.0 ms +20,000", result.stdout)
    assert "INFO ownership \\x1b[31mrefreshed" in result.stdout


def test_a_request_that_is_not_stored_is_said_so(run):
    result = run("request", "00" * 15 + "01")
    assert result.exit_code == 1
    assert "no span or log of request" in result.stderr


@pytest.mark.parametrize("cost", ["busy", "calls", "elements"])
@pytest.mark.parametrize("window", ["1s", "10s", "1m", "5m"])
def test_hot_takes_every_cost_and_window(run, cost, window):
    result = run("hot", "--once", "--cost", cost, "--window", window)
    assert result.exit_code == 0, result.output
    assert f"users by {cost} load over {window}" in result.stdout


def test_a_first_trace_id_is_found_without_curl(run):
    found = json.loads(run("requests", "--user", "u-1", "--json").stdout)["requests"]
    assert [one["trace_id"] for one in found] == [TRACE]
    assert TRACE in run("requests", "--service", "shop").stdout


def test_the_collectors_own_requests_are_shown_only_when_asked_for(run):
    def roots(*flags):
        answer = json.loads(run("requests", "--limit", "1000", "--json", *flags).stdout)
        return {one["service"] for one in answer["requests"]}

    deadline = time.monotonic() + 20
    while names.COLLECTOR_SERVICE not in roots("--own"):
        assert time.monotonic() < deadline, "the collector has reported nothing of itself"
        time.sleep(0.1)
    assert roots() == {"shop"}
    assert roots("--service", names.COLLECTOR_SERVICE) == {names.COLLECTOR_SERVICE}


def test_what_was_done_is_in_the_audit(run):
    tripped = json.loads(run("trip", "u-9", "shop", "POST /p", "--json", "--force").stdout)
    run("clear", tripped["id"])
    deadline = time.monotonic() + 20
    while True:
        changes = json.loads(run("audit", "--json").stdout)["changes"]
        found = [one["change"] for one in changes if one["entry_id"] == tripped["id"]]
        if found == ["cleared", "opened"]:
            break
        assert time.monotonic() < deadline, changes
        time.sleep(0.05)
    assert "cleared" in run("audit").stdout
    assert run("alerts").exit_code == run("findings").exit_code == 0


def test_hot_names_the_user_of_the_last_minutes(run):
    users = json.loads(run("hot", "--json", "--window", "5m").stdout)["users"]
    assert ("u-1", "shop") in {(user["user"], user["service"]) for user in users}


def test_what_is_tripped_is_held_and_what_is_cleared_is_gone(run):
    refused = run("trip", "u-7", "shop", "POST /p")
    assert refused.exit_code == 1
    assert "the nearest known: 'u-1'" in refused.stderr
    assert "the nearest known: 'POST /purchases/{user}'" in refused.stderr
    tripped = run("trip", "u-7", "shop", "POST /p", "--lease", "1m", "--json", "--force")
    assert tripped.exit_code == 0, tripped.output
    entry = json.loads(tripped.stdout)
    assert (entry["mode"], entry["lease_ms"]) == ("reject", 60_000)
    assert entry["issuer"].startswith("human:")
    assert entry["id"] in held(run)
    assert "u-7" in run("breakers").stdout
    cleared = run("clear", "--user", "u-7")
    assert cleared.exit_code == 0, cleared.output
    assert entry["id"] in cleared.stdout
    assert entry["id"] not in held(run)


def test_a_breaker_that_is_not_held_can_not_be_cleared(run):
    result = run("clear", "b-none")
    assert result.exit_code == 1
    assert "no breaker entry b-none is held" in result.stderr


def test_the_mode_is_switched_and_a_trip_in_shadow_says_so(run):
    assert run("mode", "shadow").exit_code == 0
    try:
        assert run("mode").stdout.startswith("shadow")
        tripped = run("trip", "u-8", "shop", "POST /p", "--force")
        assert "nothing is enforced" in tripped.stdout
        assert "nothing is enforced" in run("breakers").stdout
    finally:
        assert run("mode", "protect").stdout.startswith("protect")


def test_doctor_finds_it_alive_and_ready(run):
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.output
    assert [probe["status"] for probe in json.loads(result.stdout)["probes"]] == [200, 200]
