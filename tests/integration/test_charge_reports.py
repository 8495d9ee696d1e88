"""Charge reports over the network, to a real collector: from JSON to loads and metrics."""

import re
import time
import urllib.request

import pytest
from report_bodies import report

from collector_process import collector_process
from heatshield.charge_report import Pair, ProcessState


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with collector_process(tmp_path_factory.mktemp("charges") / "data") as started:
        yield started


def send(collector, *pairs, number, instance="i-1"):
    state = ProcessState(cpu_us=180_000, processors=2.0, workers=2, running=1)
    one = report(
        *pairs, number=number, at_ns=time.time_ns(), process=state, instance=instance, seconds=0.1,
        backend_us=[(0, "redis cart:6379", 90_000)],
    )  # fmt: skip
    return collector.ask("POST", "/v1/charges", one.to_json())


def test_a_user_s_costs_are_there_as_soon_as_the_report_is_answered(collector):
    pair = Pair("u-1", "POST /p", cpu_us=60_000, wait_us=30_000, elements=7, calls=3)
    assert send(collector, pair, number=1) == {"counted": True}
    assert send(collector, pair, number=1) == {"counted": False}
    found = {}
    for cost in ("busy", "cpu", "backend", "wait", "elements", "calls"):
        answer = collector.ask("GET", f"/api/users/hot?cost={cost}&window=1m")
        (row,) = answer["users"]
        assert (row["user"], row["service"], row["call"]) == ("u-1", "shop", "POST /p")
        found[cost] = round(row["load"] * 60, 6)
    assert found == {
        "busy": 0.15, "cpu": 0.06, "backend": 0.09, "wait": 0.03, "elements": 7, "calls": 3,
    }  # fmt: skip


def test_a_user_who_burns_is_found_and_reports_are_counted_by_outcome(collector):
    for number in range(2, 12):
        send(collector, Pair("u-2", "POST /p", cpu_us=180_000, calls=8), number=number)
        time.sleep(0.1)
    answer = collector.ask("GET", "/api/users/hot?window=10s")
    (row,) = (one for one in answer["users"] if one["user"] == "u-2")
    assert row["class"] in ("hot", "harmful", "heavy")
    with urllib.request.urlopen(f"{collector.url}/metrics", timeout=20) as shown:
        metrics = shown.read().decode()
    counts = dict(re.findall(r'heatshield_charge_reports_total\{outcome="(\w+)"\} (\d+)', metrics))
    assert int(counts.pop("counted")) >= 11  # the collector's own are among them
    assert counts == {"duplicate": "1", "late": "0", "too_old": "0"}
