"""sqlite3: what a service gets stays what it was, and each statement is a span with its rows."""

import asyncio
import gc
import sqlite3
import sys
import threading
from collections import deque
from operator import methodcaller

import pytest
from opentelemetry import trace

from heatshield.integrations.databases import sql_statements
from heatshield.names import COST_ROWS, ENDUSER_ID


@pytest.fixture
def traced(service):
    return service()


@pytest.fixture
def shop(traced):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE stickers (id INTEGER PRIMARY KEY, owner TEXT, price REAL)")
    connection.executemany(
        "INSERT INTO stickers (owner, price) VALUES (?, ?)", [("ann", i) for i in range(100)]
    )
    connection.commit()
    traced.spans.clear()
    yield connection
    connection.close()


def rows(spans):
    return [(span.name, span.attributes.get(COST_ROWS)) for span in spans]


def test_a_statement_is_a_span_with_its_shape_and_no_value(traced, shop):
    shop.execute("SELECT * FROM stickers WHERE owner = 'secret' AND price < ?", (7.25,)).fetchall()
    (span,) = traced.spans
    assert span.name == "SELECT stickers"
    assert span.kind is trace.SpanKind.CLIENT
    assert span.attributes == {
        "db.system.name": "sqlite",
        "db.query.text": "SELECT * FROM stickers WHERE owner = ? AND price < ?",
        "db.query.summary": "SELECT stickers",
        "db.operation.name": "SELECT",
        "db.collection.name": "stickers",
    }


def test_rows_read_are_counted_however_they_are_read(traced, shop):
    shop.execute("SELECT * FROM stickers").fetchall()
    assert len(list(shop.execute("SELECT id FROM stickers LIMIT 30"))) == 30
    shop.execute("SELECT count(*) FROM stickers").fetchone()
    cursor = shop.execute("SELECT id FROM stickers LIMIT 25")
    while cursor.fetchmany(10):
        pass
    assert rows(traced.spans) == [
        ("SELECT stickers", 100), ("SELECT stickers", 30), ("SELECT stickers", 1),
        ("SELECT stickers", 25),
    ]  # fmt: skip


def test_rows_written_are_counted(traced, shop):
    shop.execute("UPDATE stickers SET price = price + 1 WHERE id <= 40")
    shop.executemany("DELETE FROM stickers WHERE id = ?", [(i,) for i in range(1, 11)])
    shop.execute("INSERT INTO stickers (owner) VALUES ('x'), ('y') RETURNING id").fetchall()
    shop.execute("CREATE INDEX by_owner ON stickers (owner)")
    assert rows(traced.spans) == [
        ("UPDATE stickers", 40), ("DELETE stickers", 10), ("INSERT stickers", 2),
        ("CREATE INDEX stickers", None),
    ]  # fmt: skip
    assert traced.spans[1].attributes["db.operation.batch.size"] == 10


def test_a_cursor_that_is_closed_used_anew_or_gone_ends_its_statement(traced, shop):
    cursor = shop.cursor()
    cursor.execute("SELECT id FROM stickers")
    assert next(cursor)
    assert traced.spans == []  # more may be read
    cursor.execute("SELECT owner FROM stickers")
    assert rows(traced.spans) == [("SELECT stickers", 1)]
    cursor.close()
    assert rows(traced.spans[1:]) == [("SELECT stickers", None)]
    for _ in shop.execute("SELECT price FROM stickers"):
        break
    gc.collect()
    assert len(traced.spans) == 2  # ending it here could wait for a lock that is held already
    shop.execute("DELETE FROM stickers")
    assert rows(traced.spans[2:]) == [("SELECT stickers", 1), ("DELETE stickers", 100)]
    assert not sql_statements._ABANDONED


def test_rows_after_the_first_that_was_asked_for_alone_are_the_enclosing_spans(traced, shop):
    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span("around"):
        cursor = shop.execute("SELECT id FROM stickers")
        cursor.fetchone()
        assert rows(traced.spans) == [("SELECT stickers", 1)]
        cursor.fetchone()
        cursor.fetchall()
    assert rows(traced.spans[1:]) == [("around", 99)]


def test_rows_of_a_cursor_that_is_gone_are_those_of_the_span_that_read_them(traced, shop):
    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span("around"):
        cursor = shop.execute("SELECT id FROM stickers")
        for _ in range(10):
            cursor.fetchone()
        del cursor
        shop.execute("SELECT 1").fetchall()
    assert ("around", 9) in rows(traced.spans)


@pytest.mark.parametrize("kept", [True, False])
def test_rows_are_those_of_the_span_that_read_them_though_it_ends_before_the_cursor_does(
    traced, shop, kept
):
    tracer = trace.get_tracer("test")
    cursor = shop.execute("SELECT id FROM stickers")
    cursor.fetchone()
    for name, count in (("first", 10), ("second", 70)):
        with tracer.start_as_current_span(name):
            for _ in range(count):
                cursor.fetchone()
            if not kept and name == "second":
                del cursor
    assert rows(traced.spans[1:]) == [("first", 10), ("second", 70)]


def python_calls(work):
    """How many functions written in Python ``work`` calls, itself left out."""
    calls = -1

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def one_by_one(cursor):
    while cursor.fetchone() is not None:
        pass


@pytest.mark.parametrize(
    ("read", "most"),
    [(deque, 1.0), (list, 1.0), (one_by_one, 2.3), (methodcaller("fetchall"), 0.0)],
)
def test_a_row_costs_few_calls_of_python(traced, read, most):
    """What a row takes longer than without heatshield are these calls: a half more for one."""
    connection = sqlite3.connect(":memory:")
    cursor = connection.execute("SELECT value FROM json_each(?)", (str([*range(1_000)]),))
    assert python_calls(lambda: read(cursor)) <= 1_000 * most + 60
    assert cursor.fetchone() is None


def test_rows_are_not_charged_to_who_uses_the_cursor_next(traced, shop):
    tracer = trace.get_tracer("test")
    cursor = shop.cursor()
    with tracer.start_as_current_span("first"):
        cursor.execute("SELECT id FROM stickers")
        for _ in range(10):
            cursor.fetchone()
        with tracer.start_as_current_span("second"):
            cursor.execute("SELECT 1")
    assert ("first", 9) in rows(traced.spans)
    assert dict(rows(traced.spans))["second"] is None


def test_the_time_between_rows_is_not_the_statements(traced, shop):
    waits = threading.Event()
    cursor = shop.execute("SELECT id FROM stickers")
    cursor.fetchmany(10)
    waits.wait(0.15)
    cursor.fetchmany(10)
    waits.wait(0.15)
    cursor.fetchall()
    left = shop.execute("SELECT id FROM stickers")
    left.fetchmany(10)
    waits.wait(0.15)
    left.close()
    assert all(span.end_time - span.start_time < 150e6 for span in traced.spans)
    assert rows(traced.spans) == [("SELECT stickers", 100), ("SELECT stickers", 10)]


def test_connections_and_cursors_are_what_they_were(traced, shop, tmp_path):
    assert isinstance(shop, sqlite3.Connection)
    assert repr(shop).startswith("<sqlite3.Connection object at ")
    cursor = shop.cursor()
    assert isinstance(cursor, sqlite3.Cursor)
    assert iter(cursor) is cursor
    assert cursor.execute("SELECT 1") is cursor
    cursor.close()
    assert shop.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(AttributeError):
        cursor.anything = 1  # as ever
    copy = sqlite3.connect(tmp_path / "copy.db")
    shop.backup(copy)
    assert copy.execute("SELECT count(*) FROM stickers").fetchone() == (100,)
    copy.close()
    shop.row_factory = sqlite3.Row
    row = shop.execute("SELECT owner AS who FROM stickers").fetchone()
    assert isinstance(row, sqlite3.Row)
    assert row["who"] == "ann"
    assert len(list(shop.iterdump())) > 100
    with shop:
        shop.execute("DELETE FROM stickers")


class OwnCursor(sqlite3.Cursor):
    def __init__(self, *args):
        sqlite3.Cursor.__init__(self, *args)  # past whatever stands between

    def execute(self, sql, parameters=()):
        return super().execute(sql.replace("STICKERS", "stickers"), parameters)


class OwnConnection(sqlite3.Connection):
    def cursor(self):
        return super().cursor(OwnCursor)


@pytest.mark.parametrize(
    "connect",
    [
        lambda: sqlite3.connect(":memory:", factory=OwnConnection),
        lambda: sqlite3.connect(":memory:", 5.0, 0, None, True, OwnConnection),
        lambda: sqlite3.dbapi2.connect(":memory:", factory=OwnConnection),
    ],
)
def test_a_services_own_classes_are_kept_and_traced(traced, connect):
    connection = connect()
    assert isinstance(connection, OwnConnection)
    connection.execute("CREATE TABLE stickers (id)")
    cursor = connection.cursor()
    assert isinstance(cursor, OwnCursor)
    cursor.execute("SELECT * FROM STICKERS")
    assert cursor.fetchall() == []
    assert [span.name for span in traced.spans] == ["CREATE TABLE stickers", "SELECT stickers"]
    connection.close()


def test_factories_that_can_not_be_extended_are_left_alone(traced):
    class Laid(sqlite3.Cursor):
        __slots__ = ("own",)

    def make(*args, **kwargs):
        return sqlite3.Connection(*args, **kwargs)

    connection = sqlite3.connect(":memory:", factory=make)
    assert type(connection) is sqlite3.Connection
    connection.close()
    connection = sqlite3.connect(":memory:")
    assert isinstance(connection.cursor(Laid), Laid)
    with pytest.raises(TypeError):
        connection.cursor(factory=7)
    connection.close()


def refusing(base):
    """Classes that refuse to be extended, each in its way."""

    class Final(base):
        def __init_subclass__(cls):
            raise RuntimeError("this class is final")

    class Meta(type):
        def __new__(cls, name, bases, names, **more):
            if len(bases) > 1:
                raise ValueError(name)
            return super().__new__(cls, name, bases, names, **more)

    class Alone(base, metaclass=Meta):
        pass

    class Unhashable(type):
        def __eq__(cls, other):
            return cls is other

        __hash__ = None

    class Odd(base, metaclass=Unhashable):
        pass

    return Final, Alone, Odd


def test_factories_that_refuse_to_be_extended_are_left_alone(traced):
    for factory in refusing(sqlite3.Connection):
        connection = sqlite3.connect(":memory:", factory=factory)
        assert type(connection) is factory
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
        connection.close()
    connection = sqlite3.connect(":memory:")
    for factory in refusing(sqlite3.Cursor):
        assert type(connection.cursor(factory)) is factory
    connection.close()


def test_an_error_says_what_failed_and_not_with_which_value(traced, shop):
    shop.execute("CREATE UNIQUE INDEX one ON stickers (owner, price)")
    with pytest.raises(sqlite3.IntegrityError):
        shop.execute("INSERT INTO stickers (owner, price) VALUES ('ann', 3)")
    with pytest.raises(sqlite3.OperationalError):
        shop.execute('SELECT "secret")')
    failed, odd = traced.spans[1:]
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.status.description == (
        "IntegrityError: UNIQUE constraint failed: stickers.owner, stickers.price"
    )
    assert failed.attributes["error.type"] == "sqlite3.IntegrityError"
    assert failed.attributes["db.response.status_code"] == "SQLITE_CONSTRAINT_UNIQUE"
    assert "secret" not in str([odd.status.description, odd.attributes, odd.events])


def test_wrong_calls_fail_as_they_did(traced, shop):
    for wrong in (shop.execute, lambda: shop.execute(7), lambda: shop.cursor().executemany("x")):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(sqlite3.ProgrammingError):
        shop.execute("SELECT 1; SELECT 2")


def test_a_script_is_one_statement(traced, shop):
    shop.executescript("BEGIN; DELETE FROM stickers WHERE owner = 'secret'; COMMIT;")
    (span,) = traced.spans
    assert span.name == "BEGIN"
    assert span.attributes["db.query.text"] == "BEGIN; DELETE FROM stickers WHERE owner = ?; COMMIT"


def test_statements_in_threads_belong_to_the_request(traced, tmp_path):
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (id)")

    def work():
        with sqlite3.connect(path) as connection:
            return connection.execute("SELECT * FROM t").fetchall()

    async def handler():
        from heatshield import user

        with trace.get_tracer("test").start_as_current_span("handler"):
            user("u-1")
            await asyncio.gather(*(asyncio.to_thread(work) for _ in range(8)))

    asyncio.run(handler())
    handled = traced.span("handler")
    selects = [span for span in traced.spans if span.name == "SELECT t"]
    assert {span.parent_id for span in selects} == {handled.span_id}
    assert {span.attributes[ENDUSER_ID] for span in selects} == {"u-1"}
    assert len(selects) == 8


def test_literals_are_shown_where_the_service_says_so(service):
    made = service(redaction=False)
    connection = sqlite3.connect(":memory:")
    connection.execute("SELECT 'ann' FROM sqlite_master").fetchall()
    connection.close()
    (span,) = made.spans
    assert span.attributes["db.query.text"] == "SELECT 'ann' FROM sqlite_master"
    assert span.name == "SELECT sqlite_master"


def test_nothing_is_traced_where_it_is_disabled_or_suppressed(service):
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    made = service(disabled=("sqlite3",))
    connection = sqlite3.connect(":memory:")
    assert type(connection) is sqlite3.Connection
    connection.close()
    assert made.spans == []
    with suppress_instrumentation():
        sqlite3.connect(":memory:").execute("SELECT 1").fetchall()
    assert made.spans == []


def test_opentelemetrys_own_instrumentation_is_not_doubled(traced):
    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

    SQLite3Instrumentor().instrument(skip_dep_check=True)
    try:
        connection = sqlite3.connect(":memory:")
        connection.cursor().execute("SELECT 1").fetchall()
    finally:
        SQLite3Instrumentor().uninstrument()
    assert [span.name for span in traced.spans] == ["SELECT"]
