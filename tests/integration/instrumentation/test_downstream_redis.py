"""Redis commands against a real server: local breakers and deadlines."""

import asyncio
import contextlib
import socket
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

import heatshield
from heatshield.clock import ManualClock
from heatshield.context.deadline import DeadlineScope
from heatshield.counters import COUNTERS
from heatshield.integrations.databases import downstream_redis
from heatshield.resilience.downstream import DOWNSTREAM
from heatshield.resilience.local_breaker import State
from heatshield.settings import ServiceSettings
from heatshield_stickershop.redis_server import redis_server_path

redis = pytest.importorskip("redis")

from redis.backoff import NoBackoff  # noqa: E402  # once it is known to be there
from redis.retry import Retry  # noqa: E402


class Server:
    """A real redis-server that can be killed and started again at the same port."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.peer = f"127.0.0.1:{self.port}"
        self.folder = folder
        self.process = None

    def start(self):
        words = ["--port", str(self.port), "--save", "", "--bind", "127.0.0.1"]
        self.process = subprocess.Popen(
            [redis_server_path(), *words, "--lua-time-limit", "5"],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def install(clock):
    def installed(**settings):
        downstream_redis.install(SimpleNamespace(settings=ServiceSettings(**settings)))
        DOWNSTREAM.monotonic = clock.monotonic

    before = COUNTERS.errors
    yield installed
    downstream_redis.remove()
    assert COUNTERS.errors == before


def client_of(server):
    return redis.Redis(host="127.0.0.1", port=server.port, retry=Retry(NoBackoff(), 0))


def sync(server, use):
    """What ``use`` makes of a client that doesn't retry by itself."""
    with client_of(server) as client:
        return use(client)


def asynchronous(server, use):
    from redis.asyncio.retry import Retry as AsyncRetry

    async def main():
        kwargs = {"host": "127.0.0.1", "port": server.port, "retry": AsyncRetry(NoBackoff(), 0)}
        async with redis.asyncio.Redis(**kwargs) as client:
            return await use(client)

    return asyncio.run(main())


def get(client):
    return client.get("k")


def pipeline(client):
    return client.pipeline().set("k", 1).get("k").execute()


kinds = pytest.mark.parametrize("run", [sync, asynchronous])
uses = pytest.mark.parametrize(("use", "name"), [(get, "GET"), (pipeline, "PIPELINE")])


@kinds
@uses
def test_a_server_that_is_gone_is_left_alone_and_taken_back(run, use, name, server, clock, install):
    install(local_breakers=True)
    run(server, use)
    server.stop()
    for again in (10, 1):
        for _ in range(again):
            with pytest.raises(redis.ConnectionError):
                run(server, use)
        clock.advance(1)
    with pytest.raises(heatshield.BreakerOpen) as refusal:
        run(server, use)
    assert refusal.value.entry_id == f"local:{server.peer}:{name}"
    server.start()
    clock.advance(12)
    run(server, use)
    (state,) = DOWNSTREAM.states()
    assert (state.peer, state.call, state.state) == (server.peer, name, State.CLOSED)


@kinds
def test_commands_have_breakers_of_their_own_and_keys_are_not_in_their_names(run, server, install):
    install(local_breakers=True)
    run(server, lambda client: client.get("user:1"))
    run(server, lambda client: client.execute_command("get user:2"))
    run(server, lambda client: client.execute_command(b"SMEMBERS", "user:3"))
    assert [state.call for state in DOWNSTREAM.states()] == ["GET", "SMEMBERS"]


@kinds
def test_an_error_that_is_an_answer_is_no_failure(run, server, clock, install):
    install(local_breakers=True)
    run(server, lambda client: client.set("text", "a"))
    for again in (10, 1):
        for _ in range(again):
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                run(server, lambda client: client.smembers("text"))
        clock.advance(1)
    assert {state.state for state in DOWNSTREAM.states()} == {State.CLOSED}


def run_for_ever(server):
    """A script that somebody has to kill."""
    with client_of(server) as client, contextlib.suppress(redis.ResponseError):
        client.eval("while true do end", 0)


@kinds
def test_a_server_that_a_script_blocks_has_failed(run, server, clock, install):
    install(local_breakers=True)
    script = threading.Thread(target=run_for_ever, args=(server,), daemon=True)
    script.start()
    errors = []
    while not errors or isinstance(errors[-1], redis.ResponseError):
        clock.advance(0.1)
        try:
            run(server, get)
        except (redis.ResponseError, heatshield.BreakerOpen) as error:
            errors.append(error)
    client_of(server).script_kill()
    script.join()
    assert len(errors) > 10
    assert str(errors[0]).startswith("BUSY ")
    assert isinstance(errors[-1], heatshield.BreakerOpen)


@kinds
def test_a_blocking_pop_may_take_its_time(run, server, clock, install):
    install(local_breakers=True, local_breaker_slow_s=0.05)
    DOWNSTREAM.monotonic = time.monotonic
    run(server, lambda client: client.blpop(["empty"], timeout=0.1))
    (state,) = DOWNSTREAM.states()
    assert state.call == "BLPOP"
    (breaker,) = DOWNSTREAM._breakers._breakers.values()
    assert breaker.is_clean(time.monotonic())


@kinds
@uses
def test_an_expired_request_sends_no_command(run, use, name, server, clock, install):
    install()
    with DeadlineScope(0.5, clock.monotonic):
        run(server, use)
        clock.advance(0.5)
        with pytest.raises(heatshield.DeadlineExceeded, match=f"{name} at {server.peer}"):
            run(server, use)
    assert run(server, lambda client: client.info("commandstats"))["cmdstat_get"]["calls"] == 1


@kinds
def test_an_expired_transaction_that_watches_is_stopped_too(run, server, clock, install):
    install()

    def watch(client):
        return client.pipeline().watch("k")

    with (
        DeadlineScope(-1, clock.monotonic),
        pytest.raises(heatshield.DeadlineExceeded, match="WATCH"),
    ):
        run(server, watch)


def test_an_empty_pipeline_is_no_call(server, install):
    install(local_breakers=True)
    assert sync(server, lambda client: client.pipeline().execute()) == []
    assert DOWNSTREAM.states() == ()


def test_a_lock_and_a_script_work_through_it(server, install):
    install(local_breakers=True)
    with client_of(server) as client:
        with client.lock("l", timeout=5):
            assert client.register_script("return redis.call('GET', KEYS[1])")(keys=["l"])
        assert client.get("l") is None


def test_a_lock_is_released_though_no_time_is_left_and_its_breaker_is_open(server, clock, install):
    """Others wait for it, and without a timeout of its own they would for ever."""
    install(local_breakers=True)
    with client_of(server) as client:
        lock = client.lock("l")
        with DeadlineScope(1, clock.monotonic):
            assert lock.acquire()
            clock.advance(1)
            for key in list(DOWNSTREAM._breakers._breakers.values()):
                key._move("tripped", clock.monotonic())
            with pytest.raises(heatshield.DeadlineExceeded):
                client.get("l")
            lock.release()
        assert client.exists("l") == 0


def test_an_async_lock_is_released_though_no_time_is_left(server, clock, install):
    install()

    async def use(client):
        lock = client.lock("l")
        with DeadlineScope(1, clock.monotonic):
            assert await lock.acquire()
            clock.advance(1)
            await lock.release()
        return await client.exists("l")

    assert asynchronous(server, use) == 0


def test_removing_puts_everything_back(install):
    before = redis.Redis.execute_command
    install(local_breakers=True)
    assert redis.Redis.execute_command is not before
    downstream_redis.remove()
    assert redis.Redis.execute_command is before


@pytest.mark.parametrize(
    ("url", "peer"),
    [
        ("redis://cache.local:7000/2", "cache.local:7000"),
        ("redis://cache.local", "cache.local:6379"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
        ("redis://somebody:secret@cache.local", "cache.local:6379"),
    ],
)
def test_a_peer_is_where_the_server_is(url, peer):
    assert downstream_redis._peer(redis.Redis.from_url(url)) == peer


def test_a_peer_behind_sentinels_is_its_service():
    from redis.sentinel import Sentinel

    client = Sentinel([("127.0.0.1", 1)]).master_for("stickers")
    assert downstream_redis._peer(client) == "sentinel:stickers"
