"""Services as they are deployed: real processes, instrumented by their environment alone."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection

import pytest

from heatshield.autostart import environment

NEVER_S = "600"
"""A flush interval so long that nothing leaves by itself: what arrives was flushed at an end."""

ASGI_APP = """
import logging, os
from fastapi import FastAPI

app = FastAPI()

@app.post("/purchases/{user}")
async def buy(user: str):
    logging.getLogger("shop").warning("bought by %s", user)
    return os.getpid()
"""

BARE_APP = """
import logging, os
import heatshield

async def app(scope, receive, send):
    assert scope["type"] == "http"  # so there is no lifespan to notice the end by
    user = scope["path"].rpartition("/")[2]
    with heatshield.guard("buy"):
        heatshield.user(user)
        logging.getLogger("shop").warning("bought by %s", user)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""

WSGI_APP = """
import logging, os
import heatshield

def app(environ, start_response):
    user = environ["PATH_INFO"].rpartition("/")[2]
    with heatshield.guard("buy"):
        heatshield.user(user)
        logging.getLogger("shop").warning("bought by %s", user)
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Deployment:
    """A running command.

    Args:
        process: of it.
        port: that it serves on, or 0.
    """

    def __init__(self, process, port=0):
        self.process = process
        self.port = port
        self.bought = []
        self._ready = False

    def wait_ready(self):
        """Wait until it serves."""
        deadline = time.monotonic() + 30
        while not self._ready:
            assert self.process.poll() is None, "it did not start"
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.02)
            with socket.socket() as probe:
                self._ready = probe.connect_ex(("127.0.0.1", self.port)) == 0

    def buy(self, user):
        """One request on a connection of its own; the worker that answered, by process id."""
        self.wait_ready()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", f"/purchases/{user}")
            answer = connection.getresponse()
            assert answer.status == 200
            pid = int(answer.read())
        finally:
            connection.close()
        self.bought.append(user)
        return pid

    def buy_of_each_of(self, workers):
        """Requests until every worker has answered some; their process ids."""
        seen, deadline = set(), time.monotonic() + 20
        with ThreadPoolExecutor(8) as threads:
            while len(seen) < workers:
                assert time.monotonic() < deadline, f"only {len(seen)} workers answer"
                users = [f"u-{len(self.bought)}-{n}" for n in range(8)]
                seen |= set(threads.map(self.buy, users))
                time.sleep(0.05)
        return seen

    def end(self, signum=signal.SIGTERM, timeout_s=15):
        """Signal the first process, alone; seconds until it had ended."""
        began = time.monotonic()
        self.process.send_signal(signum)
        self.process.wait(timeout_s)
        return time.monotonic() - began

    def says(self, line):
        """Wait for a line of output."""
        found = self.process.stdout.readline().strip()
        assert found == line, found

    def kill(self):
        """End all that still runs of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def deploy(collector, tmp_path):
    """Start a command, instrumented or not, with a free port for ``{port}`` in it."""
    (tmp_path / "shop.py").write_text(ASGI_APP)
    (tmp_path / "wsgi_shop.py").write_text(WSGI_APP)
    (tmp_path / "bare_shop.py").write_text(BARE_APP)
    running = []

    def start(*command, instrumented=True, env=None, **popen):
        port = free_port() if any("{port}" in word for word in command) else 0
        base = {
            **os.environ,
            "HEATSHIELD_ENDPOINT": collector.endpoint,
            "HEATSHIELD_SERVICE": "shop",
            "HEATSHIELD_USER_PATH_PARAMETER": "user",
            "HEATSHIELD_FLUSH_INTERVAL_S": NEVER_S,
            **(env or {}),
        }
        words = [sys.executable, *(word.replace("{port}", str(port)) for word in command)]
        process = subprocess.Popen(
            words,
            cwd=tmp_path,
            env=environment(base) if instrumented else base,
            start_new_session=True,
            text=True,
            **popen,
        )
        made = Deployment(process, port)
        running.append(made)
        return made

    yield start
    for deployment in running:
        deployment.kill()
        if deployment.process.stdout is not None:
            deployment.process.stdout.close()


@pytest.fixture
def silent_endpoint():
    """A collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def purchases(collector):
    """How often each user's purchase arrived, as a span and as a log record."""

    def count(span_name):
        users = [user_of(span) for _, span in collector.spans if span.name == span_name]
        said = [record.body.string_value for record in collector.logs]
        lines = [line.removeprefix("bought by ") for line in said if line.startswith("bought by")]
        return Counter(users), Counter(lines)

    return count


def user_of(span):
    return next(a.value.string_value for a in span.attributes if a.key == "enduser.id")


@pytest.fixture
def instances(collector):
    """Instance ids: of those that follow breakers, with their workers; of those with such spans."""

    def found(span_name):
        following = {report["instance"]: report["workers"] for _, report in collector.reports}
        of_spans = {r["service.instance.id"] for r, s in collector.spans if s.name == span_name}
        return following, of_spans

    return found
