"""Whatever a registry holds, protobuf's own classes read it back from what is sent."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.samples import Exemplar

from heatshield.metrics.otlp import MAX_POINTS, Moment, encode

NOW = Moment(now_ns=2_000 * 10**9, start_ns=1_000 * 10**9)
RESOURCE = {"service.name": "shop", "heatshield.workers": 3}

TEXT = st.text(max_size=20)
NUMBER = st.floats(allow_nan=True, allow_infinity=True)


def read(families, moment=NOW):
    encoded = encode(families, RESOURCE, moment)
    request = ExportMetricsServiceRequest.FromString(encoded.body)
    (of_resource,) = request.resource_metrics
    (of_scope,) = of_resource.scope_metrics
    assert plain(of_resource.resource.attributes) == RESOURCE
    return {metric.name: metric for metric in of_scope.metrics}, encoded


def plain(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def points(metric):
    return {
        tuple(sorted(plain(point.attributes).items())): point
        for point in getattr(metric, metric.WhichOneof("data")).data_points
    }


def same(one, other):
    return one == other or (math.isnan(one) and math.isnan(other))


@given(st.dictionaries(st.tuples(TEXT, TEXT), NUMBER, min_size=1, max_size=5), TEXT)
def test_gauges_and_counters_read_back(values, about):
    gauge = GaugeMetricFamily("g", about, labels=("a", "b"))
    counter = CounterMetricFamily("c", about, labels=("a", "b"))
    for labels, value in values.items():
        gauge.add_metric(labels, value)
        counter.add_metric(labels, value, created=1_500.5)
    metrics, encoded = read([gauge, counter])
    assert encoded.points == 2 * len(values)
    assert metrics["g"].description == metrics["c_total"].description == about
    total = metrics["c_total"].sum
    assert total.is_monotonic
    assert total.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    for (a, b), value in values.items():
        key = (("a", a), ("b", b))
        gauged, counted = points(metrics["g"])[key], points(metrics["c_total"])[key]
        assert same(gauged.as_double, value)
        assert same(counted.as_double, value)
        assert gauged.time_unix_nano == counted.time_unix_nano == NOW.now_ns
        assert gauged.start_time_unix_nano == 0
        assert counted.start_time_unix_nano == 1_500_500_000_000


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6, unique=True).map(sorted),
    st.data(),
    st.floats(allow_nan=False),
)
def test_histograms_read_back(bounds, data, total):
    counts = data.draw(st.lists(st.integers(0, 1_000), min_size=len(bounds) + 1,
                                max_size=len(bounds) + 1))  # fmt: skip
    reached = [sum(counts[: at + 1]) for at in range(len(counts))]
    family = HistogramMetricFamily("h_seconds", "", labels=("call",), unit="seconds")
    names = [*map(str, bounds), "+Inf"]
    family.add_metric(["x"], list(zip(names, reached, strict=True)), total)
    metrics, encoded = read([family])
    assert encoded.points == 1
    assert metrics["h_seconds"].unit == "s"
    assert (
        metrics["h_seconds"].histogram.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    (point,) = metrics["h_seconds"].histogram.data_points
    assert list(point.explicit_bounds) == bounds
    assert list(point.bucket_counts) == counts
    assert point.count == sum(counts)
    assert plain(point.attributes) == {"call": "x"}
    assert point.start_time_unix_nano == NOW.start_ns
    if bounds[0] >= 0:
        assert point.sum == total
    else:
        assert not point.HasField("sum")  # a sum of negative values says nothing


@given(
    st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.floats(0, 1), TEXT
)
def test_an_exemplar_leads_to_its_request(trace_id, span_id, value, more):
    labels = {"trace_id": trace_id.hex(), "span_id": span_id.hex(), "more": more}
    family = HistogramMetricFamily("h", "")
    family.add_metric([], [("1.0", 1, Exemplar(labels, value, 1_999.5)), ("+Inf", 1)], value)
    metrics, _ = read([family])
    (exemplar,) = metrics["h"].histogram.data_points[0].exemplars
    assert (exemplar.trace_id, exemplar.span_id) == (trace_id, span_id)
    assert (exemplar.as_double, exemplar.time_unix_nano) == (value, 1_999_500_000_000)
    assert plain(exemplar.filtered_attributes) == {"more": more}


def test_an_exemplar_is_sent_once():
    family = HistogramMetricFamily("h", "")
    exemplar = Exemplar({"trace_id": "ab" * 16}, 0.5, 1_999.5)
    family.add_metric([], [("1.0", 1, exemplar), ("+Inf", 1)], 0.5)
    later = NOW._replace(fresh_ns=1_999_600_000_000)
    metrics, _ = read([family], later)
    assert not metrics["h"].histogram.data_points[0].exemplars


def test_a_registry_of_the_librarys_own_metrics_reads_back():
    registry = CollectorRegistry()
    Counter("jobs", "Jobs.", ["kind"], registry=registry).labels("a").inc(3)
    Gauge("depth", "Depth.", registry=registry).set(-2.5)
    histogram = Histogram(
        "took_seconds", "Took.", registry=registry, buckets=(0.1, 1), unit="seconds"
    )
    histogram.observe(0.05)
    histogram.observe(5)
    summary = Summary("size_bytes", "Size.", registry=registry)
    summary.observe(10)
    summary.observe(20)
    Info("build", "Build.", registry=registry).info({"version": "1"})
    Enum("mode", "Mode.", registry=registry, states=["on", "off"]).state("off")
    metrics, encoded = read(registry.collect())
    assert set(metrics) == {
        "jobs_total", "depth", "took_seconds", "size_bytes", "build_info", "mode",
    }  # fmt: skip
    assert encoded.left_out == 0
    assert points(metrics["jobs_total"])[(("kind", "a"),)].as_double == 3
    assert points(metrics["depth"])[()].as_double == -2.5
    took = points(metrics["took_seconds"])[()]
    assert (list(took.bucket_counts), list(took.explicit_bounds)) == ([1, 0, 1], [0.1, 1.0])
    assert (took.count, took.sum) == (2, 5.05)
    size = points(metrics["size_bytes"])[()]
    assert (size.count, size.sum) == (2, 30)
    assert points(metrics["build_info"])[(("version", "1"),)].as_double == 1
    assert not metrics["build_info"].sum.is_monotonic
    states = {dict(key)["mode"]: point.as_double for key, point in points(metrics["mode"]).items()}
    assert states == {"on": 0, "off": 1}


def test_what_is_unknown_is_a_gauge_and_a_gauge_histogram_is_left_out():
    unknown = UnknownMetricFamily("u", "", value=4)
    histogram = GaugeHistogramMetricFamily("gh", "", buckets=[("+Inf", 3)], gsum_value=4)
    metrics, encoded = read([unknown, histogram])
    assert list(metrics) == ["u"]
    assert metrics["u"].gauge.data_points[0].as_double == 4
    assert encoded.left_out == 0


@pytest.mark.parametrize("value", [None, "x", object()])
def test_a_broken_family_leaves_the_others_alone(value):
    broken, good = GaugeMetricFamily("bad", "", value=1), GaugeMetricFamily("good", "", value=1)
    broken.samples[0] = broken.samples[0]._replace(value=value)
    metrics, encoded = read([broken, good])
    assert list(metrics) == ["good"]
    assert encoded.left_out == 1


def test_more_points_than_anybody_could_scrape_are_left_out():
    many = GaugeMetricFamily("many", "", labels=("n",))
    for number in range(MAX_POINTS + 1):
        many.add_metric([str(number)], 1)
    metrics, encoded = read([many, GaugeMetricFamily("few", "", value=1)])
    assert list(metrics) == ["few"]
    assert (encoded.points, encoded.left_out) == (1, 1)


def test_a_label_that_is_no_unicode_is_sent_all_the_same():
    family = GaugeMetricFamily("g", "", labels=("file",))
    family.add_metric(["a\udcff"], 1)
    metrics, _ = read([family])
    assert plain(metrics["g"].gauge.data_points[0].attributes) == {"file": "a?"}
