"""The collector's own metrics, as a Prometheus would read them."""

import numpy as np
import pyarrow as pa
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from heatshield import names
from heatshield_alerts.series import Sample
from heatshield_collector import self_metrics
from heatshield_collector.red import BUCKETS_S, CallGroup, groups_of
from heatshield_collector.self_metrics import SelfMetrics

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
BUCKETS = len(BUCKETS_S) + 1


def scrape(metrics):
    """(name, labels) to sample, read back by Prometheus' own parser of OpenMetrics."""
    body, content_type = metrics.render(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples[name, tuple(sorted(labels.items()))].value


def spans_table(*rows):
    """Of (service, name, duration in ms, rejected)."""
    return pa.table(
        {
            "service": pa.array([row[0] for row in rows], pa.string()),
            "name": pa.array([row[1] for row in rows], pa.string()),
            "duration_ns": pa.array([int(row[2] * 1e6) for row in rows], pa.int64()),
            "rejected": pa.array([row[3] for row in rows], pa.string()),
            "start_ns": pa.array([10**18] * len(rows), pa.int64()),
            "trace_id": pa.array([bytes([n]) * 16 for n in range(len(rows))], pa.binary()),
        }
    )


def flags(*values):
    return np.array(values, dtype=bool)


def test_counters_count_what_they_are_told():
    metrics = SelfMetrics()
    metrics.received(spans=5, logs=2)
    metrics.received(spans=1)
    metrics.refused("overload")
    metrics.rejected("shop", "POST /p", 12)
    metrics.committed(0.02)
    samples = scrape(metrics)
    assert value(samples, names.SPANS_RECEIVED) == 6
    assert value(samples, names.LOGS_RECEIVED) == 2
    assert value(samples, names.PAYLOADS_REFUSED, cause="overload") == 1
    assert value(samples, names.BREAKER_REJECTED, service="shop", call="POST /p") == 12
    assert value(samples, f"{names.COMMIT_SECONDS}_bucket", le="0.025") == 1
    assert value(samples, f"{names.COMMIT_SECONDS}_bucket", le="0.01") == 0


def test_gauges_and_foreign_counters_are_read_at_each_scrape():
    metrics, waiting, dropped = SelfMetrics(), [3], {"traces": 1}
    metrics.gauge(names.COMMIT_QUEUE_BYTES, lambda: waiting[0])
    metrics.causes(names.CHARGES_DROPPED, "Charges let go.", lambda: dropped)
    assert value(scrape(metrics), names.COMMIT_QUEUE_BYTES) == 3
    waiting[0], dropped["spans"] = 4, 7
    samples = scrape(metrics)
    assert value(samples, names.COMMIT_QUEUE_BYTES) == 4
    assert value(samples, names.CHARGES_DROPPED, cause="spans") == 7


def test_a_foreign_counter_has_the_label_it_is_given_or_none():
    metrics = SelfMetrics()
    metrics.counts(names.NOTIFICATIONS, "Told.", lambda: {"sent": 2, "failed": 1}, label="outcome")
    metrics.counts(names.JOURNAL_DROPPED, "Lost.", lambda: {"": 3}, label="")
    samples = scrape(metrics)
    assert value(samples, names.NOTIFICATIONS, outcome="failed") == 1
    assert value(samples, names.JOURNAL_DROPPED) == 3


def test_instant_series_are_those_of_the_moment_and_duplicates_are_shown_once():
    metrics, now = SelfMetrics(), []
    metrics.series(lambda: now)
    now[:] = [
        Sample.of(names.USER_LOAD, {"user": 'a"b\n', "cost": "busy"}, 1.5),
        Sample.of(names.USER_LOAD, {"user": 'a"b\n', "cost": "busy"}, 9.0),
        Sample.of(names.SERVICE_CAPACITY, {"service": "shop"}, 4.0),
    ]
    samples = scrape(metrics)
    assert metrics.render(OPENMETRICS)[0].count(f"\n{names.USER_LOAD}{{".encode()) == 1
    assert value(samples, names.USER_LOAD, user='a"b\n', cost="busy") == 1.5
    assert value(samples, names.SERVICE_CAPACITY, service="shop") == 4
    now.clear()
    assert not any(name == names.USER_LOAD for name, _ in scrape(metrics))


def test_no_more_instant_series_are_shown_than_the_bound(monkeypatch):
    monkeypatch.setattr(self_metrics, "MAX_SERIES", 10)
    metrics = SelfMetrics()
    metrics.series(lambda: (Sample.of(names.USER_LOAD, {"user": f"u-{n}"}, n) for n in range(99)))
    assert sum(name == names.USER_LOAD for name, _ in scrape(metrics)) == 10


def test_a_batch_is_grouped_by_call_with_outcomes_and_durations():
    spans = spans_table(
        ("shop", "GET /", 2, None),
        ("shop", "GET /", 700, None),
        ("shop", "GET /", 0.1, "b-1"),
        ("talk", "GET /", 99_000, None),
        ("shop", "SADD", 5, None),
    )
    groups = groups_of(spans, flags(1, 1, 1, 1, 0), flags(0, 1, 0, 0, 0))
    by_call = {(group.service, group.call): group for group in groups}
    assert set(by_call) == {("shop", "GET /"), ("talk", "GET /")}
    shop, talk = by_call["shop", "GET /"], by_call["talk", "GET /"]
    assert shop.outcomes == [1, 1, 1]
    assert {BUCKETS_S[at]: n for at, n in enumerate(shop.buckets) if n} == {0.0025: 1, 1.0: 1}
    assert shop.duration_s == pytest.approx(0.702)
    assert talk.buckets[-1] == 1
    assert shop.exemplars[1].labels == {"trace_id": "00" * 16}
    assert talk.exemplars[BUCKETS - 1].value == 99.0


def test_a_duration_on_a_bound_falls_into_its_bucket():
    """Prometheus' buckets are inclusive at their upper bound."""
    spans = spans_table(*[("shop", "x", bound * 1e3, None) for bound in BUCKETS_S])
    (group,) = groups_of(spans, flags(*[1] * len(BUCKETS_S)), flags(*[0] * len(BUCKETS_S)))
    assert group.buckets == [1] * len(BUCKETS_S) + [0]


def test_a_batch_without_calls_has_no_groups():
    assert groups_of(spans_table(("shop", "x", 1, None)), flags(0), flags(0)) == []


def test_calls_add_up_over_batches_with_the_newest_exemplar():
    metrics = SelfMetrics()
    for errors in (flags(0, 0), flags(1, 0)):
        spans = spans_table(("shop", "GET /", 2, None), ("shop", "GET /", 20, None))
        metrics.observe_calls(groups_of(spans, flags(1, 1), errors))
    samples = scrape(metrics)
    labels = {"service": "shop", "call": "GET /"}
    assert value(samples, names.REQUESTS, **labels, outcome="ok") == 3
    assert value(samples, names.REQUESTS, **labels, outcome="error") == 1
    duration = names.REQUEST_DURATION
    assert value(samples, f"{duration}_count", **labels) == 4
    assert value(samples, f"{duration}_sum", **labels) == pytest.approx(0.044)
    key = (f"{duration}_bucket", tuple(sorted({**labels, "le": "0.0025"}.items())))
    assert samples[key].value == 2
    assert samples[key].exemplar.labels == {"trace_id": "00" * 16}


def group(service, call):
    return CallGroup(service, call, [1, 0, 0], [1] + [0] * (BUCKETS - 1), 0.001)


def test_calls_beyond_the_bound_are_counted_under_other():
    metrics = SelfMetrics(max_calls=2)
    metrics.observe_calls(group("shop", f"call {n}") for n in range(5))
    samples = scrape(metrics)
    assert value(samples, names.REQUESTS, service="shop", call="other", outcome="ok") == 3
    calls = {dict(labels)["call"] for name, labels in samples if name == names.REQUESTS}
    assert calls == {"call 0", "call 1", "other"}
    assert value(samples, names.REQUESTS_COLLAPSED) == 3


def test_no_number_of_services_makes_more_series_than_the_bound():
    metrics = SelfMetrics(max_calls=2)
    metrics.observe_calls(group(f"service {n}", "x") for n in range(50))
    assert len(metrics._calls._totals) <= 5
    assert sum(totals.outcomes[0] for totals in metrics._calls._totals.values()) == 50


def test_rejections_of_more_calls_than_the_bound_are_counted_under_other(monkeypatch):
    monkeypatch.setattr(self_metrics, "MAX_REJECTED", 2)
    metrics = SelfMetrics()
    for n in range(5):
        metrics.rejected("shop", f"call {n}", 1)
    assert value(scrape(metrics), names.BREAKER_REJECTED, service="other", call="other") == 3
