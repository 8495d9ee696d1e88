"""Flask, Django and aiohttp as they are deployed: real servers, no code, ended by SIGTERM."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from heatshield.autostart import environment

NEVER_S = "600"
"""A flush interval so long that nothing leaves by itself: what arrives was flushed at the end."""

FLASK = """
from flask import Flask
app = Flask(__name__)

@app.post("/purchases/<user>")
def buy(user):
    return user
"""

DJANGO = """
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=[])
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

def buy(request, user):
    return HttpResponse(user)

urlpatterns = [path("purchases/<user>", buy)]
application, asgi_application = get_wsgi_application(), get_asgi_application()
"""

AIOHTTP = """
import sys
from aiohttp import web

async def buy(request):
    return web.Response(text=request.match_info["user"])

app = web.Application()
app.router.add_post("/purchases/{user}", buy)
if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""

GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "warning")
ANGLE, BRACE = "POST /purchases/<user>", "POST /purchases/{user}"

DEPLOYMENTS = [
    pytest.param(FLASK, (*GUNICORN, "shop:app"), ANGLE, id="flask gunicorn"),
    pytest.param(FLASK, (*GUNICORN, "--preload", "shop:app"), ANGLE, id="flask gunicorn preload"),
    pytest.param(
        FLASK, (*GUNICORN, "--threads", "4", "shop:app"), ANGLE, id="flask gunicorn threads"
    ),
    pytest.param(FLASK, ("-m", "flask", "--app", "shop", "run", "-p", "{port}"), ANGLE, id="flask"),
    pytest.param(DJANGO, (*GUNICORN, "shop"), ANGLE, id="django gunicorn"),
    pytest.param(
        DJANGO,
        ("-m", "uvicorn", "shop:asgi_application", "--port", "{port}"),
        ANGLE,
        id="django uvicorn",
    ),
    pytest.param(AIOHTTP, ("shop.py", "{port}"), BRACE, id="aiohttp"),
    pytest.param(
        AIOHTTP,
        (*GUNICORN, "-k", "aiohttp.GunicornWebWorker", "shop:app"),
        BRACE,
        id="aiohttp gunicorn",
    ),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def buy(port, user):
    """One request, until its server has closed the connection: it is done with it then."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        head = f"POST /purchases/{user} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n"
        connection.sendall(f"{head}content-length: 0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    return answer.partition(b"\r\n\r\n")[0].decode().lower()


@pytest.fixture
def deploy(collector, tmp_path):
    running = []

    def start(code, command):
        (tmp_path / "shop.py").write_text(code)
        port = free_port()
        settings = {
            **os.environ,
            "HEATSHIELD_ENDPOINT": collector.endpoint,
            "HEATSHIELD_SERVICE": "shop",
            "HEATSHIELD_USER_PATH_PARAMETER": "user",
            "HEATSHIELD_FLUSH_INTERVAL_S": NEVER_S,
        }
        words = [sys.executable, *(word.replace("{port}", str(port)) for word in command)]
        running.append(
            subprocess.Popen(
                words,
                cwd=tmp_path,
                env=environment(settings),
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return running[-1], port

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.mark.parametrize(("code", "command", "call"), DEPLOYMENTS)
def test_breakers_hold_from_the_first_request_and_the_last_span_arrives(
    deploy, collector, until, code, command, call
):
    process, port = deploy(code, command)
    until(lambda: collector.listeners and listens(port), timeout_s=30)  # before any request
    entry_id = collector.grant("u-1", call)
    until(lambda: any(report["applied"] == "1.2" for _, report in collector.reports))
    refused = buy(port, "u-1")
    assert refused.split()[1] == "503"
    assert f"heatshield-breaker: {entry_id}" in refused
    assert buy(port, "u-2").split()[1] == "200"
    process.send_signal(signal.SIGTERM)
    process.wait(15)
    spans = [span for _, span in collector.spans if span.name == call]
    assert len(spans) == 2
    assert len({resource["service.instance.id"] for resource, _ in collector.spans}) == 1
