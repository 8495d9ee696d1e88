"""A stock FastAPI service under real servers, with nothing set but ``heatshield run``'s variables.

Its own port, its own path, all workers of gunicorn summed up, and what ``promtool`` says of it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from heatshield import names
from heatshield.autostart import environment

APP = """
import os, time
from fastapi import FastAPI, HTTPException
from prometheus_client import Counter, Gauge
import heatshield

app = FastAPI()
sold = Counter("sold", "Own metric of the service.", ["user"])
up = Gauge("workers_up", "Own gauge of the service.", multiprocess_mode="livesum")

@app.post("/purchases/{user}")
async def buy(user: str):
    up.set(1)
    sold.labels(user).inc()
    with heatshield.guard("stock"):
        return {"pid": os.getpid()}

@app.get("/broken")
async def broken():
    raise HTTPException(500)

@app.get("/blocked")
async def blocked():
    time.sleep(0.4)
"""
CLIENT = httpx.Client(timeout=30, headers={"connection": "close"})
"""Each request over a connection of its own, so that any worker may get it."""

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
CALL = ("call", "POST /purchases/{user}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def serve(collector, tmp_path, until):
    """Run a server of ``shop:app`` with these settings; yields (process, address)."""
    (tmp_path / "shop.py").write_text(APP)
    running = []

    def start(*command, endpoint=collector.endpoint, **settings):
        port = free_port()
        base = {**os.environ, "HEATSHIELD_ENDPOINT": endpoint, "HEATSHIELD_SERVICE": "shop"}
        words = [word.replace("PORT", str(port)) for word in command]
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=tmp_path, env=environment({**base, **settings}), stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        until(lambda: listening(port), timeout_s=30)
        return process, f"http://127.0.0.1:{port}"

    yield start
    for process in running:
        process.terminate()
        process.wait(20)
        process.stderr.close()


UVICORN = ("uvicorn", "shop:app", "--port", "PORT")
GUNICORN = (
    "gunicorn", "shop:app", "-k", "uvicorn_worker.UvicornWorker", "-w", "3", "-b", "127.0.0.1:PORT",
)  # fmt: skip


def samples(answer, parse=plain):
    assert answer.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.items())): sample
        for family in parse(answer.text)
        for sample in family.samples
    }


def scrape(address, path="/metrics"):
    return samples(CLIENT.get(address + path))


def promtool(text):
    program = shutil.which("promtool")
    if program is None:
        assert os.environ.get("CI") != "true", "Prometheus has to be installed in CI"
        pytest.skip("promtool is not installed: apt-get install prometheus")
    return subprocess.run(
        [program, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )


def test_a_service_answers_with_its_metrics_at_the_path_that_is_set(serve, collector, until):
    _, address = serve(*UVICORN, HEATSHIELD_METRICS_PATH="/metrics")
    for user in "ab":
        CLIENT.post(f"{address}/purchases/{user}")
    assert CLIENT.get(f"{address}/broken").status_code == 500
    CLIENT.get(f"{address}/blocked")
    found = scrape(address)
    ok, error = (("outcome", name) for name in ("ok", "error"))
    assert found[names.SERVICE_REQUESTS, CALL, ok].value == 2
    assert found[names.SERVICE_REQUESTS, ("call", "stock"), ok].value == 2
    assert found[names.SERVICE_REQUESTS, ("call", "GET /broken"), error].value == 1
    assert found[f"{names.SERVICE_REQUEST_DURATION}_count", CALL].value == 2
    assert found[names.SERVICE_REQUESTS_IN_FLIGHT,].value == 0
    assert found[f"{names.EVENT_LOOP_LAG}_sum",].value > 0.1
    assert found[f"{names.GC_PAUSE}_count", ("generation", "0")].value > 0
    assert found["sold_total", ("user", "a")].value == 1
    assert found["process_resident_memory_bytes",].value > 0
    assert not any("/metrics" in str(key) for key in found), "a scrape is no call of the service"
    until(lambda: len(collector.spans) >= 4)
    assert not any("metrics" in span.name for _, span in collector.spans)


def test_an_exemplar_is_the_trace_id_of_a_request_that_was_sent(serve, collector, until):
    _, address = serve(*UVICORN, HEATSHIELD_METRICS_PATH="/metrics")
    CLIENT.post(f"{address}/purchases/a")
    found = samples(CLIENT.get(f"{address}/metrics", headers=OPENMETRICS), openmetrics)
    (exemplar,) = (
        sample.exemplar.labels["trace_id"]
        for key, sample in found.items()
        if sample.exemplar and CALL in key
    )
    spans = until(lambda: [s for _, s in collector.spans if s.name == CALL[1]])
    assert spans[0].trace_id.hex() == exemplar


def test_promtool_finds_nothing_wrong_with_either_way(serve):
    port = free_port()
    _, address = serve(
        *UVICORN, HEATSHIELD_METRICS_PATH="/metrics", HEATSHIELD_METRICS_PORT=str(port)
    )
    CLIENT.post(f"{address}/purchases/a")
    for url in (f"{address}/metrics", f"http://127.0.0.1:{port}/metrics"):
        text = CLIENT.get(url).text
        own = "\n".join(line for line in text.splitlines() if "heatshield_" in line) + "\n"
        assert names.SERVICE_REQUESTS in own
        checked = promtool(own)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_port_that_is_taken_keeps_no_service_from_serving(serve, until):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _, address = serve(*UVICORN, HEATSHIELD_METRICS_PORT=str(port))
        assert CLIENT.post(f"{address}/purchases/a").status_code == 200
    CLIENT.post(f"{address}/purchases/a")
    until(lambda: listening(port))  # and once it is free it is taken


# -- prefork servers -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "values"
    made.mkdir()
    return made


def workers_reached(address, most=3):
    """Send purchases until so many workers have answered one; who answered, one a purchase."""
    pids, deadline = [], time.monotonic() + 30
    while len(set(pids)) < most:
        assert time.monotonic() < deadline, f"only {set(pids)} answered"
        pids.append(CLIENT.post(f"{address}/purchases/a").json()["pid"])
    return pids


def total(address):
    return scrape(address).get((names.SERVICE_REQUESTS, CALL, ("outcome", "ok")))


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["own import", "preload"])
def test_all_workers_of_gunicorn_are_summed_up(serve, folder, until, preload):
    _, address = serve(
        *GUNICORN, *preload,
        HEATSHIELD_METRICS_PATH="/metrics", PROMETHEUS_MULTIPROC_DIR=str(folder),
    )  # fmt: skip
    pids = workers_reached(address)
    sent = len(pids)
    # Each worker writes its figures once a second; the one that answers has its own at hand.
    until(lambda: (found := total(address)) and found.value == sent)
    found = scrape(address)
    assert found["sold_total", ("user", "a")].value == sent
    assert found[f"{names.SERVICE_REQUEST_DURATION}_count", CALL].value == sent
    assert found[f"{names.SERVICE_REQUEST_DURATION}_bucket", CALL, ("le", "+Inf")].value == sent
    assert found[names.SERVICE_REQUESTS_IN_FLIGHT,].value == 0
    assert found[names.SERVICE_BREAKERS, ("mode", "reject")].value == 0
    assert found[f"{names.GC_PAUSE}_count", ("generation", "0")].value > 0
    assert found["workers_up",].value == 3
    assert "process_resident_memory_bytes" not in str(list(found)), "of which worker?"
    assert promtool(CLIENT.get(f"{address}/metrics").text).returncode == 0

    os.kill(pids[0], signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pids[0]}").exists())
    workers_reached(address)
    assert total(address).value >= sent, "what a worker counted stays when it is gone"
    until(lambda: scrape(address)["workers_up",].value == 3)
    assert not list(folder.glob(f"gauge_live*_{pids[0]}.db"))


def test_one_port_serves_all_workers_and_another_takes_over(serve, folder, until):
    port = free_port()
    _, address = serve(
        *GUNICORN,
        HEATSHIELD_METRICS_PORT=str(port), PROMETHEUS_MULTIPROC_DIR=str(folder),
    )  # fmt: skip
    pids = workers_reached(address)
    until(lambda: listening(port))
    own = f"http://127.0.0.1:{port}"
    until(lambda: (found := total(own)) and found.value == len(pids))
    os.kill(holder_of(port, pids), signal.SIGKILL)
    workers_reached(address)
    until(lambda: listening(port), timeout_s=15)
    assert total(own).value >= len(pids)


def holder_of(port, pids):
    """The worker that listens on the port, by the inode of its socket."""
    hexadecimal = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    rows = [line.split() for line in lines]
    inodes = {row[9] for row in rows if row[1].endswith(hexadecimal) and row[3] == "0A"}
    for pid in set(pids):
        links = (os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink())  # noqa: PTH115
        if any(link.removeprefix("socket:[").rstrip("]") in inodes for link in links):
            return pid
    raise AssertionError("nobody listens")


def test_a_service_may_choose_multi_process_mode_after_heatshield_came(run_python, folder):
    """Under ``heatshield run`` heatshield comes first; the library decides when it is imported."""
    done = run_python(
        """
import os, sys
import heatshield
heatshield.instrument(service="shop")
assert "prometheus_client" not in sys.modules
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[0] and os.environ["FOLDER"]
import prometheus_client.values
assert prometheus_client.values.ValueClass._multiprocess
from prometheus_client import Counter
Counter("jobs", "Jobs.").inc()
""",
        FOLDER=str(folder),
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir())


def test_a_child_process_counts_from_nothing_and_waits_for_no_lock(run_python):
    done = run_python(
        """
import os, threading
import heatshield
heatshield.instrument(service="shop", metrics_interval_s=0.01)
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY, Counter
own = Counter("jobs", "Jobs.", ["n"])
tracer = trace.get_tracer("t")

def work():
    with tracer.start_as_current_span("GET /x", kind=SpanKind.SERVER):
        own.labels("1").inc()

def counted():
    labels = {"call": "GET /x", "outcome": "ok"}
    return REGISTRY.get_sample_value("heatshield_service_requests_total", labels)

for number in range(500):
    own.labels(str(number)).inc()  # a registry that takes a while to read
work()
for _ in range(30):
    child = os.fork()
    if child == 0:
        work()
        for number in range(500):
            own.labels(str(number)).inc()
        os._exit(0 if counted() == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    work()
assert counted() == 31, counted()
"""
    )
    assert done.returncode == 0, done.stdout + done.stderr
