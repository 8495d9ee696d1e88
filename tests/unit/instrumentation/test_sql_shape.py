"""Shapes, names and errors of statements and commands, as they read."""

import time

import pytest

from heatshield.sanitize import sql_shape
from heatshield.sanitize.mongo_shape import collection_of, documents_moved
from heatshield.sanitize.mongo_shape import shape_of as mongo_shape_of
from heatshield.sanitize.sql_errors import masked, without_values
from heatshield.sanitize.sql_shape import MAX_STATEMENT, shape_of

PG = "postgresql"


@pytest.mark.parametrize(
    ("dialect", "statement", "shape"),
    [
        ("", "SELECT 1", "SELECT ?"),
        ("", "  select\n\t*  from t ; ", "select * from t"),
        (
            PG,
            "SELECT a FROM t WHERE n = 'it''s' AND p = -7.5e-3",
            "SELECT a FROM t WHERE n = ? AND p = ?",
        ),
        (PG, r"SELECT E'a\'b', 'c\', U&'x', B'01'", "SELECT ?"),
        (PG, "SELECT $$a$$ || $t$b $$ c$t$ FROM t", "SELECT ? || ? FROM t"),
        (
            PG,
            "SELECT $1::int, a->'k'->>'l', b @> '{}' FROM t",
            "SELECT ?::int, a->?->>?, b @> ? FROM t",
        ),
        (PG, "SELECT a /* x /* y */ z */ FROM t -- 'b", "SELECT a FROM t"),
        (PG, 'SELECT "userId" FROM "Order"', 'SELECT "userId" FROM "Order"'),
        (PG, "SELECT a - 5, b -5, (-5) FROM t LIMIT -1", "SELECT a - ?, b -?, (?) FROM t LIMIT ?"),
        (PG, "SELECT a FROM t WHERE id IN (1, 2,3)", "SELECT a FROM t WHERE id IN (?)"),
        (PG, "SELECT a FROM t WHERE id IN (%(a_1)s, %(a_2)s)", "SELECT a FROM t WHERE id IN (?)"),
        (
            PG,
            "SELECT a FROM t WHERE id IN ($1::INT, $2::INT)",
            "SELECT a FROM t WHERE id IN (?::INT)",
        ),
        (PG, "SELECT ARRAY[1,2,3], a[1:2] FROM t", "SELECT ARRAY[?], a[?:?] FROM t"),
        (PG, "INSERT INTO t VALUES (1,'a'), (2,'b')", "INSERT INTO t VALUES (?)"),
        (PG, "INSERT INTO t VALUES (1, now()), (2, now())", "INSERT INTO t VALUES (?, now())"),
        (PG, "SELECT NULL, TRUE, col1, t2.x FROM t2", "SELECT NULL, TRUE, col1, t2.x FROM t2"),
        (PG, "SELECT 'never closed", "SELECT ?"),
        (
            "sqlite",
            'SELECT "a"."b" FROM "a" WHERE c = "text"',
            'SELECT "a"."b" FROM "a" WHERE c = ?',
        ),
        ("sqlite", "SELECT [my col], ?1, :n, @v, $p FROM t", "SELECT [my col], ?, $p FROM t"),
        ("mysql", "SELECT `a`, \"x\", 'it\\'s' FROM t # c", "SELECT `a`, ? FROM t"),
        ("oracle", "SELECT q'[it's]', nq'!a'b!' FROM dual", "SELECT ? FROM dual"),
        (
            "mssql",
            "SELECT [a b] FROM [dbo].[T] WHERE x = N'y'",
            "SELECT [a b] FROM [dbo].[T] WHERE x = ?",
        ),
        ("", "SELECT a FROM t WHERE b = 'c\\' AND d = 'e'", "SELECT a FROM t WHERE b = ?"),
    ],
)
def test_a_statement_loses_its_data_and_keeps_its_structure(dialect, statement, shape):
    assert shape_of(statement, dialect).text == shape


@pytest.mark.parametrize(
    ("statement", "summary"),
    [
        ("SELECT a FROM stickers s JOIN owners o ON true", "SELECT stickers"),
        ("select count(*) from shop.stickers", "SELECT shop.stickers"),
        ('SELECT 1 FROM "Order"', "SELECT Order"),
        ("SELECT extract(year FROM x) FROM t WHERE a IS DISTINCT FROM b", "SELECT t"),
        ("SELECT a FROM (SELECT b FROM (SELECT c FROM deep) x) y", "SELECT deep"),
        ("(SELECT a FROM x) UNION ALL (SELECT b FROM y)", "SELECT x"),
        ("WITH a AS (SELECT 1 FROM base), b(c) AS (SELECT 2) SELECT * FROM a", "SELECT base"),
        ("WITH gone AS (DELETE FROM t RETURNING id) INSERT INTO log SELECT 1", "INSERT log"),
        ("WITH RECURSIVE t AS (SELECT 1 UNION SELECT 2 FROM t) SELECT * FROM t", "SELECT t"),
        ("INSERT OR REPLACE INTO t VALUES (1)", "INSERT t"),
        ("UPDATE ONLY t SET a = 1", "UPDATE t"),
        ("DELETE FROM ONLY t", "DELETE t"),
        ("MERGE INTO t USING s ON true", "MERGE t"),
        ("CREATE TABLE IF NOT EXISTS t (a int)", "CREATE TABLE t"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX t"),
        ("DROP VIEW IF EXISTS v", "DROP VIEW v"),
        ("TRUNCATE t", "TRUNCATE t"),
        ("COPY t (a) FROM STDIN", "COPY t"),
        ("COPY (SELECT a FROM t) TO STDOUT", "COPY t"),
        ("EXPLAIN ANALYZE SELECT a FROM t", "EXPLAIN t"),
        ("CALL refill(7)", "CALL refill"),
        ("SELECT now()", "SELECT"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN"),
        ("SELECT a FROM stickers_00017", "SELECT stickers_?"),
        ("SELECT a FROM events_2024_05_p3", "SELECT events_?_?_p3"),
        ("ann's secret", ""),
        ("", ""),
        ("SELECT FROM", "SELECT"),
        ("SELECT 1 FROM 'x'", "SELECT"),
        ("WITH", "WITH"),
    ],
)
def test_a_span_is_named_by_verb_and_main_table(statement, summary):
    assert shape_of(statement, PG).summary == summary


def test_the_attributes_are_opentelemetrys_and_leave_out_what_is_unknown():
    assert shape_of("SELECT 1 FROM t").attributes == {
        "db.query.text": "SELECT ? FROM t",
        "db.query.summary": "SELECT t",
        "db.operation.name": "SELECT",
        "db.collection.name": "t",
    }
    assert shape_of("SELECT 1").attributes.keys() == {
        "db.query.text", "db.query.summary", "db.operation.name"
    }  # fmt: skip
    assert shape_of("what").attributes == {"db.query.text": "what"}


def test_a_huge_statement_is_cut_and_not_kept_whole():
    huge = f"INSERT INTO t VALUES {', '.join(f'({i}, 7)' for i in range(100_000))}"  # noqa: S608
    shape = shape_of(huge)
    assert shape.text == "INSERT INTO t VALUES (?) ..."
    assert shape.summary == "INSERT t"
    assert MAX_STATEMENT - 4 < len(shape_of("SELECT " + "a, " * 100_000).text) <= MAX_STATEMENT


def test_shapes_are_kept_but_not_without_end():
    statement = "SELECT a FROM t WHERE b = 17"
    assert shape_of(statement) is shape_of(statement)
    for i in range(2 * sql_shape.MAX_KEPT):
        shape_of(f"SELECT {i} FROM t")  # noqa: S608  # is not run
    assert sql_shape._shape.cache_info().currsize == sql_shape.MAX_KEPT


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            'duplicate key value violates unique constraint "users_pkey"\nDETAIL:  Key (e)=(ann)',
            'duplicate key value violates unique constraint "users_pkey"',
        ),
        (
            'invalid input syntax for type integer: "ann"',
            "invalid input syntax for type integer: ?",
        ),
        ('column "a" of relation "t" does not exist', 'column "a" of relation "t" does not exist'),
        (
            "invalid input for query argument $1: {'a': ann}",
            "invalid input for query argument $1: ?",
        ),
        ("Duplicate entry 'ann' for key 'users.email'", "Duplicate entry ? for key 'users.email'"),
        ('E11000 index: email_1 dup key: { email: "ann" }', "E11000 index: email_1 dup key: ?"),
        ("UNIQUE constraint failed: t.id", "UNIQUE constraint failed: t.id"),
        ("unrecognized token: \"'ann", "unrecognized token: ?"),
        ("value 4711 is out of range", "value ? is out of range"),
        (
            "<class 'asyncpg.exceptions.UndefinedFunctionError'>: operator does not exist: text",
            "<class 'asyncpg.exceptions.UndefinedFunctionError'>: operator does not exist: text",
        ),
        (
            'connection to server at "127.0.0.1", port 5432 failed: password "x"',
            'connection to server at "127.0.0.1", port 5432 failed: password ?',
        ),
        (
            "unknown command 'ann', with args beginning with: 'ann' 'b'",
            "unknown command ?, with args beginning with: ?",
        ),
        (
            "Command # 1 (SET ann\nb) of pipeline caused error: WRONGTYPE Operation",
            "Command of pipeline caused error: WRONGTYPE Operation",
        ),
        ("", ""),
    ],
)
def test_an_errors_message_loses_the_values_it_quotes(message, told):
    assert masked(message) == told


QUOTED = """Traceback (most recent call last):
  File "shop.py", line 7, in buy
sqlalchemy.exc.IntegrityError: (psycopg.errors.UniqueViolation) duplicate key value violates \
unique constraint "users_pkey"
DETAIL:  Key (email)=(ann@example.org) already exists.
[SQL: INSERT INTO users (email)
VALUES (%(email)s, 'ann]')]
[parameters: {'email': 'ann@example.org', 'x': [1]}]
(Background on this error at: https://sqlalche.me/e/20/gkpj)
"""


def test_texts_that_quote_a_databases_error_lose_its_values_and_nothing_else():
    told = without_values(QUOTED)
    assert "ann" not in told
    assert told.startswith(QUOTED[: QUOTED.index("DETAIL")])
    assert told[told.index("DETAIL") :] == (
        "DETAIL: ?\n[SQL: INSERT INTO users (email) VALUES (?)]\n[parameters: ?]\n"
        "(Background on this error at: https://sqlalche.me/e/20/gkpj)\n"
    )
    plain = "LINE managers met; no DETAIL: of it is known [SQL is fun]"
    assert without_values(plain) == plain


@pytest.mark.parametrize(
    "text",
    [
        "invalid input syntax for type integer: \"ann\"\nLINE 1: SELECT 'ann'::int\n        ^",
        "invalid input for query argument $1: 'ann' (an integer is required)",
        "E11000 dup key: { email: 'ann' }, full error: {'keyValue': {'email': 'ann'}}",
        "Duplicate entry 'ann' for key 'users.email'",
        "[SQL: SELECT 'ann",
    ],
)
def test_drivers_own_messages_lose_their_values_too(text):
    assert "ann" not in without_values(text)


@pytest.mark.parametrize("unit", ["[SQL: ", "]\n", "DETAIL: ", "Duplicate entry '", "dup key: "])
def test_texts_are_searched_in_linear_time(unit):
    began = time.process_time()
    without_values("[SQL: " + unit * 20_000)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("command", "shape"),
    [
        ({"find": "t", "filter": {"a": "ann"}, "lsid": {}}, "{find: t, filter: {a: ?}}"),
        ({"find": "t", "filter": {"$or": [{"a": 1}, {"a": 2}, {"b": 3}]}},
         "{find: t, filter: {$or: [{a: ?}, {b: ?}]}}"),
        ({"getMore": 17, "collection": "t"}, "{getMore: ?, collection: t}"),
        ({"insert": "t", "documents": [{"name": "ann"}] * 9}, "{insert: t, documents: [?]}"),
        ({"update": "t", "updates": [{"q": {"users.4711.n": 1}, "u": {"$set": {"é'": 1}}}]},
         "{update: t, updates: [{q: {users.?.n: ?}, u: {$set: {?: ?}}}]}"),
        ({"aggregate": 1, "pipeline": []}, "{aggregate: ?, pipeline: []}"),
        ({"find": "logs_20240501"}, "{find: logs_?}"),
        ({}, "{}"),
    ],
)  # fmt: skip
def test_a_command_loses_its_values_and_keeps_its_structure(command, shape):
    assert mongo_shape_of(command) == shape


def test_a_commands_shape_is_bounded_however_deep_and_wide_it_is():
    deep = wide = {"a": 1}
    for _ in range(500):
        deep = {"a": deep}
    wide = {f"f{'x' * i}": {"b": [1] * 1_000} for i in range(1_000)}
    assert len(mongo_shape_of({"find": "t", "filter": deep})) < 100
    assert len(mongo_shape_of({"find": "t", "filter": wide})) == 1_024


@pytest.mark.parametrize(
    ("name", "reply", "moved"),
    [
        ("find", {"cursor": {"firstBatch": [{}, {}]}}, 2),
        ("getMore", {"cursor": {"nextBatch": []}}, 0),
        ("find", {"cursor": {"firstBatch": [b"\x05\0\0\0\0" * 3]}}, 3),
        ("find", {"cursor": {"firstBatch": [b"\0\0\0\0\0\0\0\0"]}}, 0),
        ("insert", {"n": 4}, 4),
        ("insert", {"ok": 1}, 9),
        ("bulkWrite", {"nInserted": 1, "nDeleted": 2, "cursor": {"firstBatch": [{}]}}, 3),
        ("findAndModify", {"value": None}, 0),
        ("distinct", {"values": [1, 2, 3]}, 3),
        ("count", {"n": 4_000_000}, 0),
        ("ping", {}, 0),
    ],
)
def test_documents_are_counted_where_the_answer_says_so(name, reply, moved):
    assert documents_moved(name, reply, sent=9) == moved


def test_a_collection_is_named_where_a_command_is_about_one():
    assert collection_of({"find": "stickers"}, "find") == "stickers"
    assert collection_of({"getMore": 7, "collection": "logs_17"}, "getMore") == "logs_?"
    assert collection_of({"aggregate": 1}, "aggregate") == ""
