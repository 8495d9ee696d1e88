"""psycopg 3 against a real PostgreSQL: one span a statement, its rows, its shape, no values."""

import asyncio
import gc
import json
import threading

import psycopg
import pytest
from opentelemetry import trace
from psycopg import sql

from heatshield.integrations.databases import psycopg as integration
from heatshield.names import COST_ROWS, ENDUSER_ID


@pytest.fixture
def traced(service):
    return service()


@pytest.fixture
def shop(postgres, traced):
    """A connection to a database with a hundred stickers."""
    connection = psycopg.connect(postgres.url, autocommit=True)
    connection.execute("DROP TABLE IF EXISTS stickers")
    connection.execute("CREATE TABLE stickers (id int PRIMARY KEY, owner text, price int)")
    connection.execute("INSERT INTO stickers SELECT i, 'ann', i FROM generate_series(1, 100) i")
    traced.spans.clear()
    yield connection
    connection.close()


@pytest.fixture
def in_async_shop(shop, postgres):
    """Run a coroutine function with an asynchronous connection to the same database."""

    def run(main):
        async def connected():
            async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as own:
                await main(own)

        asyncio.run(connected())

    return run


def rows(spans):
    return [(span.name, span.attributes.get(COST_ROWS)) for span in spans]


def test_a_statement_is_a_span_with_its_shape_and_no_value(traced, shop, postgres):
    shop.execute("SELECT * FROM stickers WHERE owner = %s AND price < 7.25", ("secret",)).fetchall()
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


def test_rows_read_are_the_rows_that_came_fetched_or_not(traced, shop):
    shop.execute("SELECT * FROM stickers")
    assert shop.execute("SELECT id FROM stickers").fetchone() == (1,)
    assert len(list(shop.execute("SELECT id FROM stickers LIMIT 30"))) == 30
    shop.execute("SELECT 1 FROM stickers LIMIT 2; SELECT 2 FROM stickers LIMIT 3")
    assert rows(traced.spans) == [
        ("SELECT stickers", 100), ("SELECT stickers", 100), ("SELECT stickers", 30),
        ("SELECT stickers", 5),
    ]  # fmt: skip


def test_rows_written_are_counted(traced, shop):
    shop.execute("UPDATE stickers SET price = price + 1 WHERE id <= 40")
    cursor = shop.cursor()
    cursor.executemany("DELETE FROM stickers WHERE id = %s", [(i,) for i in range(1, 11)])
    returning = "INSERT INTO stickers VALUES (%s, 'x') RETURNING id"
    cursor.executemany(returning, [(1,), (2,)], returning=True)
    assert [c.fetchone() for c in cursor.results()] == [(1,), (2,)]
    shop.execute("CREATE INDEX ON stickers (owner)")
    assert rows(traced.spans) == [
        ("UPDATE stickers", 40), ("DELETE stickers", 10), ("INSERT stickers", 2),
        ("CREATE INDEX stickers", None),
    ]  # fmt: skip
    assert traced.spans[1].attributes["db.operation.batch.size"] == 10


def test_a_server_side_cursor_is_one_span_with_all_it_fetched(traced, shop):
    with shop.transaction(), shop.cursor(name="page") as cursor:
        cursor.itersize = 20
        cursor.execute("SELECT * FROM stickers WHERE price > %s", (0,))
        assert cursor.fetchone()
        assert len(cursor.fetchmany(9)) == 9
        assert len(list(cursor)) == 90
    with shop.transaction(), shop.cursor(name="left") as cursor:
        cursor.execute("SELECT id FROM stickers")
        cursor.fetchmany(7)
        assert len(traced.spans) == 1  # more may be read
    assert rows(traced.spans) == [("SELECT stickers", 100), ("SELECT stickers", 7)]
    assert not integration._READING


def test_a_stream_is_one_span(traced, shop):
    cursor = shop.cursor()
    waits = threading.Event()
    for i, _ in enumerate(cursor.stream("SELECT id FROM stickers")):
        if i == 5:
            waits.wait(0.15)
    for _ in cursor.stream("SELECT owner FROM stickers"):
        break
    gc.collect()
    assert rows(traced.spans) == [("SELECT stickers", 100), ("SELECT stickers", 1)]
    assert traced.spans[0].end_time - traced.spans[0].start_time < 150e6


def test_copies_count_their_rows(traced, shop):
    with shop.cursor().copy("COPY stickers (id, owner) FROM STDIN") as copy:
        for i in range(1_000, 1_050):
            copy.write_row((i, "secret"))
    with shop.cursor().copy("COPY (SELECT id FROM stickers) TO STDOUT") as copy:
        assert len(list(copy.rows())) == 150
    assert rows(traced.spans) == [("COPY stickers", 50), ("COPY stickers", 150)]


def test_a_pipelines_rows_are_counted_when_they_come(traced, shop):
    with shop.pipeline():
        first = shop.execute("SELECT id FROM stickers LIMIT 3")
        second = shop.cursor()
        second.executemany("DELETE FROM stickers WHERE id = %s", [(50,), (51,), (52,)])
        assert len(first.fetchall()) == 3
    second.close()
    del second
    shop.execute("SELECT 1")
    assert sorted(rows(traced.spans)[:2]) == [("DELETE stickers", 3), ("SELECT stickers", 3)]


def test_composed_queries_bytes_and_own_cursors_are_traced(traced, shop):
    class Own(psycopg.ClientCursor):
        def execute(self, query, params=None, **more):
            return super().execute(query.replace("STICKERS", "stickers"), params, **more)

    query = sql.SQL("SELECT {} FROM {} WHERE owner = {}").format(
        sql.Identifier("id"), sql.Identifier("stickers"), sql.Literal("secret")
    )
    shop.execute(query).fetchall()
    shop.execute(b"SELECT id FROM stickers WHERE owner = 'secret'")
    shop.cursor_factory = Own
    cursor = shop.execute("SELECT id FROM STICKERS WHERE owner = %s", ("secret",))
    assert type(cursor) is Own
    psycopg.RawCursor(shop).execute("SELECT id FROM stickers WHERE id = $1", (1,))
    assert [span.name for span in traced.spans] == ["SELECT stickers"] * 4
    assert "secret" not in str([span.attributes for span in traced.spans])


def test_a_violation_is_an_error_without_the_value(traced, shop):
    with pytest.raises(psycopg.errors.UniqueViolation) as raised:
        shop.execute("INSERT INTO stickers VALUES (7, 'secret')")
    assert "(id)=(7)" in str(raised.value)  # the service is told as ever
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        shop.execute("SELECT 'secret'::int")
    violation, odd = traced.spans
    assert violation.status.status_code is trace.StatusCode.ERROR
    assert violation.status.description == (
        'UniqueViolation: duplicate key value violates unique constraint "stickers_pkey"'
    )
    assert violation.attributes["db.response.status_code"] == "23505"
    assert violation.attributes["error.type"] == "psycopg.errors.UniqueViolation"
    told = json.dumps([odd.status.description, odd.attributes, odd.events[0].attributes])
    assert "secret" not in told
    assert "invalid input syntax for type integer: ?" in told


def test_a_killed_connection_is_an_error_and_the_next_one_is_traced(traced, shop, postgres):
    victim = psycopg.connect(postgres.url)
    shop.execute("SELECT pg_terminate_backend(%s)", (victim.info.backend_pid,))
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT * FROM stickers")
    with psycopg.connect(postgres.url) as fresh:
        fresh.execute("SELECT * FROM stickers")
    killed, fine = traced.spans[1], traced.spans[-1]
    assert killed.status.status_code is trace.StatusCode.ERROR
    assert killed.attributes["error.type"] == "psycopg.errors.AdminShutdown"
    assert rows([fine]) == [("SELECT stickers", 100)]
    assert fine.status.status_code is trace.StatusCode.UNSET


def test_a_transaction_that_is_rolled_back_shows_its_statements(traced, shop):
    with shop.transaction():
        shop.execute("DELETE FROM stickers")
        raise psycopg.Rollback
    assert shop.execute("SELECT count(*) FROM stickers").fetchone() == (100,)
    assert rows(traced.spans) == [("DELETE stickers", 100), ("SELECT stickers", 1)]
    assert traced.spans[0].status.status_code is trace.StatusCode.UNSET


def test_the_async_driver_counts_alike(traced, in_async_shop):
    async def main(shop):
        await (await shop.execute("SELECT * FROM stickers")).fetchall()
        cursor = shop.cursor()
        await cursor.executemany("DELETE FROM stickers WHERE id = %s", [(1,), (2,)])
        async with shop.transaction(), shop.cursor(name="page") as page:
            await page.execute("SELECT id FROM stickers")
            assert len([row async for row in page]) == 98
        assert len([row async for row in cursor.stream("SELECT id FROM stickers")]) == 98
        async with cursor.copy("COPY stickers (id) FROM STDIN") as copy:
            await copy.write_row((1_000,))
        with pytest.raises(psycopg.errors.UniqueViolation):
            await shop.execute("INSERT INTO stickers VALUES (7)")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(shop.execute("SELECT pg_sleep(20)"), 0.1)

    in_async_shop(main)
    assert rows(traced.spans) == [
        ("SELECT stickers", 100), ("DELETE stickers", 2), ("SELECT stickers", 98),
        ("SELECT stickers", 98), ("COPY stickers", 1), ("INSERT stickers", None), ("SELECT", None),
    ]  # fmt: skip
    assert traced.spans[5].status.status_code is trace.StatusCode.ERROR


def test_statements_of_tasks_side_by_side_belong_to_their_requests(traced, in_async_shop, postgres):
    async def handler(user):
        import heatshield

        with trace.get_tracer("test").start_as_current_span(user):
            heatshield.user(user)
            async with await psycopg.AsyncConnection.connect(postgres.url) as own:
                await own.execute("SELECT pg_sleep(0.02)")

    async def main(_shop):
        await asyncio.gather(*(handler(f"u-{i}") for i in range(5)))

    in_async_shop(main)
    handlers = {traced.span(f"u-{i}").span_id: f"u-{i}" for i in range(5)}
    selects = [span for span in traced.spans if span.name == "SELECT"]
    assert len(selects) == 5
    assert all(span.attributes[ENDUSER_ID] == handlers[span.parent_id] for span in selects)


def test_removing_puts_the_library_back(service, postgres):
    before = psycopg.Cursor.execute, psycopg.ServerCursor.execute, psycopg.Cursor.stream
    made = service()
    assert psycopg.Cursor.execute is not before[0]
    integration.remove()
    assert before == (
        psycopg.Cursor.execute, psycopg.ServerCursor.execute, psycopg.Cursor.stream
    )  # fmt: skip
    with psycopg.connect(postgres.url) as connection:
        connection.execute("SELECT 1")
    assert made.spans == []


def test_opentelemetrys_own_instrumentation_is_not_doubled(traced, postgres):
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

    PsycopgInstrumentor().instrument(skip_dep_check=True)
    try:
        with psycopg.connect(postgres.url) as connection:
            connection.execute("SELECT 1")
    finally:
        PsycopgInstrumentor().uninstrument()
    assert len([span for span in traced.spans if span.name.startswith("SELECT")]) == 1
