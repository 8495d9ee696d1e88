"""Mistakes of the service are not counted as errors of heatshield; the library tells of them."""

import asyncio
import sqlite3
from functools import partial

import aiohttp
import aiokafka
import confluent_kafka
import httpx
import psycopg
import pytest
import redis
import requests
import urllib3
from caller_behaviour import of_user

from heatshield.counters import COUNTERS
from heatshield.integrations.patches import around
from heatshield.names import COST_ROWS


@pytest.fixture
def counted(service):
    service()
    before = COUNTERS.errors
    yield
    assert COUNTERS.errors == before


def refused(call):
    """Call a library in a way that it does not take, and however it says so."""
    try:
        call()
    except Exception:  # noqa: BLE001  # which one is the library's business
        return
    raise AssertionError


async def asked(url):
    async with aiohttp.ClientSession() as session:
        await session.get(url)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("url", ["http://[", "http://a:port/", 7, None, "nowhere"])
def test_an_address_that_is_none(url):
    refused(lambda: asyncio.run(asked(url)))
    refused(lambda: httpx.get(url))
    refused(lambda: requests.get(url, timeout=1))
    refused(lambda: urllib3.PoolManager(retries=False, timeout=1).request("GET", url))


@pytest.mark.usefixtures("counted")
def test_calls_without_their_arguments():
    with pytest.raises(TypeError):
        urllib3.HTTPConnectionPool("127.0.0.1").urlopen()
    with pytest.raises(TypeError):
        httpx.HTTPTransport().handle_request()
    with pytest.raises(TypeError):
        requests.adapters.HTTPAdapter().send()
    refused(lambda: redis.Redis(port=1).execute_command())


@pytest.mark.usefixtures("counted")
def test_what_is_closed_in_sqlite():
    connection = sqlite3.connect(":memory:")
    cursor = connection.cursor()
    cursor.close()
    for call in (lambda: cursor.execute("SELECT 1"), cursor.execute, cursor.fetchone):
        with pytest.raises((sqlite3.Error, TypeError)):
            call()
    connection.close()
    for call in (lambda: connection.execute("SELECT 1"), connection.cursor):
        with pytest.raises(sqlite3.Error):
            call()


@pytest.mark.usefixtures("counted")
def test_what_is_closed_in_psycopg(postgres):
    with psycopg.connect(postgres.url) as connection:
        cursor = connection.cursor()
        cursor.close()
        for call in (
            lambda: cursor.execute("SELECT 1"),
            cursor.execute,
            lambda: list(cursor.stream("SELECT 1")),
            lambda: cursor.executemany("SELECT %s", [(1,)]),
        ):
            with pytest.raises((psycopg.Error, TypeError)):
                call()
    for call in (lambda: connection.execute("SELECT 1"), lambda: cursor.execute("SELECT 1")):
        with pytest.raises(psycopg.Error):
            call()


class Untold:
    """Has no text, and is no topic, no message and no headers."""

    def __str__(self):
        raise LookupError


NO_HEADERS = ([7], [()], [Untold()], Untold(), {"traceparent": Untold()}, "x")


@pytest.mark.usefixtures("counted")
def test_what_is_no_message_in_confluent_kafka():
    producer = confluent_kafka.Producer({"bootstrap.servers": "127.0.0.1:9", "log_level": 0})
    for call in (
        producer.produce,
        lambda: producer.produce(Untold()),
        lambda: producer.produce("t", Untold()),
        *(partial(producer.produce, "t", headers=given) for given in NO_HEADERS),
        producer.produce_batch,
        lambda: producer.produce_batch("t"),
        lambda: producer.produce_batch("t", 7),
        lambda: producer.produce_batch(Untold(), [{"value": b"v"}]),
        lambda: producer.produce_batch("t", [Untold()]),
    ):
        refused(call)


@pytest.mark.usefixtures("counted")
def test_what_is_no_message_in_aiokafka(kafka):
    async def scenario():
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            for call in (
                producer.send,
                lambda: producer.send("t", Untold(), partition=0),
                *(partial(producer.send, "t", b"v", headers=given) for given in NO_HEADERS),
                producer.send_batch,
            ):
                try:
                    await call()
                except Exception:  # noqa: BLE001, S112  # which one is the library's business
                    continue
                raise AssertionError
            append = producer.create_batch().append
            for given in NO_HEADERS:
                refused(partial(append, key=None, value=b"v", timestamp=None, headers=given))

    asyncio.run(scenario())


def test_what_the_library_takes_and_heatshield_does_not_is_an_error_of_heatshields():
    def begin(_instance, _args, _kwargs):
        raise KeyError("ours")

    before = COUNTERS.errors.get("here", 0)
    patched = around(begin, print, print, name="here")(lambda _self, number: 1 / number)
    with pytest.raises(ZeroDivisionError) as caught:
        patched(None, 0)
    assert caught.value.__context__ is None
    assert COUNTERS.errors.get("here", 0) == before
    assert patched(None, 1) == 1.0
    assert COUNTERS.errors["here"] == before + 1


def test_rows_that_are_read_after_the_first_are_the_callers_cost_in_bulk(service):
    made = service()
    connection = sqlite3.connect(":memory:")

    def read():
        cursor = connection.execute("SELECT value FROM json_each(?)", (str([*range(200)]),))
        rows = 0
        while cursor.fetchone() is not None:
            rows += 1
        return rows

    assert of_user("u-1", read) == 200
    statement, serve = made.spans
    assert (statement.attributes[COST_ROWS], serve.attributes[COST_ROWS]) == (1, 199)
