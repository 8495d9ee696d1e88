"""asyncpg against a real PostgreSQL: one span a statement, its rows, its shape, no values."""

import asyncio
import gc
import io
import json

import asyncpg
import pytest
from opentelemetry import trace

from heatshield.integrations.databases import asyncpg as integration
from heatshield.names import COST_ROWS, ENDUSER_ID

CREATE = "CREATE TABLE stickers (id int PRIMARY KEY, owner text, price int)"
FILL = "INSERT INTO stickers SELECT i, 'ann', i FROM generate_series(1, 100) i"


@pytest.fixture
def traced(service):
    return service()


@pytest.fixture
def in_shop(traced, postgres):
    """Run a coroutine function with a connection to a database with a hundred stickers."""

    async def connected(main):
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("DROP TABLE IF EXISTS stickers")
        await connection.execute(CREATE)
        await connection.execute(FILL)
        traced.spans.clear()
        try:
            await main(connection)
        finally:
            await connection.close()

    return lambda main: asyncio.run(connected(main))


def rows(spans):
    return [(span.name, span.attributes.get(COST_ROWS)) for span in spans]


def test_a_statement_is_a_span_with_its_shape_and_no_value(traced, in_shop, postgres):
    async def main(shop):
        query = "SELECT * FROM stickers WHERE owner = $1 AND price < 7.25"
        await shop.fetch(query, "secret")

    in_shop(main)
    (span,) = traced.spans
    assert span.name == "SELECT stickers"
    assert span.kind is trace.SpanKind.CLIENT
    assert span.attributes == {
        "db.system.name": "postgresql",
        "db.namespace": "shop",
        "server.address": "127.0.0.1",
        "server.port": postgres.port,
        "db.query.text": "SELECT * FROM stickers WHERE owner = ? AND price < ?",
        "db.query.summary": "SELECT stickers",
        "db.operation.name": "SELECT",
        "db.collection.name": "stickers",
    }


def test_rows_read_and_written_are_counted(traced, in_shop):
    async def main(shop):
        assert len(await shop.fetch("SELECT * FROM stickers")) == 100
        assert (await shop.fetchrow("SELECT * FROM stickers"))["id"] == 1
        assert await shop.fetchval("SELECT id FROM stickers WHERE id = 7") == 7
        assert await shop.fetchrow("SELECT id FROM stickers WHERE id = -7") is None
        assert await shop.execute("UPDATE stickers SET price = 1 WHERE id <= 40") == "UPDATE 40"
        await shop.executemany("DELETE FROM stickers WHERE id = $1", [(i,) for i in range(1, 11)])
        returning = "INSERT INTO stickers VALUES ($1) RETURNING id"
        assert len(await shop.fetchmany(returning, [(1,), (2,)])) == 2
        await shop.execute("CREATE INDEX ON stickers (owner)")

    in_shop(main)
    assert rows(traced.spans) == [
        ("SELECT stickers", 100), ("SELECT stickers", 1), ("SELECT stickers", 1),
        ("SELECT stickers", None), ("UPDATE stickers", 40), ("DELETE stickers", 10),
        ("INSERT stickers", 2), ("CREATE INDEX stickers", None),
    ]  # fmt: skip
    assert traced.spans[5].attributes["db.operation.batch.size"] == 10


def test_prepared_statements_count_alike(traced, in_shop):
    async def main(shop):
        prepared = await shop.prepare("SELECT id FROM stickers WHERE id <= $1")
        assert traced.spans == []  # nothing was executed
        assert len(await prepared.fetch(30)) == 30
        assert await prepared.fetchval(30) == 1
        assert (await prepared.fetchrow(30))["id"] == 1
        await (await shop.prepare("DELETE FROM stickers WHERE id = $1")).executemany([(1,), (2,)])

    in_shop(main)
    assert rows(traced.spans) == [
        ("SELECT stickers", 30), ("SELECT stickers", 1), ("SELECT stickers", 1),
        ("DELETE stickers", 2),
    ]  # fmt: skip


def test_a_cursor_is_one_span_however_many_pages_it_fetches(traced, in_shop):
    async def main(shop):
        async with shop.transaction():
            query = "SELECT id FROM stickers"
            assert len([row async for row in shop.cursor(query, prefetch=30)]) == 100
            cursor = await shop.cursor(query)
            assert isinstance(cursor, asyncpg.cursor.Cursor)
            assert repr(cursor).startswith("<asyncpg.Cursor ")
            assert len(await cursor.fetch(10)) == 10
            assert await cursor.fetchrow()
            assert rows(traced.spans) == [("BEGIN", None), ("SELECT stickers", 100)]
            del cursor
            gc.collect()

    in_shop(main)
    assert rows(traced.spans) == [
        ("BEGIN", None), ("SELECT stickers", 100), ("SELECT stickers", 11), ("COMMIT", None)
    ]  # fmt: skip


def test_copies_count_their_rows(traced, in_shop):
    async def main(shop):
        await shop.copy_records_to_table(
            "stickers",
            records=[(i, "secret") for i in range(1_000, 1_050)],
            columns=["id", "owner"],
        )
        await shop.copy_to_table("stickers", source=io.BytesIO(b"2000\tx\t1\n"))
        await shop.copy_from_query("SELECT id FROM stickers", output=io.BytesIO())

    in_shop(main)
    assert rows(traced.spans) == [
        ("COPY stickers", 50), ("COPY stickers", 1), ("COPY stickers", 151)
    ]  # fmt: skip
    assert "secret" not in str([span.attributes for span in traced.spans])


def test_a_pools_connections_are_traced_and_its_cleaning_up_is_not(traced, in_shop, postgres):
    async def handler(pool, user):
        import heatshield

        with trace.get_tracer("test").start_as_current_span(user):
            heatshield.user(user)
            async with pool.acquire() as shop:
                await shop.fetch("SELECT id FROM stickers LIMIT 3")
                await shop.execute("SELECT pg_sleep(0.01)")

    async def main(_shop):
        async with asyncpg.create_pool(postgres.url, min_size=1, max_size=3) as pool:
            await asyncio.gather(*(handler(pool, f"u-{i}") for i in range(6)))

    in_shop(main)
    handlers = {traced.span(f"u-{i}").span_id: f"u-{i}" for i in range(6)}
    selects = [span for span in traced.spans if span.span_id not in handlers]
    assert sorted({span.name for span in selects}) == ["SELECT", "SELECT stickers"]
    assert len(selects) == 12
    assert all(span.attributes[ENDUSER_ID] == handlers[span.parent_id] for span in selects)


def test_errors_say_what_failed_without_the_value(traced, in_shop):
    async def main(shop):
        with pytest.raises(asyncpg.UniqueViolationError) as raised:
            await shop.execute("INSERT INTO stickers VALUES (7, 'secret')")
        assert "(id)=(7)" in str(raised.value)  # the service is told as ever
        with pytest.raises(asyncpg.DataError):
            await shop.fetch("SELECT id FROM stickers WHERE id = $1", {"secret": 1})
        with pytest.raises(asyncio.TimeoutError):
            await shop.execute("SELECT pg_sleep(20)", timeout=0.1)

    in_shop(main)
    violation, odd, late = traced.spans
    assert violation.status.status_code is trace.StatusCode.ERROR
    assert violation.status.description == (
        'UniqueViolationError: duplicate key value violates unique constraint "stickers_pkey"'
    )
    assert violation.attributes["db.response.status_code"] == "23505"
    told = json.dumps([odd.status.description, odd.attributes, odd.events[0].attributes])
    assert "secret" not in told
    assert "invalid input for query argument $1: ?" in told
    assert late.status.status_code is trace.StatusCode.ERROR


def test_a_killed_connection_and_a_cancelled_task_leave_their_spans(traced, in_shop, postgres):
    async def main(shop):
        lost = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
        victim = await asyncpg.connect(postgres.url)
        await shop.execute(f"SELECT pg_terminate_backend({victim.get_server_pid()})")
        with pytest.raises(lost):
            await victim.fetch("SELECT * FROM stickers")
        task = asyncio.create_task(shop.fetch("SELECT pg_sleep(20)"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_shop(main)
    _, killed, cancelled = traced.spans
    assert killed.status.status_code is trace.StatusCode.ERROR
    assert cancelled.status.status_code is trace.StatusCode.UNSET  # nothing went wrong there


def test_removing_puts_the_library_back(service, postgres):
    def patched():
        found = asyncpg.Connection.fetch, asyncpg.cursor.Cursor, asyncpg.cursor.CursorIterator
        return (*found, asyncpg.prepared_stmt.PreparedStatement.fetch)

    before = patched()
    made = service()
    assert not set(before) & set(patched())
    integration.remove()
    assert before == patched()

    async def main():
        connection = await asyncpg.connect(postgres.url)
        await connection.fetch("SELECT 1")
        await connection.close()

    asyncio.run(main())
    assert made.spans == []


def test_opentelemetrys_own_instrumentation_is_not_doubled(traced, in_shop):
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

    async def main(shop):
        AsyncPGInstrumentor().instrument(skip_dep_check=True)
        try:
            await shop.fetch("SELECT 1")
        finally:
            AsyncPGInstrumentor().uninstrument()

    in_shop(main)
    assert [span.name for span in traced.spans] == ["SELECT"]
