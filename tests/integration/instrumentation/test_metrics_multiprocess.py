"""Our own figures of several processes, in the files of the library's multi-process mode."""

import pytest

WORKERS = """
import os, sys, signal, time
from prometheus_client import REGISTRY, generate_latest
from heatshield.metrics.exposition import mirror, retire, served
from heatshield.metrics.readings import READINGS
from heatshield.metrics.red import RED
from heatshield.metrics import multiprocess
assert multiprocess.in_use()

def work(n):
    READINGS.breakers = lambda: {"reject": 2.0}
    READINGS.queues = lambda: {"spans": 3.0}
    for _ in range(n):
        RED.begin()
        RED.observe("GET /x", "ok", 0.02)
        RED.observe("GET /x", "ok", 20.0)
    mirror()

def worker(n, then):
    child = os.fork()
    if child == 0:
        RED.after_fork()
        work(n)
        then()
        os._exit(0)
    return child

def value(name, **labels):
    for family in served().collect():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value

PARENT = os.getpid()

def stay():
    while os.getppid() == PARENT:
        time.sleep(0.05)

def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, generate_latest(served()).decode()
        time.sleep(0.01)

REQUESTS = ("heatshield_service_requests_total", dict(call="GET /x", outcome="ok"))
BREAKERS = ("heatshield_service_breakers", dict(mode="reject"))
QUEUE = ("heatshield_service_queue_records", dict(queue="spans"))
IN_FLIGHT = ("heatshield_service_requests_in_flight", {})

def read(what):
    return value(what[0], **what[1])
"""


@pytest.fixture
def run(run_python, tmp_path):
    folder = tmp_path / "values"
    folder.mkdir()

    def program(code, returncode=0):
        done = run_python(WORKERS + code, PROMETHEUS_MULTIPROC_DIR=str(folder))
        assert done.returncode == returncode, done.stdout + done.stderr
        return done

    return program


def test_counts_add_up_and_what_all_workers_hold_alike_is_shown_once(run):
    run("""
work(1)
children = [worker(2, stay), worker(3, stay)]
wait_for(lambda: read(REQUESTS) == 12)
assert read(BREAKERS) == 2
assert read(QUEUE) == 9
assert read(IN_FLIGHT) == 6
name = "heatshield_service_request_duration_seconds"
assert value(name + "_count", call="GET /x") == 12
assert abs(value(name + "_sum", call="GET /x") - 6 * 20.02) < 1e-6
assert value(name + "_bucket", call="GET /x", le="0.025") == 6
assert value(name + "_bucket", call="GET /x", le="10.0") == 6
assert value(name + "_bucket", call="GET /x", le="+Inf") == 12
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
""")


def test_of_a_killed_worker_the_counts_stay_and_the_gauges_go(run):
    run("""
work(1)
child = worker(2, stay)
wait_for(lambda: read(QUEUE) == 6)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
assert read(QUEUE) == 3
assert read(IN_FLIGHT) == 1
assert read(REQUESTS) == 6
""")


def test_a_worker_that_ends_in_order_holds_nothing_any_more(run):
    """Seen by any scrape, also by one that is not ours and sweeps nothing."""
    run("""
work(1)
os.waitpid(worker(2, retire), 0)
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
assert registry.get_sample_value(*IN_FLIGHT) == 1
assert registry.get_sample_value(*QUEUE) == 3
assert registry.get_sample_value(*REQUESTS) == 6
""")


def test_a_scrape_has_the_figures_of_its_own_process_as_they_are_now(run):
    run("""
work(1)
RED.observe("GET /x", "ok", 0.02)
assert read(REQUESTS) == 3
""")


def test_a_file_that_another_worker_has_only_just_made_is_no_error(run):
    run("""
work(1)
open(os.path.join(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"counter_{PARENT + 1}.db"), "w").close()
assert read(REQUESTS) == 2
""")


def test_the_services_own_scrape_shows_ours_too(run):
    """Mounted as the library's documentation has it."""
    run("""
work(1)
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
assert registry.get_sample_value(*REQUESTS) == 2
""")


def test_a_folder_that_is_not_there_fails_no_service(run_python, tmp_path):
    done = run_python(
        """
import heatshield
heatshield.instrument(service="shop")
from opentelemetry import trace
from opentelemetry.trace import SpanKind
with trace.get_tracer("t").start_as_current_span("GET /x", kind=SpanKind.SERVER):
    pass
print("served")
""",
        PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "absent"),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "served\n", "")
