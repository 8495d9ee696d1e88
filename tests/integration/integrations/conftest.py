"""What the tests of integrations share: this process instrumented, and a collector for others.

``service(**settings)`` instruments this process and keeps its spans and logs; ``collector``,
``run_python``, ``until`` and ``plain`` are for programs that run by themselves.
"""

import http.client
import importlib.util
import os
import socket
import subprocess
import threading
import time
import types
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.register_assert_rewrite("shop_behaviour", "caller_behaviour")

_TESTS = Path(__file__).parents[2]


def _fixtures_of(path):
    """Tests are not packages, so another folder's fixtures are loaded by their file."""
    spec = importlib.util.spec_from_file_location(f"_shared_{path.parent.name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_THIS_PROCESS = _fixtures_of(_TESTS / "unit" / "instrumentation" / "conftest.py")
_OTHERS = _fixtures_of(_TESTS / "integration" / "instrumentation" / "conftest.py")

service = _THIS_PROCESS.service
collector, run_python = _OTHERS.collector, _OTHERS.run_python
until, plain = _OTHERS.until, _OTHERS.plain


@pytest.fixture
def ask():
    """Ask a server over a connection that no integration sees; the answer is read whole."""

    def once(url, method="GET", body=None, headers=None):
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target or "/", body, headers or {})
        answer = connection.getresponse()
        answered = types.SimpleNamespace(
            status=answer.status,
            headers={name.lower(): value for name, value in answer.getheaders()},
            body=answer.read(),
        )
        connection.close()
        return answered

    return once


@pytest.fixture
def serve_wsgi():
    """Serve a WSGI application on an ephemeral port, each request in a thread of its own."""
    from werkzeug.serving import make_server

    servers = []

    def serve(app):
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def serve_asgi(until):
    """Serve an ASGI application under uvicorn on an ephemeral port."""
    import uvicorn

    servers = []

    def serve(app, **options):
        config = uvicorn.Config(app, port=0, log_level="warning", **options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        servers.append((server, thread))
        until(lambda: server.started)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield serve
    for server, thread in servers:
        server.should_exit = True
        thread.join()


@pytest.fixture
def in_loop():
    """Run coroutines, one after the other, in an event loop that runs on in a thread."""
    import asyncio

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """The port of a real Redis."""
    import redis

    from heatshield_stickershop.redis_server import redis_server_path

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    server = subprocess.Popen(
        [redis_server_path(), "--port", str(free), "--save", "", "--bind", "127.0.0.1"],
        cwd=tmp_path_factory.mktemp("redis"),
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while True:
        try:
            if redis.Redis(port=free).ping():
                break
        except redis.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    yield free
    server.terminate()
    server.wait(10)


@pytest.fixture(scope="session")
def postgres():
    """A real PostgreSQL, started for the first test that asks for one."""
    from postgres_server import PostgresServer, programs

    binaries = programs()
    if binaries is None:
        missing = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    server = PostgresServer(binaries)
    yield server
    server.close()


@pytest.fixture(scope="session")
def kafka():
    """The address of a Kafka broker: the one that librdkafka brings, over real sockets."""
    import confluent_kafka

    cluster = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    cluster.close()
