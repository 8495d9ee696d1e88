"""Redis spans carry their elements by themselves, against a real server."""

import asyncio
import socket
import subprocess
import time

import pytest

from heatshield import runtime
from heatshield.export.exporter import Exporter
from heatshield.names import COST_ELEMENTS, REDIS_ARGS_LENGTH
from heatshield.settings import ServiceSettings
from heatshield_stickershop.redis_server import redis_server_path

redis = pytest.importorskip("redis")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    server = subprocess.Popen(
        [redis_server_path(), "--port", str(free), "--save", "", "--bind", "127.0.0.1"],
        cwd=tmp_path_factory.mktemp("redis"),
        stdout=subprocess.DEVNULL,
    )
    for _ in range(200):
        try:
            if redis.Redis(port=free).ping():
                break
        except redis.ConnectionError:
            time.sleep(0.02)
    yield free
    server.terminate()
    server.wait()


@pytest.fixture
def spans(monkeypatch):
    made = []
    monkeypatch.setattr(Exporter, "on_end", lambda _, span: made.append(span))
    runtime.begin(ServiceSettings(service="shop", endpoint="http://127.0.0.1:9"))
    yield made
    runtime.end()


def elements(spans):
    return [(span.name, span.attributes.get(COST_ELEMENTS)) for span in spans]


def test_commands_count_what_they_write_and_read(port, spans):
    client = redis.Redis(port=port)
    client.sadd("s", *range(20_000))
    client.smembers("s")
    client.hset("h", mapping={"a": 1, "b": 2})
    client.get("nothing")
    assert elements(spans)[-4:] == [
        ("SADD", 20_000), ("SMEMBERS", 20_000), ("HSET", 2), ("GET", None)
    ]  # fmt: skip


def test_a_command_of_20000_words_makes_a_small_span(port, spans):
    redis.Redis(port=port).sadd("s", *range(20_000))
    (span,) = [span for span in spans if span.name == "SADD"]
    assert span.attributes[REDIS_ARGS_LENGTH] == 20_002
    assert sum(len(str(value)) for value in span.attributes.values()) < 300


def test_a_pipeline_counts_all_its_commands_and_has_a_short_name(port, spans):
    pipe = redis.Redis(port=port).pipeline()
    for i in range(5_000):
        pipe.sadd("p", i)
    pipe.smembers("p").expire("p", 60).execute()
    (span,) = [span for span in spans if span.name.startswith("PIPELINE")]
    assert span.name == "PIPELINE SADD SMEMBERS EXPIRE"
    assert span.attributes[COST_ELEMENTS] == 10_000
    assert sum(len(str(value)) for value in span.attributes.values()) < 400


def test_the_async_client_counts_alike(port, spans):
    async def main():
        client = redis.asyncio.Redis(port=port)
        await client.delete("a")
        await client.rpush("a", *range(10))
        await client.lrange("a", 0, -1)
        async with client.pipeline() as pipe:
            await pipe.rpush("a", 1, 2).lrange("a", 0, -1).execute()
        await client.aclose()

    asyncio.run(main())
    assert elements(spans)[-4:] == [
        ("DEL", 1), ("RPUSH", 10), ("LRANGE", 10), ("PIPELINE RPUSH LRANGE", 14)
    ]  # fmt: skip
