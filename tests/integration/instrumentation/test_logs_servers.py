"""Logs of uvicorn and gunicorn: the console is what it was, each record goes out once."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from heatshield import autostart

APP = """
import logging
from fastapi import FastAPI
log = logging.getLogger("shop")
log.setLevel(logging.INFO)
app = FastAPI()

@app.get("/stickers/{user}")
async def stickers(user: str):
    log.warning("%s from the shop", user)
    return []

@app.get("/broken/{user}")
async def broken(user: str):
    raise ValueError(f"none for {user}")
"""
FLASK = """
import logging
from flask import Flask
app = Flask("shop")

@app.get("/stickers/<user>")
def stickers(user):
    logging.getLogger("shop").warning("%s from the shop", user)
    return []

@app.get("/broken/<user>")
def broken(user):
    raise ValueError(f"none for {user}")
"""
WSGI = """
import logging
def app(environ, start_response):
    logging.getLogger("shop").warning("from the shop")
    start_response("200 OK", [("content-length", "0")])
    return [b""]
"""
CHANGING = re.compile(
    rb"\[\d+\]|\(?(?:pid:? ?)?\b\d{2,}\)?|0x[0-9a-f]+"  # processes, ports, times
)
OUR_FRAMES = re.compile(
    rb' *\|? *File "[^"]*/heatshield/[^"]*", line.*\n(?: *\|?    .*\n)*?(?= *\|?  File|\S)'
)
PATHS = ("/stickers/u-1", "/nowhere", "/broken/u-1")
UVICORN = ("uvicorn", "shop:app", "--port", "{port}")
GUNICORN = ("gunicorn", "shop:app", "--bind", "127.0.0.1:{port}", "--access-logfile", "-")
WORKER = ("-k", "uvicorn_worker.UvicornWorker")
SERVERS = {
    "uvicorn": (APP, UVICORN),
    "uvicorn, without its own configuration": (APP, (*UVICORN, "--log-config", "log.json")),
    "gunicorn with uvicorn's worker": (APP, (*GUNICORN, *WORKER)),
    "gunicorn with uvicorn's worker, preloading": (APP, (*GUNICORN, *WORKER, "--preload")),
    "gunicorn, configured": (APP, (*GUNICORN, *WORKER, "--log-config-json", "log.json")),
    "gunicorn with its own worker": (WSGI, GUNICORN),
    "gunicorn with Flask": (FLASK, GUNICORN),
    "gunicorn with threads": (WSGI, (*GUNICORN, "--threads", "2")),
    "gunicorn with its own asgi worker": (APP, (*GUNICORN, "-k", "asgi")),
}
LOG_CONFIG = """{"version": 1, "disable_existing_loggers": false,
 "formatters": {"plain": {"format": "%(name)s %(levelname)s %(filename)s:%(lineno)d %(message)s"}},
 "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"},
              "error_console": {"class": "logging.StreamHandler", "formatter": "plain"}},
 "root": {"level": "INFO", "handlers": ["console"]}}"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def served(collector, tmp_path, until):
    """Run a server, ask it for some pages, end it; what it wrote to stdout and stderr.

    As often as there are environments, side by side.
    """

    def start(command, environ):
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", *(part.format(port=port) for part in command)],
            cwd=tmp_path,
            env={**os.environ, "HEATSHIELD_ENDPOINT": collector.endpoint, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return process, port

    def run(name, *environs, paths=PATHS):
        app, command = SERVERS[name]
        (tmp_path / "shop.py").write_text(app)
        (tmp_path / "log.json").write_text(LOG_CONFIG)
        running = [start(command, environ) for environ in environs]
        written = []
        for process, port in running:
            try:
                until(lambda p=process, at=port: answers(at) or p.poll() is not None, 30)
                for path in paths:
                    httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10)
            finally:
                process.send_signal(signal.SIGTERM)
                written.append(process.communicate(timeout=20))
        return written

    return run


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def steady(output):
    """Lines without what changes, sorted, as processes write side by side; no frames of ours."""
    return sorted(CHANGING.sub(b"*", OUR_FRAMES.sub(b"", output)).splitlines())


INSTRUMENTED = autostart.environment({"HEATSHIELD_SERVICE": "shop"})


def said(collector, text):
    return [record for record in collector.logs if text in record.body.string_value]


@pytest.mark.parametrize("name", SERVERS)
def test_the_console_is_the_same_and_each_record_goes_out_once(served, collector, plain, name):
    bare, instrumented = served(name, {}, INSTRUMENTED)
    assert steady(instrumented[0]) == steady(bare[0])
    assert steady(instrumented[1]) == steady(bare[1])
    console = b"".join(bare).decode()
    for path in PATHS:
        assert f"GET {path} " in console
        assert len(said(collector, f"GET {path} ")) == 1
    assert len(said(collector, "from the shop")) == console.count("from the shop") > 0
    broken = said(collector, "in ASGI application")
    assert len(broken) == console.count("in ASGI application")
    if broken:
        found = plain(broken[0].attributes)
        assert found["exception.type"] == "ValueError"
        assert found["exception.message"] == "none for u-1"
        assert 'raise ValueError(f"none for {user}")' in found["exception.stacktrace"]
    if SERVERS[name][0] is not WSGI:
        requests = {plain(span.attributes)["url.path"]: span for _, span in collector.spans}
        for path in PATHS:
            assert said(collector, f"GET {path} ")[0].trace_id == requests[path].trace_id
        assert all(record.trace_id == requests[PATHS[2]].trace_id for record in broken)


@pytest.mark.parametrize(
    "name", ["uvicorn", "gunicorn with its own asgi worker", "gunicorn with Flask"]
)
def test_pseudonyms_stand_in_the_lines_of_servers(served, collector, name):
    user = "user-0815"
    environ = {"HEATSHIELD_USER_PATH_PARAMETER": "user", "HEATSHIELD_USER_KEY": "k"}
    paths = (f"/stickers/{user}", f"/broken/{user}")
    (console,) = served(name, {**INSTRUMENTED, **environ}, paths=paths)
    assert user.encode() in b"".join(console)
    assert said(collector, "GET /stickers/")
    assert user.encode() not in b"".join(body for _, _, body, _, _ in collector.payloads)


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn with uvicorn's worker"])
def test_ids_stand_in_the_lines_of_servers_when_asked_for(served, name):
    ((out, err),) = served(name, {**INSTRUMENTED, "HEATSHIELD_CONSOLE_IDS": "1"})
    ids = rb" trace_id=[0-9a-f]{32} span_id=[0-9a-f]{16}\n"
    for path in PATHS:
        assert re.search(rb"GET %b [^\n]*" % path.encode() + ids, out), out
    assert re.search(rb"1 from the shop" + ids, err), err
