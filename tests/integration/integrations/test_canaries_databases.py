# ruff: noqa: S608  # values written into statements are what is tested
"""Values that a database or a store was sent do not leave when it refuses them.

Real servers, every driver. Each error passes through an enclosing span, and is logged in all the
ways that services log one; then the bytes that were sent are searched.
"""

import asyncio
import logging
import sqlite3

import pytest
from canaries import MARK, canaries_in, sent
from opentelemetry import trace

from heatshield.names import REDIS_KEY_PATTERN
from heatshield_stickershop.redis_server import redis_server_path

VALUE = f"{MARK}key"
CREATE = "CREATE TABLE people (id int PRIMARY KEY, email text UNIQUE, age int CHECK (age > 0))"
TRACER = trace.get_tracer("shop")

STATEMENTS = [  # the first is a duplicate
    f"INSERT INTO people VALUES (1, '{VALUE}', 1)",
    f"INSERT INTO people VALUES (2, '{VALUE}2', -1)",
    f"INSERT INTO people VALUES (3, E'two\nlines {VALUE}', -1)",
    f"SELECT '{VALUE}'::int",
    f"SELECT '{VALUE}'::timestamp",
    f"SELECT '{{{VALUE}'::int[]",
    f"SELECT 1 + text '{VALUE}'",
    f"SELEKT '{VALUE}'",
    f"SELECT * FROM people WHERE email = '{VALUE}' AND",
    f"SET work_mem = '{VALUE}'",
    f"DO $$ BEGIN RAISE EXCEPTION 'odd \"%\"', '{VALUE}'; END $$",
    f"DO $$ BEGIN INSERT INTO people\nVALUES (1, '{VALUE}', 1); END $$",
    f"SELECT json '{{\"a\": {VALUE}}}'",
]  # fmt: skip
"""PostgreSQL refuses each, and quotes what it refuses."""


@pytest.fixture
def made(service):
    made = service()
    handler = logging.NullHandler()
    logging.getLogger("shop.canaries").addHandler(handler)
    yield made
    logging.getLogger("shop.canaries").removeHandler(handler)


class Ours(sqlite3.Error):
    """A service's own error, derived from a driver's; it quotes another one."""

    def __init__(self, text, error):
        super().__init__(f"{error} {text} '{VALUE}'")


def told(error):
    """Log an error in every way."""
    import loguru
    import structlog

    log = logging.getLogger("shop.canaries")
    log.error("failed", exc_info=error)
    try:
        raise error
    except type(error):
        log.exception("failed: %s", error)  # what many services do
        log.error("failed: %s", error)  # noqa: TRY400  # same
        log.error("failed: %r", error)  # noqa: TRY400  # same
        log.error(f"failed: {type(error).__name__}: {error}")  # noqa: G004, TRY400  # same
        loguru.logger.remove()  # what prints
        sink = loguru.logger.add(lambda _: None)
        loguru.logger.exception("failed: " + str(error).replace("{", "{{").replace("}", "}}"))
        loguru.logger.remove(sink)
        structlog.configure(
            processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
            logger_factory=structlog.ReturnLoggerFactory(),
        )
        structlog.get_logger().exception("failed", why=str(error))
        structlog.reset_defaults()
    log.error("later: %s", error)  # of a task's result, say: nothing is handled
    log.error("later: %(why)r", {"why": error})
    log.error(error)
    log.error("later", extra={"why": error, "deep": {"errors": [error]}})
    log.error("many", exc_info=ExceptionGroup("many", [error]))
    structlog.get_logger().error("later", error=error)
    with TRACER.start_as_current_span("later", attributes={"why": str(type(error))}) as span:
        span.set_attribute("error", error)
        span.record_exception(error)
    log.error("long", exc_info=Ours("x" * 9_000, error))
    outer = RuntimeError("the shop is closed")
    outer.__cause__ = error
    log.error("failed", exc_info=outer)


def refused(do, *arguments):
    """Have it refused within a span; the error is noted by that span and by the logs."""
    try:
        with TRACER.start_as_current_span("within"):
            do(*arguments)
    except Exception as error:  # noqa: BLE001  # of any driver
        told(error)
    else:
        pytest.fail(f"not refused: {arguments}")


async def refused_async(make):
    try:
        with TRACER.start_as_current_span("within"):
            await make()
    except Exception as error:  # noqa: BLE001  # of any driver
        told(error)
    else:
        pytest.fail("not refused")


def test_sqlite3(made):
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute(CREATE)
    database.execute("INSERT INTO people VALUES (1, ?, 1)", (VALUE,))
    refused(database.execute, "INSERT INTO people VALUES (1, ?, 1)", (VALUE,))
    refused(database.execute, f"SELECT * FROM people WHERE email = '{VALUE}' '{VALUE}'")
    refused(database.execute, f"SELEKT '{VALUE}'")
    refused(database.execute, f"SELECT '{VALUE}")
    refused(database.execute, "SELECT ?", (VALUE, VALUE))
    refused(database.execute, f"SELECT json('{VALUE}')")
    database.close()
    assert canaries_in(sent(made)) == []


def test_sqlalchemy_and_sqlite(made):
    import sqlalchemy as sa

    engine = sa.create_engine("sqlite://")
    insert = sa.text("INSERT INTO people VALUES (1, :email, 1)")
    with engine.connect() as connection:
        connection.execute(sa.text(CREATE))
        connection.execute(insert, {"email": VALUE})
        refused(connection.execute, insert, {"email": VALUE})
        refused(connection.execute, insert, [{"email": f"{VALUE}\n{VALUE}"}, {"email": VALUE}])
        refused(connection.execute, sa.text(f"SELECT '{VALUE}\n {VALUE}' FRM x"))
    engine.dispose()
    payload = sent(made)
    assert canaries_in(payload) == []
    assert b"UNIQUE constraint failed: people.id" in payload


def test_psycopg(made, postgres):
    import psycopg

    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS people")
        connection.execute(CREATE)
        connection.execute("INSERT INTO people VALUES (1, %s, 1)", (VALUE,))
        for statement in STATEMENTS:
            refused(connection.execute, statement)
        refused(connection.execute, "INSERT INTO people VALUES (4, %s, -1)", (VALUE,))
        refused(connection.execute, "SELECT %s::int", (VALUE,))
    payload = sent(made)
    assert canaries_in(payload) == []
    assert b'duplicate key value violates unique constraint "people_pkey"' in payload


def test_asyncpg(made, postgres):
    import asyncpg

    async def main():
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("DROP TABLE IF EXISTS people")
        await connection.execute(CREATE)
        await connection.execute("INSERT INTO people VALUES (1, $1, 1)", VALUE)
        for statement in STATEMENTS:
            await refused_async(lambda s=statement: connection.execute(s))
        await refused_async(lambda: connection.fetch("SELECT $1::int", VALUE))
        insert = "INSERT INTO people VALUES (4, $1, -1)"
        await refused_async(lambda: connection.executemany(insert, [(VALUE,)]))
        await connection.close()

    asyncio.run(main())
    assert canaries_in(sent(made)) == []


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_sqlalchemy_and_postgresql(made, postgres, driver):
    import sqlalchemy as sa

    pytest.importorskip("greenlet")
    from sqlalchemy.ext.asyncio import create_async_engine

    async def main():
        engine = create_async_engine(postgres.url_of(driver), isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(sa.text("DROP TABLE IF EXISTS people"))
            await connection.execute(sa.text(CREATE))
            await connection.execute(sa.text(STATEMENTS[0]))
            for statement in STATEMENTS:
                text = sa.text(statement.replace(":", "\\:"))
                await refused_async(lambda text=text: connection.execute(text))
            insert = sa.text("INSERT INTO people VALUES (1, :email, 1)")
            await refused_async(lambda: connection.execute(insert, {"email": VALUE}))
            many = [{"email": f"{VALUE}\n{i}"} for i in range(20)]
            await refused_async(lambda: connection.execute(insert, many))
        await engine.dispose()

    asyncio.run(main())
    assert canaries_in(sent(made)) == []


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory):
    import socket
    import subprocess
    import time

    redis = pytest.importorskip("redis")
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


def test_redis(made, redis_port):
    import redis

    client = redis.Redis(port=redis_port)
    client.set(VALUE, VALUE)
    client.set(f"session:{VALUE}", VALUE)
    client.execute_command(f"SET {VALUE} {VALUE}")
    refused(client.lpush, VALUE, VALUE)
    refused(client.execute_command, VALUE, VALUE, f"{VALUE} {VALUE}")
    refused(client.execute_command, f"{VALUE} {VALUE}")
    refused(client.execute_command, "CONFIG", VALUE, VALUE)
    refused(client.execute_command, "CONFIG SET", VALUE, VALUE)
    refused(client.eval, f"return {VALUE} '{VALUE}'", 0)
    refused(client.eval, f"return redis.error_reply('ERR odd \"{VALUE}\"')", 1, VALUE)
    refused(client.xreadgroup, "g", "c", {VALUE: ">"})
    refused(client.incrby, VALUE, 1)
    refused(client.execute_command, "SET", VALUE, VALUE, VALUE)
    refused(client.execute_command, "AUTH", VALUE, VALUE)
    piped = client.pipeline()
    piped.set(VALUE, f"two\nlines of {VALUE}").lpush(VALUE, VALUE)
    refused(piped.execute)
    piped = client.pipeline(transaction=False)
    piped.execute_command(f"NONSENSE {VALUE}", VALUE)
    refused(piped.execute)
    payload = sent(made)
    assert canaries_in(payload) == []
    assert b"WRONGTYPE Operation against a key holding the wrong kind of value" in payload
    assert b"session:{id}" in payload


def test_redis_asyncio(made, redis_port):
    from redis import asyncio as redis

    async def main():
        client = redis.Redis(port=redis_port)
        await client.set(VALUE, VALUE)
        await refused_async(lambda: client.lpush(VALUE, VALUE))
        await refused_async(lambda: client.execute_command(VALUE, VALUE))
        piped = client.pipeline()
        piped.set(VALUE, VALUE).lpush(VALUE, VALUE)
        await refused_async(piped.execute)
        await client.aclose()

    asyncio.run(main())
    assert canaries_in(sent(made)) == []


def test_a_command_that_the_server_does_not_have_loses_its_name(made, redis_port):
    import redis

    client = redis.Redis(port=redis_port)
    refused(client.execute_command, VALUE, "x")
    client.config_get("maxmemory")
    (failed,) = [span for span in made.spans if span.name == "COMMAND"]
    assert failed.attributes["db.query.text"] == "COMMAND"
    assert REDIS_KEY_PATTERN not in failed.attributes or "x" in failed.attributes[REDIS_KEY_PATTERN]
    assert [span.name for span in made.spans if span.name.startswith("CONFIG")] == ["CONFIG GET"]


def test_pymongo(made):
    import pymongo
    from mongo_server import MongoServer

    server = MongoServer()
    client = pymongo.MongoClient(server.url)
    people = client.shop.people
    people.insert_one({"_id": VALUE, "email": VALUE})
    refused(people.insert_one, {"_id": VALUE})
    refused(people.insert_many, [{"_id": f"{VALUE}2"}, {"_id": VALUE, "email": VALUE}])
    people.find_one({"email": VALUE, "name": {"$in": [VALUE], "$regex": VALUE}})
    client.close()
    server.close()
    payload = sent(made)
    assert canaries_in(payload) == []
    assert b"people" in payload


def test_spans_of_a_provider_of_the_services_own(made):
    """An SDK renders errors by itself, so only their texts tell whose they are."""
    from opentelemetry.sdk.trace import TracerProvider

    from heatshield.tracing.span import Span

    tracer = TracerProvider().get_tracer("theirs")
    database = sqlite3.connect(":memory:")
    database.execute(CREATE)
    for statement in (f"SELECT '{VALUE}' '{VALUE}'  x y", f"SELECT json('{VALUE}')"):
        try:
            with tracer.start_as_current_span(
                f"token={VALUE}", attributes={"a": VALUE[:0]}
            ) as span:
                database.execute(statement)
        except sqlite3.Error:
            made.spans.append(Span.read(span))
    try:
        with tracer.start_as_current_span("outer") as span:
            raise sqlite3.DataError(f"odd '{VALUE}\n{VALUE}'")  # of a driver
    except sqlite3.Error:
        made.spans.append(Span.read(span))
    database.close()
    payload = sent(made)
    assert canaries_in(payload) == []
    assert b"sqlite3.OperationalError" in payload
    assert b"DataError: odd ?" in payload
