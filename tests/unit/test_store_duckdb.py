"""The embedded store, on a real DuckDB file: what was written is found again."""

import duckdb
import pyarrow as pa
import pytest
from span_rows import CLIENT, MS, START_NS, span, table, trace_id
from store_rows import HOUR_NS, S, audit, found, log, moment, put, put_logs, traces

from heatshield_collector.model import RESOURCES
from heatshield_collector.store import DuckDBStore, RequestQuery, StoreError, StoreFullError
from heatshield_collector.store.duckdb.database import store_error


@pytest.fixture
def store(tmp_path):
    opened = DuckDBStore(tmp_path)
    yield opened
    opened.close()


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
    assert type(store_error(duckdb.IOException(text))) is kind
    assert type(store_error(OSError(28, "x"))) is StoreFullError


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
    store.expire(moment(START_NS + HOUR_NS))
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
