"""The embedded store, on a real DuckDB file."""

import subprocess
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from span_rows import CLIENT, MS, START_NS, span, table, trace_id

from heatshield.clock import Instant
from heatshield_collector.link import Linker
from heatshield_collector.model import LOGS, RESOURCES, TABLES
from heatshield_collector.store import DuckDBStore, Limits, RequestQuery, StoreError, StoreFullError
from heatshield_collector.store import duckdb_store as module
from heatshield_collector.store.duckdb.retention import FOLD_AFTER_NS
from heatshield_collector.store.duckdb.schema import MIGRATIONS
from heatshield_collector.store.duckdb.store import FILE_NAME

S = 10**9
HOUR_NS = 3_600 * S


@pytest.fixture
def store(tmp_path):
    opened = DuckDBStore(tmp_path)
    yield opened
    opened.close()


def put(store, rows, received_ns=START_NS, linker=None):
    """Store spans with their request parts, as the commit loop does."""
    spans = table([{**row, "received_ns": received_ns} for row in rows])
    parts = (linker or Linker()).link(spans, Instant(received_ns / 1e9, received_ns)).parts
    store.append({"spans": spans, "request_parts": parts})


def log(number, trace=1, **columns):
    row = {
        "trace_id": trace_id(trace) if trace else b"",
        "span_id": b"",
        "service": "shop",
        "instance": "i-1",
        "time_ns": START_NS + number,
        "severity": 9,
        "severity_text": "INFO",
        "body": f"line {number}",
        "event_name": "",
        "attribute_keys": "",
        "attribute_values": "",
        "scope": "",
        "flags": 0,
        "dropped": 0,
        "resource_id": 7,
        "received_ns": START_NS,
    }
    return row | columns


def put_logs(store, rows):
    store.append({"logs": pa.Table.from_pylist(rows, schema=LOGS)})


def audit(at_ns, entry_id="b-1"):
    row = {
        "at_ns": at_ns, "change": "opened", "entry_id": entry_id, "issuer": "human:a",
        "reason": "r", "version": "1.1", "entry": "{}",
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=TABLES["audit"])


def found(store, **query):
    return store.requests(RequestQuery(START_NS - S, START_NS + HOUR_NS, **query))


def traces(rows):
    return [int.from_bytes(row["trace_id"], "big") for row in rows]


# -- writing ------------------------------------------------------------------------------------


def test_a_row_comes_back_as_it_went_in(store):
    row = span(1, user="ü\0", call="POST /p", backend="redis", rejected="b-1", elements=2**62,
               events='[{"time_ns":1}]', links="[]", trace_state="k=v", flags=257)  # fmt: skip
    put(store, [row])
    (kept,) = store.spans_of(trace_id(1))
    assert {name: kept[name] for name in row} == row
    assert kept["resource"] == {}


def test_append_is_all_or_nothing(store):
    """The second table can't be written; the first is not there either, and the store goes on."""
    wrong = pa.table({"no_such_column": [1]})
    with pytest.raises(StoreError):
        store.append({"spans": table([span(1)]), "logs": wrong})
    assert store.sizes()["spans"] == 0
    with pytest.raises(StoreError, match="no table 'nothing'"):
        store.append({"spans": table([span(1)]), "nothing": wrong})
    put(store, [span(1)])
    assert store.sizes()["spans"] == 1


def test_a_row_that_breaks_the_schema_is_refused_with_all_of_its_transaction(store):
    with pytest.raises(StoreError, match="NOT NULL"):
        store.append({"audit": audit(1), "spans": table([span(1, name=None)])})
    assert store.sizes()["audit"] == 0


def test_what_was_appended_is_there_after_the_file_is_opened_again(tmp_path):
    first = DuckDBStore(tmp_path)
    put(first, [span(1, user="u")])
    first.close()
    again = DuckDBStore(tmp_path)
    assert traces(found(again, user="u")) == [1]
    again.close()


def test_a_resource_is_kept_once_however_often_it_comes(store, tmp_path):
    rows = [
        {"resource_id": 7, "attribute_keys": "s:host", "attribute_values": "a"},
        {"resource_id": 8, "attribute_keys": "s:host", "attribute_values": "b"},
        {"resource_id": 7, "attribute_keys": "s:host", "attribute_values": "a"},
    ]
    resources = pa.Table.from_pylist(rows, schema=RESOURCES)
    put(store, [span(1, resource_id=7)])
    for _ in range(2):
        store.append({"resources": resources})
    assert store.sizes()["resources"] == 2
    assert [row["resource"] for row in store.spans_of(trace_id(1))] == [{"host": "a"}]
    store.close()
    again = DuckDBStore(tmp_path)
    again.append({"resources": resources})
    assert again.sizes()["resources"] == 2
    again.close()


def test_a_resource_of_a_transaction_that_failed_is_written_by_the_next(store):
    resources = pa.Table.from_pylist(
        [{"resource_id": 7, "attribute_keys": "", "attribute_values": ""}], schema=RESOURCES
    )
    with pytest.raises(StoreError):
        store.append({"resources": resources, "spans": table([span(1, name=None)])})
    store.append({"resources": resources})
    assert store.sizes()["resources"] == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("IO Error: No space left on device", StoreFullError),
        ("Out of Disk Space", StoreFullError),
        ("something else", StoreError),
    ],
)
def test_a_full_disk_is_told_from_other_failures(text, kind):
    assert type(module._store_error(duckdb.IOException(text))) is kind
    assert type(module._store_error(OSError(28, "x"))) is StoreFullError


# -- reading ------------------------------------------------------------------------------------


def test_spans_of_a_request_come_once_each_by_their_start(store):
    rows = [
        span(2, parent=1, start_ns=START_NS + 5, duration_ns=1),
        span(1, start_ns=START_NS),
        span(3, parent=1, start_ns=START_NS + 5, duration_ns=9),
        span(9, trace=2),
    ]
    put(store, rows)
    put(store, rows[:1], START_NS + S)  # delivered again
    kept = store.spans_of(trace_id(1))
    assert [row["span_id"][-1] for row in kept] == [1, 3, 2]
    assert kept[2]["received_ns"] == START_NS


def test_both_sides_of_a_call_that_share_an_id_are_two_spans(store):
    put(store, [span(1), span(1, kind=CLIENT, service="talk"), span(1, service="talk")])
    assert len(store.spans_of(trace_id(1))) == 3


def test_spans_are_found_by_requests_that_came_in_pieces_over_time(store):
    for number in range(1, 4):
        put(store, [span(number)], START_NS + number * 70 * S)
    assert len(store.spans_of(trace_id(1))) == 3
    store.expire(START_NS + HOUR_NS)
    assert len(store.spans_of(trace_id(1))) == 3
    assert store.spans_of(trace_id(99)) == []


def test_logs_of_a_request_come_once_each_by_time(store):
    put_logs(store, [log(2), log(1), log(2), log(3, trace=2), log(4, trace=0)])
    assert [row["body"] for row in store.logs_of(trace_id(1))] == ["line 1", "line 2"]


def test_logs_that_differ_in_anything_a_reader_sees_are_not_the_same(store):
    others = ({}, {"body": "else"}, {"attribute_values": "v"}, {"service": "x"}, {"span_id": b"1"})
    put_logs(store, [log(1, **other) for other in others])
    assert len(store.logs_of(trace_id(1))) == 5


def test_services_are_looked_for_only_where_parts_of_the_requests_came_in(store):
    """So few row groups of spans are read: a span that no part knows of is not seen."""
    put(store, [span(1), span(2, parent=1, service="talk")], START_NS)
    put(store, [span(3, parent=1, service="redis")], START_NS + HOUR_NS)
    store.append({"spans": table([span(4, service="x", received_ns=START_NS + 2 * HOUR_NS)])})
    assert [row["services"] for row in found(store)] == [["redis", "shop", "talk"]]


def test_logs_are_looked_for_within_a_minute_of_the_request_s_parts(store):
    put(store, [span(1)], START_NS)
    put(store, [span(2, parent=1)], START_NS + HOUR_NS)
    times = (-61 * S, -60 * S, HOUR_NS + 60 * S, HOUR_NS + 61 * S)
    put_logs(store, [log(n, received_ns=START_NS + at) for n, at in enumerate(times)])
    assert [row["body"] for row in store.logs_of(trace_id(1))] == ["line 1", "line 2"]


def test_the_user_of_lowest_rank_is_whose_request_it_is(store):
    put(store, [span(3, parent=2, kind=1, user="baggage")])
    assert store.user_of(trace_id(1)) == ("baggage", 2)
    put(store, [span(2, parent=1, user="server")])
    put(store, [span(1)])
    assert store.user_of(trace_id(1)) == ("server", 1)
    put(store, [span(4, user="entry")])
    assert store.user_of(trace_id(1)) == ("entry", 0)
    (request,) = found(store)
    assert request["user"] == "entry"
    assert store.user_of(trace_id(99)) == (None, None)


def test_a_request_is_summed_up_over_its_pieces(store):
    put(store, [span(2, parent=1, kind=1, duration_ns=4 * MS, elements=3)])
    put(store, [span(1, user="u", name="GET /", service="gateway", status=2,
                     start_ns=START_NS - MS, duration_ns=9 * MS)])  # fmt: skip
    assert found(store) == [
        {
            "trace_id": trace_id(1),
            "start_ns": START_NS - MS,
            "duration_ns": 9 * MS,
            "user": "u",
            "service": "gateway",
            "call": "GET /",
            "spans": 2,
            "errors": 1,
            "busy_ns": 13 * MS,
            "elements": 3,
            "services": ["gateway", "shop"],
        }
    ]


@pytest.fixture
def searched(store):
    put(store, [span(1, trace=1, user="u", start_ns=START_NS + 1),
                span(2, trace=1, parent=1, kind=1, name="SADD", service="redis",
                     start_ns=START_NS + 1)])  # fmt: skip
    put(store, [span(3, trace=2, user="v", start_ns=START_NS + 2, status=2)])
    put(store, [span(4, trace=3, start_ns=START_NS + 3, duration_ns=500 * MS, name="GET /")])
    return store


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [3, 2, 1]),
        ({"limit": 2}, [3, 2]),
        ({"user": "u"}, [1]),
        ({"user": "' OR 1=1 --"}, []),
        ({"service": "redis"}, [1]),
        ({"service": "shop"}, [3, 2, 1]),
        ({"call": "GET /"}, [3]),
        ({"service": "shop", "call": "SADD"}, []),
        ({"errors": True}, [2]),
        ({"errors": False}, [3, 1]),
        ({"min_duration_ns": 100 * MS}, [3]),
        ({"errors": True, "user": "u"}, []),
    ],
)
def test_requests_are_found_by_what_is_asked_newest_first(searched, query, expected):
    assert traces(found(searched, **query)) == expected


def test_requests_are_found_between_two_times(searched):
    for since, until, expected in ((1, 2, [2, 1]), (3, 9, [3]), (4, 9, [])):
        rows = searched.requests(RequestQuery(START_NS + since, START_NS + until))
        assert traces(rows) == expected


def test_journals_are_read_newest_first_and_nothing_else_is_one(store):
    for at in (2, 3, 1):
        store.append({"audit": audit(at, f"b-{at}")})
    assert [row["entry_id"] for row in store.recent("audit", 2)] == ["b-3", "b-2"]
    assert store.recent("findings", 5) == []
    with pytest.raises(StoreError, match="not a journal"):
        store.recent("spans", 5)


# -- epochs -------------------------------------------------------------------------------------


def test_every_epoch_is_greater_than_all_before_over_reopening_too(tmp_path):
    given = []
    for at_least in (1, 1, 1_000, 5):
        store = DuckDBStore(tmp_path)
        given += [store.next_epoch(at_least), store.next_epoch(0)]
        store.close()
    assert given == sorted(set(given))
    assert given[4] == 1_000


# -- letting go ---------------------------------------------------------------------------------


def test_folding_keeps_what_requests_say_in_one_row_each(store):
    linker = Linker()
    for number in range(1, 5):
        put(store, [span(number, parent=number - 1, kind=1, user="u" if number == 3 else None)],
            START_NS + number, linker)  # fmt: skip
    put(store, [span(9, trace=2)], START_NS)
    before = found(store)
    store.expire(START_NS + FOLD_AFTER_NS)
    assert store.sizes()["request_parts"] == 5  # not quiet for a minute yet
    store.expire(START_NS + FOLD_AFTER_NS + 5)
    assert store.sizes()["request_parts"] == 2
    assert found(store) == before
    assert store.user_of(trace_id(1)) == ("u", 2)
    put(store, [span(5, parent=4, kind=1)], START_NS + HOUR_NS, linker)  # after all
    assert len(store.spans_of(trace_id(1))) == 5


def parts_of(store):
    """(trace, spans) of each row of ``request_parts``."""
    rows = store._select("SELECT trace_id, spans FROM request_parts")
    return sorted((int.from_bytes(trace, "big"), spans) for trace, spans in rows)


def test_each_part_is_looked_at_by_one_folding_only(store):
    """What came of a request after its first parts were folded is a row of its own."""
    linker = Linker()
    put(store, [span(1, user="u")], START_NS, linker)
    put(store, [span(2, parent=1)], START_NS + 1, linker)
    store.expire(START_NS + FOLD_AFTER_NS + 1)
    assert parts_of(store) == [(1, 2)]
    for number in (3, 4):
        put(store, [span(number, parent=1)], START_NS + number, linker)
    before = found(store)
    store.expire(START_NS + FOLD_AFTER_NS + 4)
    assert parts_of(store) == [(1, 2), (1, 2)]
    assert found(store) == before
    assert before[0]["spans"] == 4


def test_after_a_restart_parts_of_the_last_hour_are_folded_and_older_ones_stay(tmp_path):
    store = DuckDBStore(tmp_path)
    for trace, received_ns in ((1, START_NS), (2, START_NS + HOUR_NS)):
        for number in (1, 2):
            put(store, [span(number, trace=trace)], received_ns + number)
    store.close()
    again = DuckDBStore(tmp_path)
    again.expire(START_NS + HOUR_NS + FOLD_AFTER_NS + 2)
    assert parts_of(again) == [(1, 1), (1, 1), (2, 2)]
    again.close()


def test_what_is_too_old_is_let_go_and_journals_later(tmp_path):
    store = DuckDBStore(tmp_path, Limits(age_ns=HOUR_NS))
    for hours in range(4):
        put(store, [span(hours + 1, trace=hours + 1)], START_NS + hours * HOUR_NS)
        put_logs(store, [log(hours, received_ns=START_NS + hours * HOUR_NS)])
        store.append({"audit": audit(START_NS + hours * HOUR_NS)})
    gone = store.expire(START_NS + 3 * HOUR_NS)
    assert gone == 2 * 3  # two of spans, of parts, of logs
    sizes = store.sizes()
    assert [sizes[name] for name in ("spans", "request_parts", "logs", "audit")] == [2, 2, 2, 4]
    store.expire(START_NS + 12 * HOUR_NS)
    assert [store.sizes()[name] for name in ("spans", "audit")] == [0, 2]
    store.close()


def bulk_logs(first, count):
    """``model.LOGS`` of bodies that no compression removes, 64 bytes each."""
    texts = np.random.default_rng(first).bytes(32 * count).hex()
    known = {
        "time_ns": np.arange(first, first + count),
        "body": [texts[at : at + 64] for at in range(0, len(texts), 64)],
        "trace_id": pa.repeat(pa.scalar(b"", pa.binary()), count),
        "span_id": pa.repeat(pa.scalar(b"", pa.binary()), count),
        "received_ns": np.arange(START_NS + first, START_NS + first + count),
    }
    rest = {
        field.name: pa.repeat(
            pa.scalar("" if pa.types.is_string(field.type) else 0).cast(field.type), count
        )
        for field in LOGS
        if field.name not in known
    }
    return pa.table({**rest, **known}, schema=LOGS)


def test_the_write_ahead_log_counts_as_used(store, tmp_path):
    store.append({"logs": bulk_logs(0, 10_000)})
    wal = tmp_path / f"{FILE_NAME}.wal"
    assert store.sizes()["bytes"] >= wal.stat().st_size > 10_000 * 64


def test_a_store_that_is_too_large_lets_go_of_the_oldest_and_keeps_the_newest(tmp_path):
    """DuckDB frees row groups of 122,880 rows; there are some here. Logs alone fill it."""
    limit, count = 9 * 2**20, 400_000
    store = DuckDBStore(tmp_path, Limits(size_bytes=limit))
    store.append({"logs": bulk_logs(0, count)})
    assert store.sizes()["bytes"] > 1.5 * limit
    gone = store.expire(START_NS + count)
    assert store.sizes()["bytes"] <= limit
    ((kept, oldest, newest),) = store._select(
        "SELECT count(*), min(time_ns), max(time_ns) FROM logs"
    )
    assert (gone, oldest, newest) == (count - kept, gone, count - 1)
    assert kept > count / 4
    store.close()


def test_many_resources_go_with_the_last_span_and_log_that_is_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr("heatshield_collector.store.duckdb.retention.RESOURCES_MANY", 2)
    store = DuckDBStore(tmp_path, Limits(age_ns=HOUR_NS))
    ids = (1, 2, 3, 4)
    rows = [{"resource_id": n, "attribute_keys": "", "attribute_values": ""} for n in ids]
    resources = pa.Table.from_pylist(rows, schema=RESOURCES)
    store.append({"resources": resources})
    put(store, [span(1, resource_id=1)], START_NS)
    put(store, [span(2, trace=2, resource_id=2)], START_NS + 2 * HOUR_NS)
    put_logs(store, [log(1, resource_id=3, received_ns=START_NS + 2 * HOUR_NS)])
    store.expire(START_NS + 2 * HOUR_NS)
    kept = {row[0] for row in store._select("SELECT resource_id FROM resources")}
    assert kept == {2, 3}
    store.append({"resources": resources})  # and those that went may come again
    assert store.sizes()["resources"] == 4
    store.close()


def test_a_store_within_its_limits_lets_go_of_nothing(store):
    put(store, [span(1)])
    assert store.expire(START_NS + S) == 0
    assert store.sizes()["spans"] == 1


# -- the schema ---------------------------------------------------------------------------------


def test_the_tables_have_the_columns_of_the_model_and_their_types(store):
    kinds = {
        "binary": "BLOB", "string": "VARCHAR", "int8": "TINYINT", "int32": "INTEGER",
        "int64": "BIGINT", "double": "DOUBLE", "list<item: double>": "DOUBLE[]",
        "list<item: int64>": "BIGINT[]",
    }  # fmt: skip
    for name, schema in TABLES.items():
        rows = store._select(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $name",
            {"name": name},
        )
        assert dict(rows) == {field.name: kinds[str(field.type)] for field in schema}, name


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
    assert store._select("SELECT x FROM theirs") == [(7,)]
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
    assert store._select("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'half'") == [(0,)]
    store.close()
    assert version(tmp_path) == len(MIGRATIONS)


def test_a_later_migration_runs_once_on_a_file_that_lacks_it(tmp_path, monkeypatch):
    DuckDBStore(tmp_path).close()
    later = (*MIGRATIONS, "CREATE TABLE later (x INTEGER); INSERT INTO later VALUES (1)")
    monkeypatch.setattr("heatshield_collector.store.duckdb.schema.MIGRATIONS", later)
    for _ in range(2):
        store = DuckDBStore(tmp_path)
        assert store._select("SELECT x FROM later") == [(1,)]
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
    with store._transaction():
        store._insert("spans", table([span(2)]))
        assert len(store.spans_of(trace_id(1))) == 1
    assert len(store.spans_of(trace_id(1))) == 2
