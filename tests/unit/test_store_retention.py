"""What the embedded store folds and lets go of."""

import pyarrow as pa
import pytest
from span_rows import START_NS, span, trace_id
from store_rows import HOUR_NS, S, audit, bulk_logs, found, log, moment, parts_of, put, put_logs

from heatshield_collector.link import Linker
from heatshield_collector.model import RESOURCES
from heatshield_collector.store import DuckDBStore, Limits
from heatshield_collector.store.duckdb.database import FILE_NAME
from heatshield_collector.store.duckdb.retention import FOLD_AFTER_NS


@pytest.fixture
def store(tmp_path):
    opened = DuckDBStore(tmp_path)
    yield opened
    opened.close()


def test_folding_keeps_what_requests_say_in_one_row_each(store):
    linker = Linker()
    for number in range(1, 5):
        put(store, [span(number, parent=number - 1, kind=1, user="u" if number == 3 else None)],
            START_NS + number, linker)  # fmt: skip
    put(store, [span(9, trace=2)], START_NS)
    before = found(store)
    store.expire(moment(START_NS + FOLD_AFTER_NS))
    assert store.sizes()["request_parts"] == 5  # not quiet for a minute yet
    store.expire(moment(START_NS + FOLD_AFTER_NS + 5))
    assert store.sizes()["request_parts"] == 2
    assert found(store) == before
    assert store.user_of(trace_id(1)) == ("u", 2)
    put(store, [span(5, parent=4, kind=1)], START_NS + HOUR_NS, linker)  # after all
    assert len(store.spans_of(trace_id(1))) == 5


def test_each_part_is_looked_at_by_one_folding_only(store):
    """What came of a request after its first parts were folded is a row of its own."""
    linker = Linker()
    put(store, [span(1, user="u")], START_NS, linker)
    put(store, [span(2, parent=1)], START_NS + 1, linker)
    store.expire(moment(START_NS + FOLD_AFTER_NS + 1))
    assert parts_of(store) == [(1, 2)]
    for number in (3, 4):
        put(store, [span(number, parent=1)], START_NS + number, linker)
    before = found(store)
    store.expire(moment(START_NS + FOLD_AFTER_NS + 4))
    assert parts_of(store) == [(1, 2), (1, 2)]
    assert found(store) == before
    assert before[0]["spans"] == 4


def test_parts_that_are_far_apart_become_one_row_and_one_request(store):
    """Such as those of a job that was put off for half an hour, twice."""
    linker, late_ns = Linker(), HOUR_NS // 2
    put(store, [span(1, user="u"), span(9, trace=2, user="v")], START_NS, linker)
    for number in (1, 2):
        at_ns = START_NS + number * late_ns
        rows = [span(number + 1, parent=1, kind=5, start_ns=at_ns), span(8, trace=2 + number)]
        put(store, rows, at_ns, linker)
        store.expire(moment(at_ns + FOLD_AFTER_NS))
    whole, *others = [row for row in found(store) if row["trace_id"] == trace_id(1)]
    assert not others
    assert (whole["spans"], whole["start_ns"], whole["call"]) == (3, START_NS, "POST /p")
    assert whole["duration_ns"] == HOUR_NS + 10**7
    assert len(store.spans_of(trace_id(1))) == 3
    assert parts_of(store) == [(1, 3), (2, 1), (3, 1), (4, 1)]


def test_after_a_restart_parts_of_the_last_hour_are_folded_and_older_ones_stay(tmp_path):
    store = DuckDBStore(tmp_path)
    for trace, received_ns in ((1, START_NS), (2, START_NS + HOUR_NS)):
        for number in (1, 2):
            put(store, [span(number, trace=trace)], received_ns + number)
    store.close()
    again = DuckDBStore(tmp_path)
    again.expire(moment(START_NS + HOUR_NS + FOLD_AFTER_NS + 2))
    assert parts_of(again) == [(1, 1), (1, 1), (2, 2)]
    again.close()


def test_what_is_too_old_is_let_go_and_journals_later(tmp_path):
    store = DuckDBStore(tmp_path, Limits(age_ns=HOUR_NS))
    for hours in range(4):
        put(store, [span(hours + 1, trace=hours + 1)], START_NS + hours * HOUR_NS)
        put_logs(store, [log(hours, received_ns=START_NS + hours * HOUR_NS)])
        store.append({"audit": audit(START_NS + hours * HOUR_NS)})
    gone = store.expire(moment(START_NS + 3 * HOUR_NS))
    assert gone == 2 * 3  # two of spans, of parts, of logs
    sizes = store.sizes()
    assert [sizes[name] for name in ("spans", "request_parts", "logs", "audit")] == [2, 2, 2, 4]
    store.expire(moment(START_NS + 12 * HOUR_NS))
    assert [store.sizes()[name] for name in ("spans", "audit")] == [0, 2]
    store.close()


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
    gone = store.expire(moment(START_NS + count))
    assert store.sizes()["bytes"] <= limit
    ((kept, oldest, newest),) = store._database.select(
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
    store.expire(moment(START_NS + 2 * HOUR_NS))
    kept = {row[0] for row in store._database.select("SELECT resource_id FROM resources")}
    assert kept == {2, 3}
    store.append({"resources": resources})  # and those that went may come again
    assert store.sizes()["resources"] == 4
    store.close()


def test_a_store_within_its_limits_lets_go_of_nothing(store):
    put(store, [span(1)])
    assert store.expire(moment(START_NS + S)) == 0
    assert store.sizes()["spans"] == 1
