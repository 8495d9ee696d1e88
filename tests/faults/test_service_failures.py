"""Whatever breaks in or behind heatshield: the service's answers stay the same, and it is counted.

The service is a real FastAPI application with a guard that has a fallback, and logs; the collector
is a real socket that misbehaves.
"""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from urllib.request import urlopen  # not traced: its spans would be counted

import httpx
import pytest
from fastapi import FastAPI

import heatshield
from heatshield import runtime
from heatshield.contract import BreakerEntry, PlatformMode, Snapshot, StateVersion
from heatshield.counters import COUNTERS
from heatshield.settings import ServiceSettings

LOG = logging.getLogger("failures")
ANSWER = {"user": "u-1", "stickers": 3}
REQUESTS = 20


class Misbehaving:
    """Listens on loopback and answers each request as it was told to."""

    def __init__(self, behave):
        self._behave = behave
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self._closing:
            with contextlib.suppress(OSError):
                peer, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        with contextlib.suppress(OSError), peer:
            while not self._closing:
                received = b""
                while b"\r\n\r\n" not in received:
                    more = peer.recv(65536)
                    if not more:
                        return
                    received += more
                if not self._behave(peer):
                    return

    def close(self):
        self._closing = True
        self._socket.close()


def status(line):
    def behave(peer):
        peer.sendall(b"HTTP/1.1 " + line + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    return behave


def garbage(peer):
    peer.sendall(os.urandom(4096))


def half(peer):
    peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-len")


def slow(peer):
    for byte in b"HTTP/1.1 200 OK\r\n":
        peer.sendall(bytes([byte]))
        time.sleep(0.2)


def never(_peer):
    time.sleep(60)


BEHAVIOURS = {
    "500": status(b"500 Internal Server Error"),
    "503": status(b"503 Service Unavailable"),
    "400": status(b"400 Bad Request"),
    "redirect": status(b"302 Found"),
    "garbage": garbage,
    "half an answer": half,
    "slow": slow,
    "never": never,
}


@pytest.fixture
def begin():
    def start(endpoint, **settings):
        runtime.begin(
            ServiceSettings(
                service="shop",
                endpoint=endpoint,
                user_header="x-user",
                flush_interval_s=0.02,
                export_timeout_s=0.3,
                **settings,
            )
        )
        return runtime._RUNNING.get()

    yield start
    runtime.end()


def shop():
    app = FastAPI()

    @heatshield.breaker("stickers.count", fallback=lambda _: -1)
    def count(user):
        return 3

    @app.get("/stickers")
    async def stickers():
        LOG.warning("counting")
        heatshield.cost(elements=3)
        return {"user": "u-1", "stickers": count("u-1")}

    return app


def ask(app, times=REQUESTS):
    async def every():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return [await client.get("/stickers", headers={"x-user": "u-1"}) for _ in range(times)]

    return asyncio.run(every())


def assert_unchanged(answers):
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert [answer.json() for answer in answers] == [ANSWER] * len(answers)


def until(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, (COUNTERS.dropped, COUNTERS.errors)
        time.sleep(0.01)


def lost(before):
    """Spans and log records that were dropped since; metrics are sent anew every few seconds."""
    return sum(
        count - before.get(cause, 0)
        for cause, count in COUNTERS.dropped.items()
        if not cause.startswith("metrics")
    )


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_misbehaving_collector_changes_no_answer_and_what_is_lost_is_counted(begin, behaviour):
    peer, before = Misbehaving(BEHAVIOURS[behaviour]), COUNTERS.dropped
    begin(peer.endpoint)
    assert_unchanged(ask(shop()))
    began = time.monotonic()
    heatshield.shutdown()
    assert time.monotonic() - began < 4, "leaving waits for at most two seconds"
    # A request makes a server span, a guard's span and a log record.
    until(lambda: lost(before) >= 3 * REQUESTS)
    peer.close()


def test_a_collector_that_is_absent_at_the_start_gets_what_was_made_meanwhile(begin, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    before = COUNTERS.dropped
    running = begin(f"http://127.0.0.1:{port}")
    assert_unchanged(ask(shop()))
    metrics = f"http://127.0.0.1:{port}/metrics"
    environ = {name: text for name, text in os.environ.items() if "HEATSHIELD" not in name}
    command = ["up", "--http", f"127.0.0.1:{port}", "--grpc", "off", "--data", str(tmp_path)]
    collector = subprocess.Popen(
        [sys.executable, "-c", "from heatshield.cli import main; main()", *command],
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(
            lambda: running.exporter.force_flush(1_000) and not running.exporter.queued()["spans"],
            60,
        )

        def arrived():
            with contextlib.suppress(OSError), urlopen(metrics, timeout=5) as answer:
                text = answer.read().decode()
                return f"heatshield_spans_received_total {2.0 * REQUESTS}" in text
            return False

        until(arrived, 60)
        assert lost(before) == 0
    finally:
        collector.terminate()
        collector.wait(20)


def test_an_hour_without_a_collector_keeps_a_bounded_queue(begin):
    """As many records as an hour brings are more than the queue; only the newest are kept."""
    before = COUNTERS.dropped
    running = begin("http://127.0.0.1:9", queue_records=50, batch_records=1_000)
    app = shop()
    for _ in range(5):
        assert_unchanged(ask(app, 100))
    assert running.exporter.queued()["spans"] <= 50
    heatshield.shutdown()
    assert lost(before) >= 3 * 500


def test_an_integration_that_raises_at_its_installation_is_left_out(monkeypatch, begin):
    def failing(_equipment):
        raise RuntimeError("this library is too new")

    monkeypatch.setattr("heatshield.integrations.clients.httpx.install", failing)
    running = begin("http://127.0.0.1:9")
    assert running.integrations.states()["httpx"].startswith("failed")
    assert_unchanged(ask(shop()))


@pytest.mark.parametrize(
    ("place", "where"),
    [
        ("heatshield.integrations.servers.asgi._attributes", "asgi"),
        ("heatshield.integrations.servers.asgi.RouteGuard._request_of", "asgi"),
        ("heatshield.tracing.provider.Tracer._started", "span start"),
        ("heatshield.runtime.Runtime.finished", "span end"),
        ("heatshield.tracing.stamp.attributes_of", "cost"),
        ("heatshield.breakers.lease_table.BreakerTable.decide", "decide"),
        ("heatshield.export.records.encode", "export"),
    ],
)
def test_an_error_on_a_requests_way_is_swallowed_and_counted(monkeypatch, begin, place, where):
    def failing(*_args, **_more):
        raise RuntimeError("a mistake of heatshield's own")

    monkeypatch.setattr(place, failing)
    before = COUNTERS.errors.get(where, 0)
    running = begin("http://127.0.0.1:9")
    entry = BreakerEntry("b-1", "u-other", "shop", "refresh", issuer="human:test")
    state = Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, (entry,))
    running.table.apply(state, running.clock.monotonic())  # else the table is not asked
    assert_unchanged(ask(shop()))
    until(lambda: COUNTERS.errors.get(where, 0) > before)


def test_a_fallback_that_raises_raises_its_own_error(begin):
    running = begin("http://127.0.0.1:9")

    def fallback():
        raise KeyError("of the service's own")

    @heatshield.breaker("refresh", fallback=fallback)
    def refresh():
        return 1

    entry = BreakerEntry("b-1", "u-1", "shop", "refresh", issuer="human:test")
    state = Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, (entry,))
    with heatshield.user("u-1"):
        assert refresh() == 1
        running.table.apply(state, running.clock.monotonic())
        with pytest.raises(KeyError):
            refresh()
    running.table.apply(Snapshot(StateVersion(1, 2), PlatformMode.PROTECT, ()), 0.0)
    assert refresh() == 1


@pytest.mark.parametrize("step_s", [-3_600, 3_600, 10**9])
def test_a_clock_that_steps_makes_no_durations(monkeypatch, begin, step_s):
    running, made = begin("http://127.0.0.1:9"), []
    monkeypatch.setattr(running.exporter, "on_end", made.append)
    real, steps = time.time_ns, iter(range(10**6))
    monkeypatch.setattr(
        "heatshield.tracing.span.time_ns", lambda: real() + next(steps) * step_s * 10**9
    )
    assert_unchanged(ask(shop(), 5))
    assert len(made) == 10
    assert all(0 <= span.end_time - span.start_time < 10**10 for span in made)


def test_a_full_disk_for_the_metrics_of_workers_changes_no_answer(tmp_path):
    """``PROMETHEUS_MULTIPROC_DIR`` on a file system without space: values can't be kept."""
    program = """
import asyncio, httpx, heatshield
heatshield.instrument(service="shop", endpoint="http://127.0.0.1:9")
from fastapi import FastAPI
app = FastAPI()
app.add_api_route("/", lambda: {"ok": True})
async def ask():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://s") as c:
        return [(await c.get("/")).json() for _ in range(20)]
print(asyncio.run(ask()) == [{"ok": True}] * 20)
"""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(folder)],
        check=False, capture_output=True,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("only root may mount a file system that is full")
    try:
        with contextlib.suppress(OSError):
            (folder / "fill").write_bytes(b"x" * 8192)
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
            check=False, env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        )  # fmt: skip
        assert done.stdout.strip() == "True", done.stderr
    finally:
        subprocess.run(["umount", str(folder)], check=False)
