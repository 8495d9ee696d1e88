"""Metric payloads against a slow, obvious decoder: no sample is lost, changed or mixed up."""

import json
import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from heatshield_collector.decode import DecodeError, decode_metrics
from heatshield_collector.decode import metrics as module
from heatshield_collector.model import SAMPLES, SERIES, attributes_of

RECEIVED_NS = 77
KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
TEMPORALITIES = ("", "delta", "cumulative")
TRACE = b"t" * 16

names = st.sampled_from(("", "a", "b\x1e", "ü"))
texts = st.sampled_from(("", "x", "y\x1f", "1"))
numbers = st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1))
times = st.sampled_from((0, 5, 2**63, 2**64 - 1))
counts = st.sampled_from((0, 3, 2**63, 2**64 - 1))


def fill(point, draw):
    for key, value in draw(st.dictionaries(texts, numbers | texts, max_size=2)).items():
        attribute = point.attributes.add(key=key)
        kind = {str: "string_value", float: "double_value", int: "int_value"}[type(value)]
        setattr(attribute.value, kind, value)
    point.time_unix_nano, point.start_time_unix_nano = draw(times), draw(times)
    point.flags = draw(st.sampled_from((0, 0, 0, 1, 2)))
    if hasattr(point, "exemplars"):
        for value in draw(st.lists(numbers, max_size=2)):
            exemplar = point.exemplars.add(
                trace_id=draw(st.sampled_from((TRACE, b"", b"short", bytes(16)))), span_id=b"s" * 8
            )
            set_number(exemplar, value)
            exemplar.filtered_attributes.add(key="k").value.string_value = draw(texts)


def set_number(point, value):
    setattr(point, "as_int" if isinstance(value, int) else "as_double", value)


@st.composite
def metrics(draw):
    metric = Metric(name=draw(names), unit=draw(texts), description=draw(texts))
    kind = draw(st.sampled_from((*KINDS, None)))
    if kind is None:
        return metric
    data = getattr(metric, kind)
    data.SetInParent()
    if kind in ("sum", "histogram", "exponential_histogram"):
        data.aggregation_temporality = draw(st.integers(0, 3))
    if kind == "sum":
        data.is_monotonic = draw(st.booleans())
    for _ in range(draw(st.integers(0, 3))):
        point = data.data_points.add()
        fill(point, draw)
        if kind in ("gauge", "sum"):
            value = draw(st.none() | numbers)
            if value is not None:
                set_number(point, value)
            continue
        point.count = draw(counts)
        if kind == "summary" or draw(st.booleans()):
            point.sum = draw(st.floats())
        if kind == "histogram":
            point.explicit_bounds.extend(draw(st.lists(st.floats(0, 9), max_size=2)))
            point.bucket_counts.extend(draw(st.lists(counts, max_size=3)))
    return metric


@st.composite
def requests(draw):
    request = ExportMetricsServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        of_resource = request.resource_metrics.add()
        attribute = of_resource.resource.attributes.add(key="service.name")
        attribute.value.string_value = draw(texts)
        for _ in range(draw(st.integers(0, 2))):
            of_scope = of_resource.scope_metrics.add()
            of_scope.scope.name = draw(texts)
            of_scope.metrics.extend(draw(st.lists(metrics(), max_size=3)))
    return request


def expected(request):
    """(what tells the series, the sample) of each point that is kept, and how many are not."""
    kept, rejected = [], 0
    for of_resource in request.resource_metrics:
        service = of_resource.resource.attributes[0].value.string_value
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                for point in points_of(metric):
                    if point.flags & 1:
                        continue
                    sample = sample_of(metric, point)
                    if sample is None or not metric.name:
                        rejected += 1
                        continue
                    told = (service, of_scope.scope.name, metric.name, metric.unit)
                    kept.append((told + telling(metric, point), sample))
    return kept, rejected


def points_of(metric):
    kind = metric.WhichOneof("data")
    return () if kind is None else getattr(metric, kind).data_points


def telling(metric, point):
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    shown = {"sum": "counter" if kind == "sum" and data.is_monotonic else "up_down_counter"}
    code = getattr(data, "aggregation_temporality", 0)
    bounds = (tuple(point.explicit_bounds) or None) if kind == "histogram" else None
    return (
        shown.get(kind, kind),
        TEMPORALITIES[code] if code < len(TEMPORALITIES) else "",
        tuple(sorted((a.key, repr(plain(a.value))) for a in point.attributes)),
        bounds,
    )


def plain(value):
    return getattr(value, value.WhichOneof("value"))


def sample_of(metric, point):
    kind, count, buckets = metric.WhichOneof("data"), None, None
    if kind in ("gauge", "sum"):
        which = point.WhichOneof("value")
        if which is None:
            return None
        value = float(getattr(point, which))
    else:
        value = point.sum if kind == "summary" or point.HasField("sum") else None
        count = clamped(point.count)
    if kind == "histogram":
        sizes = len(point.bucket_counts), len(point.explicit_bounds)
        if sizes[0] != sizes[1] + 1 and sizes != (0, 0):
            return None
        buckets = tuple(map(clamped, point.bucket_counts)) or None
    leading = [
        (one.value_text, one.trace_id.hex())
        for one in map(Exemplar, getattr(point, "exemplars", ()))
        if one.trace_id == TRACE
    ]
    times_ = clamped(point.time_unix_nano), clamped(point.start_time_unix_nano)
    return (*times_, repr(value), count, buckets, tuple(leading))


class Exemplar:
    def __init__(self, point):
        which = point.WhichOneof("value")
        value = None if which is None else float(getattr(point, which))
        self.trace_id = point.trace_id
        if value is not None and not math.isfinite(value):
            value = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        self.value_text = repr(value)


def clamped(number):
    return min(number, 2**63 - 1)


def decoded(result):
    series = {row["series_id"]: row for row in result.series.to_pylist()}
    assert len(series) == result.series.num_rows, "a series stands twice"
    rows = []
    for row in result.table.to_pylist():
        one = series[row["series_id"]]
        attributes = attributes_of(one["attribute_keys"], one["attribute_values"])
        told = (
            *(one[name] for name in ("service", "scope", "name", "unit", "kind", "temporality")),
            tuple(sorted((key, repr(value)) for key, value in attributes.items())),
            None if one["bounds"] is None else tuple(one["bounds"]),
        )
        assert row["received_ns"] == RECEIVED_NS
        buckets = None if row["bucket_counts"] is None else tuple(row["bucket_counts"])
        exemplars = tuple(
            (repr(one["value"]), one["trace_id"]) for one in json.loads(row["exemplars"] or "[]")
        )
        rows.append((told, (row["time_ns"], row["start_ns"], repr(row["value"]), row["count"],
                            buckets, exemplars)))  # fmt: skip
    return rows


@settings(max_examples=200, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=3))
def test_every_point_is_a_sample_of_its_series(sent):
    result = decode_metrics([one.SerializeToString() for one in sent], RECEIVED_NS)
    assert (result.table.schema, result.series.schema) == (SAMPLES, SERIES)
    wanted = [expected(one) for one in sent]
    assert result.rejected == [rejected for _, rejected in wanted]
    rows = [row for kept, _ in wanted for row in kept]
    assert sorted(map(repr, decoded(result))) == sorted(map(repr, rows))
    assert result.series.num_rows == len({repr(told) for told, _ in rows})


def a_request(*attributes, resource="shop", name="m"):
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = resource
    point = of_resource.scope_metrics.add().metrics.add(name=name).gauge.data_points.add(as_int=1)
    for key in attributes:
        point.attributes.add(key=key).value.string_value = f"of {key}"
    return request.SerializeToString()


def test_a_series_is_the_same_in_every_payload_and_whatever_the_order_of_its_attributes():
    together = decode_metrics([a_request("b", "a"), a_request("a", "b")], RECEIVED_NS)
    alone = decode_metrics([a_request("a", "b")], RECEIVED_NS)
    assert together.series.num_rows == 1
    assert together.series.column("series_id") == alone.series.column("series_id")
    (row,) = together.series.to_pylist()
    assert (row["attribute_keys"], row["attribute_values"]) == ("s:a\x1fs:b", "of a\x1fof b")


def test_another_process_has_another_series():
    both = decode_metrics([a_request(), a_request(resource="talk")], RECEIVED_NS)
    assert both.series.num_rows == 2


def test_only_the_payload_of_too_many_series_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_SERIES", 2)
    request = ExportMetricsServiceRequest()
    for number in range(3):
        request.MergeFromString(a_request(f"k{number}"))
    with pytest.raises(DecodeError) as refused:
        decode_metrics([a_request(), request.SerializeToString()], RECEIVED_NS)
    assert list(refused.value.bad) == [1]


def test_more_exemplars_than_anybody_reads_are_left_out(monkeypatch):
    monkeypatch.setattr(module, "MAX_EXEMPLARS", 2)
    request = ExportMetricsServiceRequest.FromString(a_request())
    point = request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0]
    for _ in range(5):
        point.exemplars.add(trace_id=TRACE, as_double=1)
    (row,) = decode_metrics([request.SerializeToString()], RECEIVED_NS).table.to_pylist()
    assert len(json.loads(row["exemplars"])) == 2


def test_what_is_no_request_is_refused_alone():
    with pytest.raises(DecodeError) as refused:
        decode_metrics([a_request(), b"\xff"], RECEIVED_NS)
    assert list(refused.value.bad) == [1]
    assert np.all(decode_metrics([b""], RECEIVED_NS).table.num_rows == 0)


@settings(max_examples=150, deadline=None)
@given(requests(), st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=3)), max_size=5))
def test_damaged_payloads_are_decoded_or_refused(sent, damages):
    body = bytearray(sent.SerializeToString())
    for at, put in damages:
        body[at : at + len(put)] = put
    with suppress(DecodeError):
        assert decode_metrics([bytes(body)], RECEIVED_NS).table.schema == SAMPLES
