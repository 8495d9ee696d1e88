"""OTLP metric payloads -> one row a series, ``model.SERIES``, and one a sample, ``model.SAMPLES``.

OTLP has a list of points in each metric, of one of five kinds. The points of a kind are taken flat
over the whole batch, and each kind makes the same columns. A series is told by a hash of everything
that its samples share, so a batch says each series once however many samples it has.

Kept are numbers, sums and histograms with explicit bounds as they are. Of an exponential histogram
and of a summary count and sum are kept: their buckets and quantiles can't be added up over
processes.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from heatshield_collector.decode.attributes import escaped, flatten, json_value
from heatshield_collector.decode.bounds import check_repeated
from heatshield_collector.decode.errors import DecodeError
from heatshield_collector.decode.records import (
    Decoded,
    Records,
    int64,
    parents,
    read,
    text_ids,
    valid_ids,
    within,
)
from heatshield_collector.model import ESCAPE, SAMPLES, SERIES, attributes_of

__all__ = ["decode_metrics"]

NO_RECORDED_VALUE: Final = 1
"""Bit of a point's flags: its series has ended, and the point has no value."""

MAX_SERIES: Final = 100_000
"""Most series of one request: far more than a process or a relay's batch has, and a second's
work."""

MAX_EXEMPLARS: Final = 10_000
"""Most exemplars of a kind that are kept of one batch: each costs some 5 µs of Python."""

_TEMPORALITIES: Final = pa.array(["", "delta", "cumulative"], pa.string())
"""OTLP's AggregationTemporality, by number."""

_MONOTONIC_KINDS: Final = pa.array(["up_down_counter", "counter"], pa.string())

_JOINT: Final = pa.scalar(ESCAPE * 2, pa.string())
"""Between what tells a series: two escapes stand in none of it."""

_COMMA: Final = pa.scalar(",", pa.string())


def decode_metrics(payloads: Sequence[bytes], received_ns: int) -> Decoded:
    """Decode metric payloads jointly.

    Left out are points of metrics without a name, points without a value, and histograms whose
    buckets don't fit their bounds.

    Args:
        payloads: serialized ``ExportMetricsServiceRequest`` messages.
        received_ns: when they were received, nanoseconds since the Unix epoch.

    Raises:
        DecodeError: when any payload is not such a message.
    """
    records = read(ExportMetricsServiceRequest, payloads, "metrics")
    tables = [
        table
        for member in ("gauge", "sum", "histogram", "exponential_histogram", "summary")
        if (table := _points(records, member, received_ns)) is not None
    ]
    if not tables:
        return Decoded(
            SAMPLES.empty_table(),
            records.resources,
            records.left_out.tolist(),
            records.mended,
            SERIES.empty_table(),
        )
    points = pa.concat_tables(tables).combine_chunks()
    kept = points.column("kept").to_numpy()
    rejected = np.bincount(points.column("payload").to_numpy()[~kept], minlength=len(payloads))
    points, first = _with_ids(points.filter(pa.array(kept)).combine_chunks())
    return Decoded(
        points.select(SAMPLES.names).cast(SAMPLES),
        records.resources,
        (rejected + records.left_out).tolist(),
        records.mended,
        points.take(pa.array(first)).select(SERIES.names).cast(SERIES),
    )


def _points(records: Records, member: str, received_ns: int) -> pa.Table | None:
    """The points of one kind: the columns of a series and of a sample without its id, the payload
    that each came in, and whether it is kept.
    """
    metrics = records.fields
    data = metrics.field(member)
    lists = data.field("data_points")
    points = lists.values
    if not len(points):
        return None
    metric = parents(lists)
    at = pa.array(metric)
    texts = [metrics.field(name) for name in ("name", "unit", "description")]
    check_repeated(metric, [*texts, records.service, records.instance, records.scope])
    attributes = flatten(points.field("attributes")).by_name()
    series = {
        "name": metrics.field("name").take(at),
        "kind": _kinds(data, member).take(at),
        "temporality": _temporalities(data).take(at),
        "unit": metrics.field("unit").take(at),
        "description": metrics.field("description").take(at),
        "service": records.service.take(at),
        "instance": records.instance.take(at),
        "attribute_keys": attributes.keys_column(),
        "attribute_values": attributes.values_column(),
        "scope": records.scope.take(at),
        "resource_id": records.resource_id.take(at),
    }
    numbers = _numbers(points) if member in ("gauge", "sum") else _distributions(points, member)
    recorded = (points.field("flags").to_numpy() & NO_RECORDED_VALUE) == 0
    named = np.asarray(pc.not_equal(series["name"], pa.scalar("", pa.string())))
    sound = numbers.pop("sound")
    columns = {
        **series,
        **numbers,
        "time_ns": pa.array(int64(points.field("time_unix_nano"))),
        "start_ns": pa.array(int64(points.field("start_time_unix_nano"))),
        "exemplars": _exemplars(points),
        "received_ns": pa.array(np.full(len(points), received_ns)),
        "payload": pa.array(records.payload[metric]),
        "kept": pa.array(named & sound),
    }
    table = pa.table(columns)
    # A point whose flags say that it has no value is no error, and is no sample either.
    return table if recorded.all() else table.filter(pa.array(recorded))


def _kinds(data: pa.StructArray, member: str) -> pa.Array:
    if member == "sum":
        monotonic = pc.fill_null(data.field("is_monotonic"), False)
        return _MONOTONIC_KINDS.take(monotonic.cast(pa.int8()))
    return pa.repeat(pa.scalar(member, pa.string()), len(data))


def _temporalities(data: pa.StructArray) -> pa.Array:
    if data.type.get_field_index("aggregation_temporality") < 0:
        return pa.repeat(pa.scalar("", pa.string()), len(data))
    codes = pc.fill_null(data.field("aggregation_temporality"), 0)
    return _TEMPORALITIES.take(within(codes, len(_TEMPORALITIES) - 1))


def _numbers(points: pa.StructArray) -> dict[str, Any]:
    value = _value(points)
    return {
        "value": value,
        "count": pa.nulls(len(points), pa.int64()),
        "bounds": pa.nulls(len(points), pa.list_(pa.float64())),
        "bucket_counts": pa.nulls(len(points), pa.list_(pa.int64())),
        "sound": np.asarray(value.is_valid()),
    }


def _value(points: pa.StructArray) -> pa.Array:
    """A number that was sent as one of two kinds: float64[n]."""
    whole = points.field("as_int").cast(pa.float64(), safe=False)
    return pc.coalesce(points.field("as_double"), whole)


def _distributions(points: pa.StructArray, member: str) -> dict[str, Any]:
    columns = {
        "value": points.field("sum"),
        "count": pa.array(int64(points.field("count"))),
        "bounds": pa.nulls(len(points), pa.list_(pa.float64())),
        "bucket_counts": pa.nulls(len(points), pa.list_(pa.int64())),
        "sound": np.ones(len(points), dtype=bool),
    }
    if member != "histogram":
        return columns
    bounds, counts = points.field("explicit_bounds"), points.field("bucket_counts")
    buckets = np.diff(counts.offsets.to_numpy())
    inner = np.diff(bounds.offsets.to_numpy()) + 1
    columns["sound"] = (buckets == inner) | ((buckets == 0) & (inner == 1))
    columns["bounds"] = _lists(bounds.offsets, bounds.values)
    columns["bucket_counts"] = _lists(counts.offsets, pa.array(int64(counts.values)))
    return columns


def _lists(offsets: pa.Array, values: pa.Array) -> pa.Array:
    """Lists of which the empty ones are null."""
    empty = pa.array(np.diff(offsets.to_numpy()) == 0)
    return pa.ListArray.from_arrays(offsets, values, mask=empty)


def _with_ids(points: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """The points with their series' ids, and the first point of each series."""
    told = pc.binary_join_element_wise(*_telling(points), _JOINT).dictionary_encode()
    series = told.indices.to_numpy().astype(np.int64)
    _refuse_many(points.column("payload").to_numpy(), series)
    _, first = np.unique(series, return_index=True)
    ids = text_ids(told.dictionary).take(told.indices)
    return points.append_column("series_id", ids), first


def _refuse_many(payload: np.ndarray, series: np.ndarray) -> None:
    width = int(series.max(initial=0)) + 1
    counts = np.bincount(np.unique(payload * width + series) // width)
    bad = np.flatnonzero(counts > MAX_SERIES).tolist()
    if bad:
        reason = f"more than {MAX_SERIES} series in one request"
        raise DecodeError(reason, dict.fromkeys(bad, reason))


def _telling(points: pa.Table) -> list[pa.Array]:
    """What tells a series, as texts in which the joint does not stand."""

    def column(name: str) -> pa.Array:
        return points.column(name).combine_chunks()

    return [
        *(escaped(column(name)) for name in ("name", "unit", "scope")),
        *(column(name) for name in ("kind", "temporality", "attribute_keys", "attribute_values")),
        column("resource_id").cast(pa.string()),
        _bounds_texts(column("bounds")),
    ]


def _bounds_texts(bounds: pa.ListArray) -> pa.Array:
    distinct = bounds.values.dictionary_encode()  # few, for they stand in the senders' code
    shown = pa.array([repr(bound) for bound in distinct.dictionary.to_pylist()], pa.string())
    texts = shown.take(distinct.indices)
    joined = pc.binary_join(pa.ListArray.from_arrays(bounds.offsets, texts), _COMMA)
    return pc.if_else(bounds.is_valid(), joined, pa.scalar("", pa.string()))


def _exemplars(points: pa.StructArray) -> pa.Array:
    """As JSON, null where a point has none that leads to a request."""
    if points.type.get_field_index("exemplars") < 0:
        return pa.nulls(len(points), pa.string())
    lists = points.field("exemplars")
    leading = np.flatnonzero(valid_ids(lists.values.field("trace_id"), 16))[:MAX_EXEMPLARS]
    by_point: dict[int, list[dict[str, Any]]] = {}
    members = _members(lists.values.take(pa.array(leading)))
    for point, member in zip(parents(lists)[leading].tolist(), members, strict=True):
        by_point.setdefault(point, []).append(member)
    texts: list[str | None] = [None] * len(lists)
    for point, some in by_point.items():
        texts[point] = json.dumps(some)
    return pa.array(texts, pa.string())


def _members(exemplars: pa.StructArray) -> list[dict[str, Any]]:
    attributes = flatten(exemplars.field("filtered_attributes"))
    rows = zip(
        exemplars.field("time_unix_nano").to_pylist(),
        _value(exemplars).to_pylist(),
        exemplars.field("trace_id").to_pylist(),
        exemplars.field("span_id").to_pylist(),
        attributes.keys_column().to_pylist(),
        attributes.values_column().to_pylist(),
        strict=True,
    )
    return [
        {
            "time_ns": time_ns,
            "value": json_value(value),
            "trace_id": trace_id.hex(),
            "span_id": span_id.hex(),
            "attributes": {
                name: json_value(one) for name, one in attributes_of(keys, values).items()
            },
        }
        for time_ns, value, trace_id, span_id, keys, values in rows
    ]
