"""Servers with workers, reloaders and masters: each worker is an instance and exports once."""

import signal
import time
from collections import Counter

import pytest

BUY = "POST /purchases/{user}"

UVICORN = ("-m", "uvicorn", "shop:app", "--port", "{port}")
GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "warning")
ASGI = (*GUNICORN, "-k", "uvicorn_worker.UvicornWorker", "shop:app")
BARE = tuple(word.replace("shop:", "bare_shop:") for word in UVICORN)
BARE_WORKERS = tuple(word.replace("shop:", "bare_shop:") for word in ASGI)
WSGI = (*GUNICORN, "wsgi_shop:app")

SERVERS = [
    pytest.param(UVICORN, 1, BUY, id="uvicorn"),
    pytest.param((*UVICORN, "--loop", "asyncio"), 1, BUY, id="uvicorn on asyncio"),
    pytest.param((*UVICORN, "--workers", "4"), 4, BUY, id="uvicorn --workers"),
    pytest.param((*UVICORN, "--reload"), 1, BUY, id="uvicorn --reload"),
    pytest.param((*ASGI, "-w", "2"), 2, BUY, id="gunicorn of uvicorns"),
    pytest.param((*ASGI, "-w", "2", "--preload"), 2, BUY, id="gunicorn of uvicorns --preload"),
    pytest.param(BARE, 1, "buy", id="uvicorn of no framework"),
    pytest.param((*BARE_WORKERS, "-w", "1"), 1, "buy", id="gunicorn of uvicorns of no framework"),
    pytest.param((*WSGI, "-w", "2"), 2, "buy", id="gunicorn sync"),
    pytest.param((*WSGI, "-w", "2", "--preload"), 2, "buy", id="gunicorn sync --preload"),
    pytest.param((*WSGI, "-w", "2", "--threads", "4"), 2, "buy", id="gunicorn threads"),
]


@pytest.mark.parametrize(("command", "workers", "span_name"), SERVERS)
def test_each_worker_is_an_instance_that_exports_once_and_flushes_at_sigterm(
    deploy, until, purchases, instances, command, workers, span_name
):
    plain = deploy(*(word.replace("4", "2") for word in command), instrumented=False)
    server = deploy(*command)
    until(lambda: len(instances(span_name)[0]) == workers, timeout_s=30)  # before any request
    server.buy_of_each_of(workers)
    plain.buy("u-1")
    took_s = server.end() - plain.end()

    once = Counter(server.bought)
    assert purchases(span_name) == (once, once)
    following, of_spans = instances(span_name)
    assert set(following) == of_spans
    assert list(following.values()) == [1] * workers, "the supervisor is no instance"
    assert server.process.returncode == plain.process.returncode
    assert took_s < 4


def test_a_reloader_starts_a_new_instance_and_the_old_one_loses_nothing(
    deploy, until, purchases, instances, tmp_path
):
    server = deploy(*UVICORN, "--reload")
    first = server.buy_of_each_of(1)
    with (tmp_path / "shop.py").open("a") as file:
        file.write("\n# changed\n")
    until(lambda: len(instances(BUY)[0]) == 2)
    second = server.buy_of_each_of(1)
    assert first.isdisjoint(second)
    server.end()
    once = Counter(server.bought)
    assert purchases(BUY) == (once, once)
    assert len(instances(BUY)[1]) == 2


@pytest.mark.parametrize("command", [UVICORN, (*ASGI, "-w", "1"), (*WSGI, "-w", "1")])
def test_a_collector_that_never_answers_delays_the_end_by_two_seconds_at_most(
    deploy, silent_endpoint, command
):
    plain = deploy(*command, instrumented=False)
    server = deploy(*command, env={"HEATSHIELD_ENDPOINT": silent_endpoint})
    for one in (plain, server):
        one.buy_of_each_of(1)
    assert server.end() - plain.end() < 4
    assert server.process.returncode == plain.process.returncode


def test_an_interrupt_from_the_keyboard_flushes_too(deploy, purchases):
    plain, server = deploy(*UVICORN, instrumented=False), deploy(*UVICORN)
    for one in (plain, server):
        one.buy("u-1")
        one.end(signal.SIGINT)
    assert purchases(BUY)[0] == {"u-1": 1}
    assert server.process.returncode == plain.process.returncode


def test_workers_that_retire_lose_nothing(deploy, until, purchases, instances):
    """`--max-requests`: a worker ends by itself, and another takes its place."""
    server = deploy(*WSGI, "-w", "1", "--max-requests", "3")
    for n in range(7):
        server.buy(f"u-{n}")
        time.sleep(0.05)
    server.end()
    once = Counter(server.bought)
    assert purchases("buy") == (once, once)
    assert len(instances("buy")[1]) == 3
