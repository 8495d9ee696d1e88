"""The doctor: a collector that is there, not ready or gone, and this interpreter."""

import json
import sys

from cli_api import program, run

from heatshield.integrations.catalogue import CATALOGUE


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


def test_doctor_says_what_limits_a_collector_that_is_ready(api):
    note = "rule A fails"
    api.answers["GET", "/readyz"] = (200, {"ready": True, "reasons": [], "notes": [note]})
    found = run("doctor")
    assert f"! {note}" in found.stdout
    assert json.loads(run("doctor", "--json").stdout)["probes"][1]["notes"] == [note]


def test_doctor_without_a_collector_says_so_and_exits_with_1(nobody):
    shown = run("doctor")
    assert shown.exit_code == 1
    assert f"no collector answers at {nobody}" in shown.stdout.replace("\n", "")
    found = run("doctor", "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["reachable"] is False


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
