"""The first request of an event loop without a lifespan: nothing is imported on the loop."""

PROGRAM = """
import asyncio, sys, threading

on = {}

class Watching:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "prometheus_client":
            on.setdefault(name, threading.current_thread())

sys.meta_path.insert(0, Watching())
import heatshield
from fastapi import FastAPI

heatshield.instrument(service="shop")
app = FastAPI()
app.get("/")(lambda: "ok")

async def receive():
    return {"type": "http.request", "body": b""}

async def send(message):
    pass

async def main():
    for _ in range(3):
        await app({
            "type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [],
            "scheme": "http", "http_version": "1.1", "raw_path": b"/", "root_path": "",
        }, receive, send)

asyncio.run(main())
heatshield.shutdown()
assert "prometheus_client" in on, "the metrics have started"
print({thread is threading.main_thread() for thread in on.values()})
"""


def test_the_metrics_library_is_imported_beside_the_event_loop(run_python, collector):
    ran = run_python(PROGRAM)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "{False}"
    assert collector.snapshots, "and the last snapshot of a short process is not lost"


BESIDE = """
import asyncio, sys, threading
from importlib.machinery import PathFinder

import heatshield

importing, may_end = threading.Event(), threading.Event()
waited = []

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name != "heatshield.metrics.exposition":
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def slowly(module):  # not here, where all imports wait for each other
            importing.set()
            waited.append(may_end.wait(10))
            execute(module)

        spec.loader.exec_module = slowly
        return spec

heatshield.instrument(service="shop", user_key="k" * 32)
sys.meta_path.insert(0, Slow())
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
async def page():
    assert importing.wait(10)
    for _ in range(2):  # the first time imports something itself
        with heatshield.user("u-1"), heatshield.guard("sell" * 100), heatshield.deadline(5):
            heatshield.cost(rows=1)
    may_end.set()

async def receive():
    return {"type": "http.request", "body": b""}

async def send(message):
    pass

asyncio.run(app({
    "type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [],
    "scheme": "http", "http_version": "1.1", "raw_path": b"/", "root_path": "",
}, receive, send))
heatshield.shutdown()
assert waited == [True], "the request has waited for the import"
"""


def test_the_first_request_does_not_wait_for_that_import(run_python):
    ran = run_python(BESIDE)
    assert ran.returncode == 0, ran.stderr
