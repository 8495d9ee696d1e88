"""No code at all: a stock application under a real uvicorn, found and enforced."""

import os
import socket
import subprocess
import sys

import httpx
import pytest

from heatshield.autostart import FOLDER, environment

APP = """
from fastapi import FastAPI
app = FastAPI()

@app.post("/purchases/{user}")
async def buy(user: str):
    return {"bought": user}
"""
BUY = "POST /purchases/{user}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def serve(collector, tmp_path, until):
    (tmp_path / "shop.py").write_text(APP)
    running = []

    def start(*options):
        port = free_port()
        base = {
            **os.environ,
            "HEATSHIELD_ENDPOINT": collector.endpoint,
            "HEATSHIELD_SERVICE": "shop",
            "HEATSHIELD_USER_PATH_PARAMETER": "user",
        }
        command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port), *options]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(base), stderr=subprocess.PIPE
        )
        running.append(process)
        until(lambda: listening(port), timeout_s=30)
        return process, f"http://127.0.0.1:{port}"

    yield start
    for process in running:
        process.terminate()  # not kill: a supervisor must get to end its workers
        process.wait(20)
        process.stderr.close()


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def buy(address, user):
    return httpx.post(f"{address}/purchases/{user}")


def test_a_stock_application_is_traced_and_enforced(serve, collector, until):
    process, address = serve()
    assert buy(address, "u-1").status_code == 200
    until(lambda: any(span.name == BUY for _, span in collector.spans))
    entry_id = collector.grant("u-1", BUY)
    refused = until(lambda: (answer := buy(address, "u-1")).status_code == 503 and answer)
    assert refused.headers["heatshield-breaker"] == entry_id
    assert refused.headers["retry-after"]
    assert buy(address, "u-2").status_code == 200
    process.terminate()
    process.wait(10)
    names = [span.name for _, span in collector.spans]
    assert names.count(BUY) >= 3, "what was queued left before the signal ended the process"


def test_every_worker_is_an_instance_and_the_supervisor_is_none(serve, collector, until):
    _, address = serve("--workers", "2")
    until(lambda: len({query["instance"] for query, _ in collector.listeners}) == 2, 30)
    collector.grant("u-1", BUY)
    until(lambda: len([1 for _, r in collector.reports if r["applied"] == "1.2"]) == 2)
    assert {buy(address, "u-1").status_code for _ in range(12)} == {503}


def test_an_existing_sitecustomize_still_runs(run_python, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('theirs')")
    env = environment({"PYTHONPATH": str(tmp_path)})
    done = run_python("import heatshield; print(heatshield.status()['instrumented'])", **env)
    assert done.stdout.split() == ["theirs", "True"], done.stderr


def test_a_wrong_setting_is_said_and_the_program_runs(run_python):
    done = run_python("print('ran')", **environment({}), HEATSHIELD_ENDPONT="x")
    assert done.stdout.strip() == "ran"
    assert "HEATSHIELD_ENDPOINT" in done.stderr


def test_the_environment_is_prepended_once():
    once = environment({"PYTHONPATH": os.pathsep.join(["a", "b"]), "X": "1"})
    assert once["PYTHONPATH"].split(os.pathsep) == [FOLDER, "a", "b"]
    assert environment(once) == once
