"""The kill switch in services as they are deployed: within a second, collector absent or not."""

import os
import signal
import subprocess
import time
from http.client import HTTPConnection

import pytest

BUY = "POST /purchases/{user}"
UVICORN = ("-m", "uvicorn", "shop:app", "--port", "{port}", "--log-level", "warning")
GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "warning", "-w", "2")
ASGI = (*GUNICORN, "-k", "uvicorn_worker.UvicornWorker", "shop:app")
WSGI = (*GUNICORN, "flask_shop:app")
FLASK_APP = """
import os
from flask import Flask

app = Flask(__name__)

@app.post("/purchases/<user>")
def buy(user):
    return str(os.getpid())
"""

SERVERS = [
    pytest.param(UVICORN, BUY, 1, id="uvicorn"),
    pytest.param((*UVICORN, "--workers", "2"), BUY, 2, id="uvicorn --workers"),
    pytest.param(ASGI, BUY, 2, id="gunicorn of uvicorns"),
    pytest.param(WSGI, "POST /purchases/<user>", 2, id="gunicorn sync"),
    pytest.param((*WSGI, "--preload"), "POST /purchases/<user>", 2, id="gunicorn --preload"),
]


@pytest.fixture
def serve(deploy, collector, until, tmp_path):
    """A server that refuses u-cut's call, its workers by process id, and its lines on stderr."""
    (tmp_path / "flask_shop.py").write_text(FLASK_APP)
    off = tmp_path / "off"
    collector.off = off

    def start(command, call, workers, **settings):
        collector.grant("u-cut", call)
        settings = {"HEATSHIELD_KILL_SWITCH_FILE": str(off), **settings}
        log = (tmp_path / "stderr").open("w")
        server = deploy(*command, env=settings, stderr=log)
        log.close()
        pids = server.buy_of_each_of(workers)
        until(lambda: len({r["instance"] for _, r in collector.reports}) >= workers)
        until(lambda: statuses(server, 20 * workers) == {503}, timeout_s=15)
        return server, pids

    return start


def status_of(server, user="u-cut"):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", f"/purchases/{user}")
        return connection.getresponse().status
    finally:
        connection.close()


def statuses(server, requests=20):
    return {status_of(server) for _ in range(requests)}


def said(tmp_path, words):
    return [line for line in (tmp_path / "stderr").read_text().splitlines() if words in line]


@pytest.mark.parametrize(("command", "call", "workers"), SERVERS)
def test_a_file_ends_every_refusal_within_a_second_and_the_collector_is_told(
    serve, collector, until, tmp_path, command, call, workers
):
    server, pids = serve(command, call, workers)
    collector.off.touch()
    time.sleep(1.0)
    assert statuses(server) == {200}
    assert len(said(tmp_path, f"kill switch thrown by file {collector.off}")) == len(pids)
    until(lambda: len(_not_enforcing(collector)) == workers)
    collector.off.unlink()
    time.sleep(1.0)
    assert statuses(server) == {503}
    until(lambda: not _not_enforcing(collector))


def _not_enforcing(collector):
    last = {report["instance"]: report["enforcing"] for _, report in collector.reports}
    return [instance for instance, enforcing in last.items() if not enforcing]


def test_it_ends_refusals_also_when_the_collector_is_gone(serve, collector):
    server, _ = serve(UVICORN, BUY, 1)
    collector.close()
    assert statuses(server) == {503}
    collector.off.touch()
    time.sleep(1.0)
    assert statuses(server) == {200}


@pytest.mark.parametrize(("command", "call", "workers"), SERVERS)
@pytest.mark.parametrize("name", ["SIGUSR2", "SIGRTMIN+1"])
def test_a_signal_toggles_it_in_the_worker_that_gets_it(
    serve, until, tmp_path, command, call, workers, name
):
    """gunicorn's workers set every signal to its default first, which would kill them."""
    server, pids = serve(command, call, workers, HEATSHIELD_KILL_SWITCH_SIGNAL=name)
    number = {"SIGUSR2": signal.SIGUSR2}.get(name, signal.SIGRTMIN + 1)
    for pid in pids:
        os.kill(pid, number)
    time.sleep(1.0)
    assert statuses(server) == {200}
    until(lambda: len(said(tmp_path, f"kill switch thrown by signal {name}")) == workers)
    for pid in pids:
        os.kill(pid, number)
    time.sleep(1.0)
    assert statuses(server) == {503}
    assert server.buy("u-2") in pids  # none was killed


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_services_own_handler_still_gets_the_signal(serve, tmp_path, loop):
    (tmp_path / "chained.py").write_text(
        "import asyncio, signal, sys\n"
        "from contextlib import asynccontextmanager\n"
        "import shop\n"
        "app = shop.app\n"
        "@asynccontextmanager\n"
        "async def lifespan(app):\n"
        "    say = lambda: print('rotated', file=sys.stderr, flush=True)\n"
        "    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, say)\n"
        "    yield\n"
        "app.router.lifespan_context = lifespan\n"
    )
    command = (*(word.replace("shop:", "chained:") for word in UVICORN), "--loop", loop)
    server, pids = serve(command, BUY, 1, HEATSHIELD_KILL_SWITCH_SIGNAL="SIGUSR2")
    for pid in pids:
        os.kill(pid, signal.SIGUSR2)
    time.sleep(1.0)
    assert statuses(server) == {200}
    assert len(said(tmp_path, "rotated")) == 1


def test_doctor_says_that_the_file_is_there(tmp_path, deploy):
    off = tmp_path / "off"
    off.touch()
    doctor = deploy(
        "-c", "from heatshield.cli import main; main()", "doctor",
        env={"HEATSHIELD_KILL_SWITCH_FILE": str(off), "COLUMNS": "300"},
        instrumented=False, stdout=subprocess.PIPE,
    )  # fmt: skip
    output, _ = doctor.process.communicate(timeout=60)
    assert f"thrown by {off}" in output
