"""The file of the embedded store: its schema, its migrations, who may open it."""

import hashlib
import json
import subprocess
import sys

import duckdb
import pytest
from span_rows import START_NS, span, table, trace_id
from store_rows import SINCE_NS, UNTIL_NS, S, audit, finding, moment, put

from heatshield_collector.link import Linker
from heatshield_collector.model import SEPARATOR, SPANS, TABLES
from heatshield_collector.store import DuckDBStore, FindingQuery, RequestQuery, StoreError
from heatshield_collector.store.duckdb.database import FILE_NAME
from heatshield_collector.store.duckdb.schema import MIGRATIONS, migrate


@pytest.fixture
def store(tmp_path):
    opened = DuckDBStore(tmp_path)
    yield opened
    opened.close()


# -- the schema ---------------------------------------------------------------------------------


def test_the_tables_have_the_columns_of_the_model_and_their_types(store):
    kinds = {
        "binary": "BLOB", "string": "VARCHAR", "int8": "TINYINT", "int32": "INTEGER",
        "int64": "BIGINT", "double": "DOUBLE", "list<item: double>": "DOUBLE[]",
        "list<item: int64>": "BIGINT[]", "list<item: string>": "VARCHAR[]",
    }  # fmt: skip
    for name, schema in TABLES.items():
        rows = store._database.select(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $name",
            {"name": name},
        )
        assert dict(rows) == {field.name: kinds[str(field.type)] for field in schema}, name


def test_a_released_migration_is_never_edited():
    """A file that went through it would differ for good from one that goes through the edited."""
    released = [hashlib.sha256(script.encode()).hexdigest()[:16] for script in MIGRATIONS[:2]]
    assert released == ["0b56e3cbb26a91a3", "8dfc8ac0528bf823"]


def test_columns_may_come_in_any_order(store):
    turned = audit(5)
    store.append({"audit": turned.select(list(reversed(turned.column_names)))})
    assert store.recent("audit", 1)[0]["at_ns"] == 5


def version(tmp_path, change=None):
    connection = duckdb.connect(str(tmp_path / FILE_NAME))
    if change is not None:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", [change])
    row = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
    connection.close()
    return row[0]


def test_a_new_file_gets_the_newest_schema(tmp_path):
    DuckDBStore(tmp_path).close()
    assert version(tmp_path) == len(MIGRATIONS)


def test_a_file_of_a_newer_heatshield_is_refused_and_left_as_it_was(tmp_path):
    DuckDBStore(tmp_path).close()
    version(tmp_path, len(MIGRATIONS) + 1)
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StoreError, match="use the newer heatshield that wrote it"):
        DuckDBStore(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before
    # and let go of: another process may open it at once
    opened = "import duckdb, sys; duckdb.connect(sys.argv[1])"
    subprocess.run([sys.executable, "-c", opened, tmp_path / FILE_NAME], check=True, timeout=60)


def test_a_file_without_a_version_is_brought_up_to_date_and_keeps_what_it_had(tmp_path):
    """Version 0: a file that was made before it had tables of ours."""
    connection = duckdb.connect(str(tmp_path / FILE_NAME))
    connection.execute("CREATE TABLE theirs (x INTEGER); INSERT INTO theirs VALUES (7)")
    connection.close()
    store = DuckDBStore(tmp_path)
    put(store, [span(1)])
    assert store._database.select("SELECT x FROM theirs") == [(7,)]
    store.close()
    assert version(tmp_path) == len(MIGRATIONS)


def test_a_migration_that_fails_leaves_the_version_it_found(tmp_path, monkeypatch):
    DuckDBStore(tmp_path).close()
    broken = (*MIGRATIONS, "CREATE TABLE half (x INTEGER); SELECT no_such_function()")
    monkeypatch.setattr("heatshield_collector.store.duckdb.schema.MIGRATIONS", broken)
    with pytest.raises(StoreError, match="can't open the store"):
        DuckDBStore(tmp_path)
    monkeypatch.undo()
    store = DuckDBStore(tmp_path)
    assert store._database.select(
        "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'half'"
    ) == [(0,)]
    store.close()
    assert version(tmp_path) == len(MIGRATIONS)


def test_a_later_migration_runs_once_on_a_file_that_lacks_it(tmp_path, monkeypatch):
    DuckDBStore(tmp_path).close()
    later = (*MIGRATIONS, "CREATE TABLE later (x INTEGER); INSERT INTO later VALUES (1)")
    monkeypatch.setattr("heatshield_collector.store.duckdb.schema.MIGRATIONS", later)
    for _ in range(2):
        store = DuckDBStore(tmp_path)
        assert store._database.select("SELECT x FROM later") == [(1,)]
        store.close()


# -- opening ------------------------------------------------------------------------------------


def test_a_second_process_can_t_open_it_and_is_told_why(store, tmp_path):
    script = (
        "import sys; from pathlib import Path; from heatshield_collector.store import *\n"
        "try: DuckDBStore(Path(sys.argv[1]))\n"
        "except StoreError as error: print(error)"
    )
    said = subprocess.check_output([sys.executable, "-c", script, tmp_path], text=True, timeout=60)
    assert "can't open the store" in said
    assert "lock" in said


def test_a_file_that_is_no_store_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 1_000)
    with pytest.raises(StoreError, match="can't open the store"):
        DuckDBStore(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == b"not a database" * 1_000


def test_a_folder_that_can_t_be_made_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't open the store in"):
        DuckDBStore(tmp_path / "file" / "data")


def test_readers_are_not_held_up_by_a_writer_and_see_whole_transactions(store):
    put(store, [span(1)])
    with store._database.transaction():
        store._database.insert("spans", table([span(2)]))
        assert len(store.spans_of(trace_id(1))) == 1
    assert len(store.spans_of(trace_id(1))) == 2


def audited(at_s, change, user, entry_id="b-1", **fields):
    """A row as the audit of a store before held entries had a table has it."""
    entry = {"id": entry_id, "user": user, "service": "shop", "call": "POST /p", **fields}
    return [at_s * S, change, entry_id, "rule:HarmfulUser", "r", "1.1", json.dumps(entry)]


def test_what_an_older_store_s_audit_says_is_held_is_held_on(tmp_path):
    """A file of the version before: refusals since then are many, and push nothing out."""
    old = duckdb.connect(str(tmp_path / FILE_NAME))
    with pytest.MonkeyPatch.context() as before:
        before.setattr("heatshield_collector.store.duckdb.schema.MIGRATIONS", MIGRATIONS[:2])
        migrate(old)
    rows = [
        audited(1, "opened", "u-1"),
        audited(2, "renewed", "u-1", lease_ms=5),
        audited(3, "half_open", "u-1"),
        audited(1, "opened", "cleared"),
        audited(2, "cleared", "cleared"),
        audited(1, "closed", "again"),
        audited(2, "opened", "again", tenant="other"),
        audited(2, "opened", f"a{SEPARATOR}b", service="s"),
        [9 * S, "mode", "", "human:a", "", "1.1", "{}"],
        [9 * S, "opened", "b-9", "human:a", "", "1.1", "not JSON"],
        *([5 * S, "refused", "", "rule:HarmfulUser", "", "1.1", "{}"] for _ in range(1_500)),
    ]
    old.executemany("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    old.close()
    store = DuckDBStore(tmp_path)
    held = [(json.loads(one.entry), one.at_ns) for one in store.held()]
    assert [(entry["user"], entry.get("lease_ms"), at_ns) for entry, at_ns in held] == [
        (f"a{SEPARATOR}b", None, 2 * S),
        ("u-1", 5, 2 * S),
        ("again", None, 2 * S),
    ]
    store.forget_held()
    assert store.held() == []
    store.forget_held()
    store.close()
    assert version(tmp_path) == len(MIGRATIONS)


def test_requests_of_an_older_file_are_found_by_the_services_of_their_spans(tmp_path):
    old = duckdb.connect(str(tmp_path / FILE_NAME))
    with pytest.MonkeyPatch.context() as before:
        before.setattr("heatshield_collector.store.duckdb.schema.MIGRATIONS", MIGRATIONS[:3])
        migrate(old)
    rows = [span(1), span(2, parent=1, service="talk")]
    parts = Linker().link(table(rows), moment(START_NS)).parts
    tables = {
        "spans": table(rows).select(SPANS.names),
        "request_parts": parts.drop_columns(["services"]),
    }
    for name, incoming in tables.items():
        old.register("incoming", incoming)
        old.execute(f"INSERT INTO {name} BY NAME SELECT * FROM incoming")  # noqa: S608 - two names
    old.close()
    store = DuckDBStore(tmp_path)
    (row,) = store.requests(RequestQuery(SINCE_NS, UNTIL_NS, service="talk"))
    assert row["services"] == ["shop", "talk"]
    store.close()


def test_findings_of_an_older_file_are_listed_and_their_life_goes_on_in_new_rows(tmp_path):
    old = duckdb.connect(str(tmp_path / FILE_NAME))
    with pytest.MonkeyPatch.context() as before:
        before.setattr("heatshield_collector.store.duckdb.schema.MIGRATIONS", MIGRATIONS[:6])
        migrate(old)
    old.execute(
        "INSERT INTO findings VALUES "
        "('f-1', 'hot', 'u-1', 'shop', 'POST /p', 'busy', '1s', 1.5, 5, '[]', 'r')"
    )
    old.close()
    store = DuckDBStore(tmp_path)
    (row,) = store.findings(FindingQuery())
    assert (row["id"], row["at_ns"], row["action"], row["opened_ns"]) == ("f-1", 5, None, None)
    store.record({"findings": finding(6, user=None)})
    assert [one["user"] for one in store.findings(FindingQuery())] == [None, "u-1"]
    store.close()


def test_many_hours_of_an_older_file_are_filled_slice_by_slice(tmp_path, monkeypatch):
    """All at once they might not fit into memory, and the file could never be opened again."""
    monkeypatch.setattr("heatshield_collector.store.duckdb.schema.SLICE_NS", 10 * S)
    store = DuckDBStore(tmp_path)
    for number in range(6):
        put(store, [span(1, trace=number)], START_NS + number * 7 * S)
    gone = bytes(15) + b"\x05"
    store.close()
    old = duckdb.connect(str(tmp_path / FILE_NAME))
    old.execute("UPDATE request_parts SET services = NULL")
    old.execute("DELETE FROM spans WHERE trace_id = $1", [gone])  # its spans have expired
    old.close()
    store = DuckDBStore(tmp_path)
    rows = store._database.select("SELECT trace_id, services FROM request_parts")
    assert {services == ([] if trace == gone else ["shop"]) for trace, services in rows} == {True}
    store.close()


def test_bytes_in_use_are_told_without_a_look_at_any_table(store, monkeypatch):
    put(store, [span(1)])
    sizes = store.sizes()

    def counted(_cursor, table):
        raise AssertionError(f"{table} is counted")

    monkeypatch.setattr("heatshield_collector.store.duckdb.retention.count", counted)
    assert store.used_bytes() == sizes["bytes"] > 0
