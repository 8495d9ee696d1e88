"""Snapshots that leave by themselves, to a collector that keeps them and to a real one."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from collector_process import collector_process
from heatshield import names

TRACED = """
import os, sys, time
import heatshield
heatshield.instrument(service="shop", metrics_interval_s=float(os.environ.get("INTERVAL", "10")))
from opentelemetry import trace
from opentelemetry.trace import SpanKind
tracer = trace.get_tracer("t")

def work(n=1):
    for _ in range(n):
        with tracer.start_as_current_span("GET /x", kind=SpanKind.SERVER):
            pass
"""


def snapshots(collector):
    """(resource attributes, metric by name) of each that was accepted, the oldest first."""
    made = []
    for body, status in list(collector.snapshots):
        if status == 200:
            (of_resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
            resource = {a.key: a.value for a in of_resource.resource.attributes}
            metrics = {m.name: m for scope in of_resource.scope_metrics for m in scope.metrics}
            made.append((resource, metrics))
    return made


def requests_in(snapshot):
    points = snapshot[1][names.SERVICE_REQUESTS].sum.data_points
    return sum(
        point.as_double
        for point in points
        if {a.key: a.value.string_value for a in point.attributes}["outcome"] == "ok"
    )


def test_the_last_snapshot_has_everything_and_says_whose_it_is(collector, run_python):
    done = run_python(TRACED + "work(3)\n")
    assert done.returncode == 0, done.stderr
    resource, metrics = snapshots(collector)[-1]
    assert resource["service.name"].string_value == "shop"
    instances = {r["service.instance.id"] for r, _ in collector.spans}
    assert {resource["service.instance.id"].string_value} == instances
    assert requests_in((resource, metrics)) == 3
    (duration,) = metrics[names.SERVICE_REQUEST_DURATION].histogram.data_points
    assert duration.count == sum(duration.bucket_counts) == 3
    exemplars = {one.trace_id for one in duration.exemplars}
    assert exemplars
    assert exemplars <= {span.trace_id for _, span in collector.spans}
    assert "process_cpu_seconds_total" in metrics


def test_snapshots_come_at_the_interval_and_count_on(collector, run_python, until):
    done = run_python(
        TRACED
        + """
for _ in range(3):
    work()
    time.sleep(0.2)
""",
        INTERVAL="0.1",
    )
    assert done.returncode == 0, done.stderr
    counts = [requests_in(one) for one in snapshots(collector)]
    assert len(counts) >= 4
    assert counts == sorted(counts)
    assert counts[-1] == 3
    starts = {
        point.start_time_unix_nano
        for _, metrics in snapshots(collector)
        for point in metrics[names.SERVICE_REQUESTS].sum.data_points
    }
    assert len(starts) == 1, "what counts on must say since when, and always the same"


def test_an_interval_of_nothing_sends_nothing(collector, run_python):
    done = run_python(TRACED + "work()\n", INTERVAL="0")
    assert done.returncode == 0, done.stderr
    assert snapshots(collector) == []
    assert collector.spans


def test_flush_sends_a_snapshot(collector, run_python):
    done = run_python(TRACED + "work()\nheatshield.flush()\nos._exit(0)\n")
    assert done.returncode == 0, done.stderr
    assert requests_in(snapshots(collector)[-1]) == 1


def test_a_termination_sends_the_last_snapshot_within_two_seconds(collector, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(TRACED + "work(2)\nprint('ready', flush=True)\ntime.sleep(60)\n")
    environ = {**os.environ, "HEATSHIELD_ENDPOINT": collector.endpoint}
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, env=environ, cwd=tmp_path
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
        assert time.monotonic() - began < 2.5
    assert requests_in(snapshots(collector)[-1]) == 2


def test_children_of_a_fork_send_their_own(collector, run_python):
    done = run_python(
        TRACED
        + """
work(5)
child = os.fork()
if child == 0:
    work(1)
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
work(1)
"""
    )
    assert done.returncode == 0, done.stderr
    last = {one[0]["service.instance.id"].string_value: one for one in snapshots(collector)}
    assert sorted(requests_in(one) for one in last.values()) == [1, 6]


OWN_METRIC = """
from prometheus_client import Counter
Counter("sold", "Own.", ["user"]).labels("kim@example.org").inc()
work()
"""


def test_the_services_own_metrics_are_sent_too(collector, run_python):
    run_python(TRACED + OWN_METRIC)
    (point,) = snapshots(collector)[-1][1]["sold_total"].sum.data_points
    assert (point.attributes[0].value.string_value, point.as_double) == ("kim@example.org", 1)


def test_with_pseudonyms_they_are_not_for_they_may_name_users(collector, run_python):
    run_python(TRACED + OWN_METRIC, HEATSHIELD_USER_KEY="secret")
    assert requests_in(snapshots(collector)[-1]) == 1
    assert not any(b"kim@example.org" in body for body, _ in collector.snapshots)


@pytest.mark.parametrize("status", [400, 503])
def test_a_collector_that_refuses_is_counted_and_asked_again(collector, run_python, status):
    """One that knows no metrics, such as an older one, takes the spans all the same."""
    collector.metrics_status = status
    done = run_python(
        TRACED
        + """
work()
time.sleep(0.3)
print(heatshield.status()["dropped"])
""",
        INTERVAL="0.1",
    )
    assert done.returncode == 0, done.stderr
    dropped = json.loads(done.stdout.replace("'", '"'))
    assert dropped["metrics_refused"] >= 2
    assert collector.spans


def test_no_collector_at_all_is_noticed_by_nobody_but_the_counters(run_python):
    done = run_python(
        TRACED + "work()\ntime.sleep(0.3)\nprint(heatshield.status()['dropped'])\n",
        INTERVAL="0.1",
        HEATSHIELD_ENDPOINT="http://127.0.0.1:9",
    )
    assert done.returncode == 0, done.stderr
    assert "metrics_unreachable" in done.stdout


def test_a_registry_that_fails_fails_nothing_else(collector, run_python):
    done = run_python(
        TRACED
        + """
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
class Broken:
    def describe(self):
        return []
    def collect(self):
        raise RuntimeError("of the service")
REGISTRY.register(Broken())
work()
"""
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert collector.spans


# -- a real collector ----------------------------------------------------------------------------


def test_what_a_service_sends_can_be_asked_for(tmp_path, run_python, until):
    """A service sends it by itself; a person reads it with one command."""
    with collector_process(tmp_path / "data") as collector:
        done = run_python(TRACED + "work(3)\n", HEATSHIELD_ENDPOINT=collector.url)
        assert done.returncode == 0, done.stderr
        query = f"name={names.SERVICE_REQUEST_DURATION}&service=shop"
        with urllib.request.urlopen(f"{collector.url}/api/metrics?{query}", timeout=5) as answer:
            (found,) = json.load(answer)["metrics"]
        assert (found["count"], found["attributes"]) == (3, {"call": "GET /x"})
        assert found["buckets"][-1] == {"le": "+Inf", "count": 3}
        trace_id = found["exemplars"][0]["trace_id"]
        with urllib.request.urlopen(
            f"{collector.url}/api/requests/{trace_id}", timeout=5
        ) as answer:
            assert json.load(answer)["spans"][0]["name"] == "GET /x"
        shown = subprocess.run(
            [sys.executable, "-c", "from heatshield.cli import main; main()", "metrics",
             names.SERVICE_REQUESTS, "--service", "shop", "--endpoint", collector.url],
            capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        assert "outcome=ok" in shown.stdout
        assert "all have call=GET /x" in shown.stdout
