"""Series and samples in the embedded store, on a real DuckDB file."""

import json

import duckdb
import pyarrow as pa
import pytest
from store_rows import moment

from heatshield_collector.model import RESOURCES, SAMPLES, SERIES
from heatshield_collector.store import DuckDBStore, Limits, SampleQuery
from heatshield_collector.store.duckdb import telemetry as module
from heatshield_collector.store.duckdb.database import FILE_NAME
from heatshield_collector.store.duckdb.schema import MIGRATIONS, migrate

S = 10**9
START_NS = 1_700_000_000 * S
HOUR_NS = 3_600 * S


@pytest.fixture
def store(tmp_path):
    opened = DuckDBStore(tmp_path, Limits(age_ns=HOUR_NS))
    yield opened
    opened.close()


def series(series_id, **columns):
    row = {
        "series_id": series_id, "name": "m", "kind": "gauge", "temporality": "", "unit": "",
        "description": "", "service": "shop", "instance": "i-1", "attribute_keys": "",
        "attribute_values": "", "bounds": None, "scope": "", "resource_id": 7,
    }  # fmt: skip
    return row | columns


def sample(series_id, value, at_s=0, **columns):
    row = {
        "series_id": series_id, "time_ns": START_NS + at_s * S, "start_ns": 0, "value": value,
        "count": None, "bucket_counts": None, "exemplars": None,
        "received_ns": START_NS + at_s * S,
    }  # fmt: skip
    return row | columns


def put(store, some_series, samples):
    store.append(
        {
            "series": pa.Table.from_pylist(some_series, schema=SERIES),
            "samples": pa.Table.from_pylist(samples, schema=SAMPLES),
        }
    )


def latest(store, since_ns=START_NS, **query):
    return store.latest_samples(SampleQuery(since_ns, **query))


def test_the_newest_sample_of_each_series_is_found(store):
    put(store, [series(1), series(2, instance="i-2")], [sample(1, 1.0), sample(2, 5.0)])
    put(store, [series(1)], [sample(1, 2.0, at_s=10)])
    assert [(row["instance"], row["value"]) for row in latest(store)] == [
        ("i-1", 2.0),
        ("i-2", 5.0),
    ]


def test_a_newer_sample_without_a_value_does_not_give_way_to_an_older_one(store):
    """A histogram of values below zero has no sum."""
    put(store, [series(1)], [sample(1, 1.0, count=1), sample(1, None, at_s=1, count=2)])
    (row,) = latest(store)
    assert (row["value"], row["count"]) == (None, 2)


def test_a_histogram_comes_back_as_it_went_in(store):
    bounds, counts = [0.5, 1.0], [1, 0, 2**62]
    put(
        store,
        [series(1, kind="histogram", temporality="cumulative", bounds=bounds, unit="s")],
        [sample(1, 0.25, count=3, bucket_counts=counts, start_ns=5)],
    )
    (row,) = latest(store)
    assert (row["bounds"], row["bucket_counts"], row["start_ns"]) == (bounds, counts, 5)
    assert (row["kind"], row["temporality"], row["unit"]) == ("histogram", "cumulative", "s")


def test_a_series_is_kept_once_even_after_it_was_forgotten(store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SERIES_KNOWN", 1)
    for _ in range(3):
        put(store, [series(1), series(2), series(1)], [sample(1, 1.0)])
    assert store.sizes()["series"] == 2
    store.close()
    again = DuckDBStore(tmp_path)
    put(again, [series(1)], [sample(1, 1.0)])
    assert again.sizes()["series"] == 2
    again.close()


def test_a_sample_that_was_delivered_twice_is_seen_once(store):
    for _ in range(2):
        put(store, [series(1)], [sample(1, 1.0)])
    assert len(latest(store)) == 1


def test_one_may_ask_by_name_service_age_and_number(store):
    put(
        store,
        [series(1), series(2, name="n"), series(3, service="talk")],
        [sample(1, 1.0, at_s=100), sample(2, 1.0, at_s=100), sample(3, 1.0)],
    )

    def ids(**query):
        return [row["series_id"] for row in latest(store, **query)]

    assert ids(name="n") == [2]
    assert ids(service="talk") == [3]
    assert ids(name="m", service="shop") == [1]
    assert ids(since_ns=START_NS + 50 * S) == [1, 2]
    assert ids(limit=1) == [1]
    assert ids(name="'; DROP TABLE samples; --") == []


def test_exemplars_of_the_whole_time_come_newest_first(store):
    def exemplars(*times):
        return json.dumps([{"time_ns": at, "value": 1.0, "trace_id": f"{at:032x}"} for at in times])

    put(
        store,
        [series(1), series(2, name="n")],
        [
            sample(1, 1.0, exemplars=exemplars(3, 1)),
            sample(1, 2.0, at_s=10, exemplars=exemplars(2)),
            sample(2, 1.0, exemplars=exemplars(9)),
        ],
    )
    (row,) = latest(store, name="m")
    assert [one["time_ns"] for one in row["exemplars"]] == [3, 2, 1]


def test_samples_go_with_their_age_and_series_with_their_last_sample(store, monkeypatch):
    monkeypatch.setattr("heatshield_collector.store.duckdb.retention.SERIES_MANY", 1)
    put(store, [series(1), series(2)], [sample(1, 1.0), sample(2, 1.0, at_s=2 * 3_600)])
    assert store.expire(moment(START_NS + 2 * HOUR_NS)) == 1
    assert (store.sizes()["samples"], store.sizes()["series"]) == (1, 1)
    put(store, [series(1)], [sample(1, 3.0, at_s=2 * 3_600)])  # and it may come again
    assert sorted(row["value"] for row in latest(store)) == [1.0, 3.0]


def test_a_resource_of_a_series_stays(store, monkeypatch):
    monkeypatch.setattr("heatshield_collector.store.duckdb.retention.RESOURCES_MANY", 0)
    rows = [{"resource_id": n, "attribute_keys": "", "attribute_values": ""} for n in (7, 8)]
    store.append({"resources": pa.Table.from_pylist(rows, schema=RESOURCES)})
    put(store, [series(1, resource_id=7)], [sample(1, 1.0), sample(1, 2.0, at_s=2 * 3_600)])
    store.expire(moment(START_NS + 2 * HOUR_NS))
    assert store.sizes()["resources"] == 1


def test_a_store_of_the_version_before_is_brought_up_to_date(tmp_path):
    """It has spans in it, and they stay."""
    old = duckdb.connect(str(tmp_path / FILE_NAME))
    with pytest.MonkeyPatch.context() as before:
        before.setattr("heatshield_collector.store.duckdb.schema.MIGRATIONS", MIGRATIONS[:1])
        migrate(old)
    old.execute("INSERT INTO resources VALUES (1, '', '')")
    old.close()
    opened = DuckDBStore(tmp_path)
    put(opened, [series(1)], [sample(1, 1.0)])
    assert (opened.sizes()["resources"], opened.sizes()["samples"]) == (1, 1)
    opened.close()
