"""Charge reports of real servers: who computes pays, who waits does not, and long calls are told
while they run.
"""

# long: a server each

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

FASTAPI = """
import asyncio, sys, time
import heatshield, redis.asyncio, uvicorn
from fastapi import FastAPI

heatshield.instrument()
app = FastAPI()

def burn(ms):
    until = time.thread_time() + ms / 1e3
    while time.thread_time() < until:
        sum(range(100))

@app.get("/burn/{user}/{ms}")
async def burning(user: str, ms: float):
    for _ in range(5):
        burn(ms / 5)
        await asyncio.sleep(0.002)

@app.get("/thread/{user}/{ms}")
def in_thread(user: str, ms: float):
    burn(ms)

@app.get("/nap/{user}/{ms}")
async def nap(user: str, ms: float):
    await asyncio.sleep(ms / 1e3)

@app.get("/gathered/{user}/{ms}")
async def gathered(user: str, ms: float):
    async def child():
        for _ in range(10):
            burn(ms / 20)
            await asyncio.sleep(0)
    await asyncio.gather(child(), child())

@app.get("/blocking/{user}/{ms}")
async def blocking(user: str, ms: float):
    async with redis.asyncio.Redis(port=int(sys.argv[2])) as client:
        await client.blpop(["never"], timeout=ms / 1e3)

@app.get("/redis/{user}/{ms}")
async def slow_redis(user: str, ms: float):
    slow = "local n = 0; for i = 1, ARGV[1] do n = n + 1 end; return n"
    async with redis.asyncio.Redis(port=int(sys.argv[2])) as client:
        await client.eval(slow, 0, int(ms * 100_000))

uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False, loop="LOOP")
"""

FLASK = """
import sys, time
import heatshield
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

heatshield.instrument()
app = Flask("shop")

def burn(ms):
    until = time.thread_time() + ms / 1e3
    while time.thread_time() < until:
        sum(range(100))

@app.get("/burn/<user>/<float:ms>")
def burning(user, ms):
    burn(ms)
    return "done"

@app.get("/nap/<user>/<float:ms>")
def nap(user, ms):
    time.sleep(ms / 1e3)
    return "done"

class Quiet(WSGIRequestHandler):
    def log(self, *args):
        pass

make_server(
    "127.0.0.1", int(sys.argv[1]), app, threaded=True, request_handler=Quiet
).serve_forever()
"""

AIOHTTP = """
import asyncio, sys, time
import heatshield
from aiohttp import web

heatshield.instrument()

def burn(ms):
    until = time.thread_time() + ms / 1e3
    while time.thread_time() < until:
        sum(range(100))

async def burning(request):
    for _ in range(5):
        burn(float(request.match_info["ms"]) / 5)
        await asyncio.sleep(0.002)
    return web.Response(text="done")

async def nap(request):
    await asyncio.sleep(float(request.match_info["ms"]) / 1e3)
    return web.Response(text="done")

app = web.Application()
app.router.add_get("/burn/{user}/{ms}", burning)
app.router.add_get("/nap/{user}/{ms}", nap)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""

GEVENT = (
    "from gevent import monkey; monkey.patch_all()\n"
    + FLASK.partition("class Quiet")[0]
    + """
from gevent.pywsgi import WSGIServer
WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None).serve_forever()
"""
)

GRPC = """
import asyncio, sys, time
from concurrent.futures import ThreadPoolExecutor
import heatshield, grpc
heatshield.instrument(user_header="x-user-id")

def burn(ms):
    until = time.thread_time() + ms / 1e3
    while time.thread_time() < until:
        sum(range(100))

def handler(body, context):
    burn(float(body))
    return b"done"

async def aio_handler(body, context):
    for _ in range(2):
        burn(float(body) / 2)
        await asyncio.sleep(0.001)
    return b"done"

def shop(method):
    methods = {"Burn": grpc.unary_unary_rpc_method_handler(method)}
    return [grpc.method_handlers_generic_handler("Shop", methods)]

def ask(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, ThreadPoolExecutor(2) as pool:
        burns = channel.unary_unary("/Shop/Burn")
        jobs = [("heavy", b"80")] * 5 + [("light", b"2")] * 20
        for _ in pool.map(lambda job: burns(job[1], metadata=[("x-user-id", job[0])]), jobs):
            pass

async def aio():
    server = grpc.aio.server(handlers=shop(aio_handler))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, ask, port)
    await server.stop(1)

def threads():
    server = grpc.server(ThreadPoolExecutor(4), handlers=shop(handler))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ask(port)
    server.stop(1).wait()

asyncio.run(aio()) if sys.argv[2] == "aio" else threads()
time.sleep(60)
"""

CELERY = """
import os, sys, time
import heatshield
heatshield.instrument()
from celery import Celery

for name in ("messages", "control"):
    os.makedirs(name, exist_ok=True)
app = Celery("jobs", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": "messages", "data_folder_out": "messages", "control_folder": "control",
    "polling_interval": 0.02,
}

def burn(ms):
    until = time.thread_time() + ms / 1e3
    while time.thread_time() < until:
        sum(range(100))

@app.task(name="job")
def job(user, ms):
    heatshield.user(user)
    burn(ms)

for user, ms in [("heavy", 80)] * 5 + [("light", 2)] * 20:
    job.delay(user, ms)
app.worker_main(["worker", "-P", sys.argv[2], "-c", "1", "-l", "CRITICAL"])
"""

UVICORN, UVLOOP = FASTAPI.replace("LOOP", "asyncio"), FASTAPI.replace("LOOP", "uvloop")


class Served:
    """A server in a process of its own, and what it has reported."""

    def __init__(self, process, port, collector):
        self.process, self.port, self._collector = process, port, collector

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        connection.close()

    @property
    def reports(self):
        return list(self._collector.charges)

    @property
    def has_told_all(self):
        """Whether nothing has run since the last report."""
        return "durations" not in self.reports[-1]

    def sums(self, column):
        """A column of ``pairs`` by user."""
        found = Counter()
        for report in self.reports:
            pairs = report.get("pairs", {"user": []})
            for row, user in enumerate(pairs["user"]):
                name = report["users"][user] if user >= 0 else user
                found[name] += pairs.get(column, [0] * (row + 1))[row]
        return found


@pytest.fixture
def serve(collector, until, tmp_path):
    """Call it with a program that takes a port as its first argument."""
    running = []

    def start(program, *arguments, is_http=True):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (tmp_path / "shop.py").write_text(program)
        environ = {
            **os.environ,
            "HEATSHIELD_ENDPOINT": collector.endpoint,
            "HEATSHIELD_SERVICE": "shop",
            "HEATSHIELD_USER_PATH_PARAMETER": "user",
        }
        process = subprocess.Popen(
            [sys.executable, "shop.py", str(port), *map(str, arguments)], cwd=tmp_path, env=environ
        )
        running.append(process)

        served = Served(process, port, collector)
        if not is_http:
            return served

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        served.get("/nap/nobody/1.0")
        until(lambda: served.sums("calls")["nobody"] == 1)
        return served

    yield start
    for process in running:
        process.kill()
        process.wait(10)


def together(*jobs):
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    "program", [UVICORN, UVLOOP, FLASK, AIOHTTP], ids=["uvicorn", "uvloop", "flask", "aiohttp"]
)
def test_each_user_is_charged_what_was_computed_for_that_user(serve, until, program):
    served = serve(program)

    def burns(user, ms, times):
        return lambda: [served.get(f"/burn/{user}/{ms}") for _ in range(times)]

    together(burns("heavy", 80.0, 5), burns("light", 2.0, 20), burns("light-too", 2.0, 20))
    served.get("/nap/sleeper/300.0")
    until(lambda: served.sums("calls")["sleeper"] == 1 and served.has_told_all)
    cpu, wait = served.sums("cpu_us"), served.sums("wait_us")
    assert 400_000 <= cpu["heavy"] < 480_000
    assert 40_000 <= cpu["light"] < 100_000
    assert 40_000 <= cpu["light-too"] < 100_000
    assert cpu["sleeper"] < 20_000
    assert wait["sleeper"] > 250_000
    assert served.sums("calls")["light"] == 20
    told = sum(report["process"].get("cpu_us", 0) for report in served.reports)
    assert told >= cpu.total()


@pytest.mark.parametrize("kind", ["aio", "threads"])
def test_users_of_grpc_are_charged_alike(serve, until, kind):
    served = serve(GRPC, kind, is_http=False)
    until(lambda: served.sums("calls")["light"] == 20 and served.has_told_all)
    cpu = served.sums("cpu_us")
    assert 400_000 <= cpu["heavy"] < 480_000
    assert 40_000 <= cpu["light"] < 100_000
    assert served.sums("calls")["heavy"] == 5


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_users_of_jobs_are_charged_alike(serve, until, pool):
    served = serve(CELERY, pool, is_http=False)
    until(lambda: served.sums("calls")["light"] == 20 and served.has_told_all, 30)
    cpu = served.sums("cpu_us")
    assert 400_000 <= cpu["heavy"] < 480_000
    assert 40_000 <= cpu["light"] < 120_000


def test_greenlets_are_charged_no_processor_time_of_others(serve, until):
    served = serve(GEVENT)
    together(lambda: served.get("/burn/heavy/80.0"), lambda: served.get("/nap/sleeper/300.0"))
    until(lambda: served.sums("calls")["sleeper"] == 1 and served.has_told_all)
    assert served.sums("cpu_us").total() == 0
    assert served.sums("wait_us")["sleeper"] > 250_000


@pytest.mark.parametrize("path", ["burn", "thread", "gathered"])
def test_a_long_call_is_told_while_it_runs(serve, until, path):
    served = serve(UVICORN)
    job = threading.Thread(target=served.get, args=(f"/{path}/heavy/2000.0",))
    job.start()
    until(lambda: served.sums("cpu_us")["heavy"] > 500_000)
    assert job.is_alive()
    assert served.sums("calls")["heavy"] == 1
    job.join()
    until(lambda: served.has_told_all)
    # Looks at the loop miss what they find idle again; steps and threads are measured.
    least = 1_600_000 if path == "gathered" else 1_950_000
    assert least <= served.sums("cpu_us")["heavy"] < 2_200_000
    assert served.sums("calls")["heavy"] == 1
    if path == "burn":
        assert max(report["process"].get("loop_lag_us", 0) for report in served.reports) > 100_000


def test_time_in_redis_is_the_backends_and_no_wait(serve, until, port):
    served = serve(UVICORN, port)
    job = threading.Thread(target=served.get, args=("/redis/patient/1000.0",))
    began_s = time.monotonic()
    job.start()

    def in_backend():
        return sum(sum(report.get("backend_us", {}).get("us", ())) for report in served.reports)

    until(lambda: in_backend() > 300_000)
    assert job.is_alive()
    running = next(report["operations"] for report in served.reports if "operations" in report)
    assert running["duration_us"] == [None]
    job.join()
    took_us = (time.monotonic() - began_s) * 1e6
    until(lambda: served.has_told_all)
    assert 0.8 * took_us <= in_backend() <= took_us
    assert served.sums("wait_us")["patient"] < 0.2 * took_us
    names = {name for report in served.reports for name in report.get("backends", ())}
    assert names == {f"redis localhost:{port}"}


def test_a_command_that_waits_in_redis_uses_nothing_of_it(serve, until, port):
    served = serve(UVICORN, port)
    served.get("/blocking/patient/500.0")
    until(lambda: served.sums("wait_us")["patient"] > 450_000)
    assert not any("operations" in report for report in served.reports)


@pytest.mark.parametrize("program", [UVICORN, FLASK], ids=["uvicorn", "flask"])
def test_what_was_charged_last_arrives_when_the_server_ends(serve, until, program):
    served = serve(program)
    served.get("/burn/last/20.0")
    served.process.send_signal(signal.SIGTERM)
    served.process.wait(10)
    until(lambda: served.sums("cpu_us")["last"] >= 20_000)


def test_an_idle_process_says_little(serve):
    served = serve(UVICORN)
    time.sleep(0.5)
    before, began = len(served.reports), time.monotonic()
    time.sleep(3)
    reports, seconds = served.reports[before:], time.monotonic() - began
    assert 2 <= len(reports) <= 1 + seconds
    assert all("pairs" not in report for report in reports)


def test_an_older_collector_is_left_alone(serve, until, collector):
    served = serve(UVICORN)
    collector.charges_status = 404
    served.get("/nap/nobody/1.0")
    until(lambda: served.sums("calls")["nobody"] == 2)
    before = len(served.reports)
    served.get("/nap/nobody/1.0")
    time.sleep(0.5)
    assert len(served.reports) == before
