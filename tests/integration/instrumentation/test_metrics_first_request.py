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
