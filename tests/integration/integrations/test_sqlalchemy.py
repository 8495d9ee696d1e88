"""SQLAlchemy over real databases: one span a statement, whatever the driver; rows counted once."""

import asyncio
import importlib.util
import json
import os

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from sqlalchemy import orm

from heatshield.integrations.databases import sqlalchemy as integration
from heatshield.names import COST_ROWS, ENDUSER_ID

METADATA = sa.MetaData()
STICKERS = sa.Table(
    "stickers",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("owner", sa.String),
)


class Base(orm.DeclarativeBase):
    metadata = METADATA


class Sticker(Base):
    __table__ = STICKERS


SYNC = ["sqlite", "psycopg"]


@pytest.fixture
def traced(service):
    return service()


@pytest.fixture
def engine(request, traced, postgres, tmp_path):
    """An engine of the driver that the test is for, with a hundred stickers in its database."""
    urls = {"sqlite": f"sqlite:///{tmp_path}/shop.db", "psycopg": postgres.url_of("psycopg")}
    made = sa.create_engine(urls[request.param])
    fill(made, traced)
    yield made
    made.dispose()


def fill(engine, traced):
    METADATA.drop_all(engine)
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(STICKERS.insert(), [{"owner": "ann"} for _ in range(100)])
    traced.spans.clear()


@pytest.fixture
def greenlet():
    """SQLAlchemy's asyncio runs on it, and OpenTelemetry's instrumentation imports that."""
    if importlib.util.find_spec("greenlet") is None:
        missing = "greenlet is not installed (pip install sqlalchemy[asyncio])"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture
def in_async_shop(greenlet, traced, postgres):
    """Run a coroutine function with an asynchronous engine on a hundred stickers."""
    filling = sa.create_engine(postgres.url_of("psycopg"))
    fill(filling, traced)
    filling.dispose()

    def run(driver, main):
        from sqlalchemy.ext.asyncio import create_async_engine  # imports greenlet

        async def connected():
            engine = create_async_engine(postgres.url_of(driver))
            async with engine.connect() as connection:  # what a first connection asks
                await connection.execute(sa.text("SELECT 1"))
            traced.spans.clear()
            await main(engine)
            await engine.dispose()

        asyncio.run(connected())

    return run


def rows(spans):
    return [(span.name, span.attributes.get(COST_ROWS)) for span in spans]


@pytest.mark.parametrize("engine", ["psycopg"], indirect=True)
def test_a_statement_is_one_span_with_its_shape_and_no_value(traced, engine, postgres):
    with engine.connect() as connection:
        query = sa.select(STICKERS).where(STICKERS.c.owner.in_(["secret", "ann"]))
        assert len(connection.execute(query).all()) == 100
    (span,) = traced.spans
    assert span.name == "SELECT stickers"
    assert span.kind is trace.SpanKind.CLIENT
    assert span.instrumentation_scope.name == "heatshield.sqlalchemy"
    assert span.attributes == {
        "db.system.name": "postgresql",
        "db.namespace": "shop",
        "server.address": "127.0.0.1",
        "server.port": postgres.port,
        "db.query.text": (
            "SELECT stickers.id, stickers.owner FROM stickers WHERE stickers.owner IN (?::VARCHAR)"
        ),
        "db.query.summary": "SELECT stickers",
        "db.operation.name": "SELECT",
        "db.collection.name": "stickers",
        COST_ROWS: 100,
    }


@pytest.mark.parametrize("engine", SYNC, indirect=True)
def test_rows_read_are_counted_once_however_they_are_read(traced, engine):
    with engine.connect() as connection:
        assert len(connection.execute(sa.select(STICKERS)).all()) == 100
        assert len(list(connection.execute(sa.select(STICKERS).limit(30)))) == 30
        assert connection.scalar(sa.select(sa.func.count()).select_from(STICKERS)) == 100
        pages = connection.execute(sa.select(STICKERS).limit(25)).partitions(10)
        assert [len(page) for page in pages] == [10, 10, 5]
        assert connection.execute(sa.select(STICKERS).limit(1)).one()
        assert connection.execute(sa.text("SELECT 1 FROM stickers LIMIT 2")).fetchmany(5)
    assert rows(traced.spans) == [
        ("SELECT stickers", 100), ("SELECT stickers", 30), ("SELECT stickers", 1),
        ("SELECT stickers", 25), ("SELECT stickers", 1), ("SELECT stickers", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("engine", SYNC, indirect=True)
def test_rows_written_are_counted(traced, engine):
    with engine.begin() as connection:
        connection.execute(STICKERS.update().where(STICKERS.c.id <= 40).values(owner="bob"))
        delete = STICKERS.delete().where(STICKERS.c.id == sa.bindparam("x"))
        connection.execute(delete, [{"x": i} for i in range(1, 11)])
        made = STICKERS.insert().returning(STICKERS.c.id)
        assert len(connection.execute(made, [{"owner": "x"}, {"owner": "y"}]).all()) == 2
        connection.execute(sa.text("CREATE INDEX by_owner ON stickers (owner)"))
    assert rows(traced.spans) == [
        ("UPDATE stickers", 40), ("DELETE stickers", 10), ("INSERT stickers", 2),
        ("CREATE INDEX stickers", None),
    ]  # fmt: skip
    assert traced.spans[1].attributes["db.operation.batch.size"] == 10


@pytest.mark.parametrize("engine", SYNC, indirect=True)
def test_the_orm_counts_what_it_loads_and_flushes(traced, engine):
    with orm.Session(engine) as session:
        assert len(session.scalars(sa.select(Sticker)).all()) == 100
        assert session.get(Sticker, 100).owner == "ann"
        assert session.scalars(sa.select(Sticker).limit(7)).first()
        session.add_all([Sticker(owner="x"), Sticker(owner="y"), Sticker(owner="z")])
        session.flush()
        session.get(Sticker, 3).owner = "bob"
        session.commit()
        assert len(list(session.scalars(sa.select(Sticker).limit(9)).yield_per(4))) == 9
    found = rows(traced.spans)
    assert found[:3] == [("SELECT stickers", 100), ("SELECT stickers", 1), ("SELECT stickers", 7)]
    assert sum(count or 0 for name, count in found if name == "INSERT stickers") == 3
    assert found[-2:] == [("UPDATE stickers", 1), ("SELECT stickers", 9)]


@pytest.mark.parametrize("engine", ["psycopg"], indirect=True)
def test_server_side_results_are_counted_as_they_are_fetched(traced, engine):
    with engine.connect() as connection:
        streaming = connection.execution_options(stream_results=True, max_row_buffer=30)
        assert len(list(streaming.execute(sa.select(STICKERS)))) == 100
        result = streaming.execute(sa.select(STICKERS.c.id))
        assert len(result.fetchmany(7)) == 7
        result.close()
    assert rows(traced.spans) == [("SELECT stickers", 100), ("SELECT stickers", 7)]


@pytest.mark.parametrize("engine", ["psycopg"], indirect=True)
def test_what_goes_past_sqlalchemy_is_the_drivers(traced, engine):
    connection = engine.raw_connection()
    connection.cursor().execute("SELECT id FROM stickers").fetchall()
    connection.close()
    (span,) = traced.spans
    assert span.instrumentation_scope.name == "heatshield.psycopg"
    assert rows([span]) == [("SELECT stickers", 100)]


@pytest.mark.parametrize("engine", SYNC, indirect=True)
def test_a_violation_is_one_error_without_the_value(traced, engine):
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(STICKERS.insert(), {"id": 7, "owner": "secret"})
    with engine.connect() as connection:  # drivers are not left out for good
        connection.execute(sa.text("SELECT id FROM stickers")).all()
        connection.connection.cursor().execute("SELECT 1").fetchall()
    failed, fine, _drivers = traced.spans
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert "unique constraint" in failed.status.description.lower()
    told = json.dumps([failed.status.description, failed.attributes, failed.events[0].attributes])
    assert "secret" not in told
    assert failed.attributes["db.response.status_code"] in {"23505", "SQLITE_CONSTRAINT_PRIMARYKEY"}
    assert rows([fine]) == [("SELECT stickers", 100)]


@pytest.mark.parametrize("engine", ["psycopg"], indirect=True)
def test_a_killed_connection_is_an_error_and_the_pool_goes_on(traced, engine):
    with engine.connect() as victim:
        pid = victim.scalar(sa.text("SELECT pg_backend_pid()"))
        with engine.connect() as other:
            other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(sa.exc.OperationalError):
            victim.execute(sa.select(STICKERS))
    with engine.connect() as connection:
        assert len(connection.execute(sa.select(STICKERS)).all()) == 100
    killed = next(s for s in traced.spans if s.status.status_code is trace.StatusCode.ERROR)
    assert killed.name == "SELECT stickers"
    assert rows([traced.spans[-1]]) == [("SELECT stickers", 100)]


def test_a_failed_connection_breaks_nothing(traced):
    engine = sa.create_engine("postgresql+psycopg://shop@127.0.0.1:9/shop")
    with pytest.raises(sa.exc.OperationalError):
        engine.connect()
    assert integration._STATEMENTS  # the handler of errors had no statement to end


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_asyncio_engines_make_one_span_a_statement(traced, in_async_shop, driver):
    async def main(engine):
        from sqlalchemy.ext.asyncio import AsyncSession

        async with AsyncSession(engine) as session:
            assert len((await session.scalars(sa.select(Sticker))).all()) == 100
            session.add_all([Sticker(owner="x"), Sticker(owner="y")])
            await session.commit()
        async with engine.connect() as connection:
            result = await connection.stream(sa.select(STICKERS))
            assert len([row async for row in result]) == 102
        with pytest.raises(sa.exc.IntegrityError):
            async with engine.begin() as connection:
                await connection.execute(STICKERS.insert(), {"id": 7, "owner": "secret"})

    in_async_shop(driver, main)
    spans = [span for span in traced.spans if span.name not in {"BEGIN", "COMMIT", "ROLLBACK"}]
    assert rows(spans) == [
        ("SELECT stickers", 100), ("INSERT stickers", 2), ("SELECT stickers", 102),
        ("INSERT stickers", None),
    ]  # fmt: skip
    assert {span.instrumentation_scope.name for span in spans} == {"heatshield.sqlalchemy"}
    assert spans[-1].status.status_code is trace.StatusCode.ERROR
    assert "secret" not in spans[-1].status.description


def test_tasks_side_by_side_keep_their_requests_apart(traced, in_async_shop):
    async def handler(engine, user):
        import heatshield

        with trace.get_tracer("test").start_as_current_span(user):
            heatshield.user(user)
            async with engine.connect() as connection:
                await connection.execute(sa.text("SELECT pg_sleep(0.02), 1 FROM stickers LIMIT 1"))

    async def main(engine):
        await asyncio.gather(*(handler(engine, f"u-{i}") for i in range(4)))

    in_async_shop("asyncpg", main)
    handlers = {traced.span(f"u-{i}").span_id: f"u-{i}" for i in range(4)}
    selects = [span for span in traced.spans if span.name == "SELECT stickers"]
    assert len(selects) == 4
    assert all(span.attributes[ENDUSER_ID] == handlers[span.parent_id] for span in selects)


def test_engines_that_were_there_before_are_traced_and_left_again(service, tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/early.db")

    def ask():
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1 FROM sqlite_master")).all()

    ask()
    made = service(disabled=("sqlite3",))
    ask()
    integration.remove()
    ask()
    engine.dispose()
    assert [span.name for span in made.spans] == ["SELECT sqlite_master"]


def test_opentelemetrys_own_instrumentation_is_not_doubled_by_the_driver(
    greenlet, traced, tmp_path
):
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    SQLAlchemyInstrumentor().instrument(skip_dep_check=True)
    try:
        engine = sa.create_engine(f"sqlite:///{tmp_path}/theirs.db")
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1 FROM sqlite_master")).all()
    finally:
        SQLAlchemyInstrumentor().uninstrument()
    engine.dispose()
    made = [span for span in traced.spans if span.name.startswith("SELECT")]
    assert [span.instrumentation_scope.name for span in made] == [
        "opentelemetry.instrumentation.sqlalchemy"
    ]
