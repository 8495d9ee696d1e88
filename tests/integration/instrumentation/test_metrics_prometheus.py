"""A real Prometheus, Debian's, scrapes an instrumented service and keeps its exemplars."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
import yaml

from heatshield import names
from heatshield.autostart import environment

APP = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/owns/{user}")
async def owns(user: str):
    return {"owns": user}
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture
def prometheus():
    program = shutil.which("prometheus")
    if program is None:
        assert os.environ.get("CI") != "true", "Prometheus has to be installed in CI"
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    return program


def ask(port, path, **query):
    url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]
    except OSError:
        return None


def test_prometheus_finds_rates_and_the_requests_behind_them(
    collector, prometheus, tmp_path, until
):
    app, own = free_port(), free_port()
    (tmp_path / "shop.py").write_text(APP)
    target = {"targets": [f"127.0.0.1:{app}"]}
    scrape = {"job_name": "shop", "scrape_interval": "200ms", "static_configs": [target]}
    scrape["scrape_timeout"] = "200ms"
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    settings = {"ENDPOINT": collector.endpoint, "SERVICE": "shop", "METRICS_PATH": "/metrics"}
    service = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(app)]
    server = [
        prometheus,
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{own}",
        "--enable-feature=exemplar-storage",
    ]
    environ = {**os.environ, **{f"HEATSHIELD_{name}": value for name, value in settings.items()}}
    running = [
        subprocess.Popen(
            service, cwd=tmp_path, env=environment(environ), stderr=subprocess.DEVNULL
        ),
        subprocess.Popen(server, stderr=subprocess.DEVNULL),
    ]
    try:
        until(lambda: (ask(own, "query", query="up == 1") or {}).get("result"), timeout_s=30)
        with urllib.request.urlopen(f"http://127.0.0.1:{app}/owns/kim", timeout=5):
            pass
        call = '{call="GET /owns/{user}", outcome="ok"}'
        query = f"{names.SERVICE_REQUESTS}{call}"
        (found,) = until(lambda: ask(own, "query", query=query)["result"])
        assert found["value"][1] == "1"
        query = f"{names.SERVICE_REQUEST_DURATION}_bucket"
        now = time.time()
        (series, *_) = until(
            lambda: ask(own, "query_exemplars", query=query, start=now - 60, end=now + 60)
        )
        trace_id = series["exemplars"][0]["labels"]["trace_id"]
        assert re.fullmatch("[0-9a-f]{32}", trace_id)
        until(lambda: trace_id in {span.trace_id.hex() for _, span in collector.spans})
    finally:
        for process in running:
            process.terminate()
            process.wait(20)
