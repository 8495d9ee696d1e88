"""What the collector says of itself at ``/metrics``, and the series it shows there.

One registry per collector, never the process-wide one: two collectors may live in one process (the
tests'). Names and labels are those of :mod:`heatshield.names`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client import ProcessCollector as ProcessMetrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from heatshield import names
from heatshield_alerts.series import METRIC_NAME, Labels, Sample
from heatshield_collector.red import OTHER, CallGroup, CallMetrics

__all__ = ["COMMIT_BUCKETS_S", "MAX_SERIES", "SelfMetrics"]

COMMIT_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

MAX_SERIES: Final = 5_000
"""Instant series shown in one scrape; they are bounded top-k, so more is a mistake."""

MAX_REJECTED: Final = 1_000
"""Pairs of (service, call) whose rejections are counted apart: clients name them."""

HELP: Final = {
    names.USER_LOAD: "Lower bound of cost per second by user and call, the top ones.",
    names.CALL_LOAD: "Cost per second by call, the top ones.",
    names.FINDING: "Load of a user and call that a detector names.",
    names.SERVICE_CAPACITY: "Workers believed of a service's live instances.",
    names.ALERTS: "Alerts by name and state.",
    names.RULE_FAILING: "Rules that failed the last time they were due.",
    names.BREAKERS: "Breaker entries by state and mode.",
    names.BREAKER_HELD: "1 for each breaker entry: whom it is about, its state and mode.",
    names.COMMIT_QUEUE_BYTES: "Payloads that wait for the disk.",
    names.POLICY_IN_FORCE: "1 where the policy file is in force as it is, 0 where not.",
    names.STORE_BYTES: "What the store takes up on disk.",
    names.STREAM_SUBSCRIBERS: "Listeners of /api/events.",
    names.INSTANCES_BEHIND: "Live instances that do not enforce the latest breaker state yet.",
    names.INSTANCES_NOT_ENFORCING: "Live instances whose kill switch is thrown.",
}


class SelfMetrics:
    """The collector's registry. Every method may be called from any thread.

    Args:
        max_calls: calls with request series of their own.
    """

    def __init__(self, max_calls: int = 1_000) -> None:
        self.registry = CollectorRegistry()
        self._spans = self._counter(names.SPANS_RECEIVED, "Spans acknowledged.")
        self._logs = self._counter(names.LOGS_RECEIVED, "Log records acknowledged.")
        self._samples = self._counter(names.SAMPLES_RECEIVED, "Samples acknowledged.")
        self._refused = self._counter(names.PAYLOADS_REFUSED, "Payloads refused.", "cause")
        self._rejected = self._counter(
            names.BREAKER_REJECTED, "Calls that clients refused.", "service", "call"
        )
        self._rejected_known: set[tuple[str, str]] = set()
        self._commit = Histogram(
            names.COMMIT_SECONDS,
            "From queued to durable.",
            buckets=COMMIT_BUCKETS_S,
            registry=self.registry,
        )
        self._calls = CallMetrics(max_calls)
        self.registry.register(self._calls)
        ProcessMetrics(registry=self.registry)

    def received(self, spans: int = 0, logs: int = 0, samples: int = 0) -> None:
        """Count records that became durable."""
        self._spans.inc(spans)
        self._logs.inc(logs)
        self._samples.inc(samples)

    def refused(self, cause: str) -> None:
        """Count a payload that was turned away."""
        self._refused.labels(cause).inc()

    def rejected(self, service: str, call: str, count: int) -> None:
        """Count calls that a client refused; beyond 1,000 (service, call) under ``other``."""
        key = (service, call)
        if key not in self._rejected_known and len(self._rejected_known) >= MAX_REJECTED:
            key = (OTHER, OTHER)
        self._rejected_known.add(key)
        self._rejected.labels(*key).inc(count)

    def committed(self, seconds: float) -> None:
        """Observe how long a payload took from the queue to the disk."""
        self._commit.observe(seconds)

    def observe_calls(self, groups: Iterable[CallGroup]) -> None:
        """Add a batch's requests, grouped by :func:`heatshield_collector.red.groups_of`."""
        self._calls.observe_calls(groups)

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Show a number that is read at each scrape."""
        Gauge(name, HELP.get(name, name), registry=self.registry).set_function(read)

    def causes(self, name: str, about: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Show a counter that is kept elsewhere, by ``cause``: :meth:`counts`."""
        self.counts(name, about, read, "cause")

    def counts(
        self,
        name: str,
        about: str,
        read: Callable[[], Mapping[str, float]],
        label: str,
    ) -> None:
        """Show a counter that is kept elsewhere.

        Args:
            name: ends in ``_total``.
            about: its help text.
            read: totals since the start, by the value of the label.
            label: what tells them apart; empty: ``read`` has one total, by the empty text.
        """
        self.registry.register(_Counts(name, about, read, label))

    def series(self, read: Callable[[], Iterable[Sample]]) -> None:
        """Show gauges whose samples are made at each scrape; at most :data:`MAX_SERIES`."""
        self.registry.register(_InstantSeries(read))

    def render(self, accept: str) -> tuple[bytes, str]:
        """The body of ``/metrics`` in the format that ``accept`` asks for, and its type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)


class _Counts(Collector):
    """A counter by one label, or none, that is kept elsewhere."""

    def __init__(
        self, name: str, about: str, read: Callable[[], Mapping[str, float]], label: str
    ) -> None:
        self._name, self._about, self._read = name, about, read
        self._labels = (label,) if label else ()

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._about, labels=self._labels)
        for value, total in self._read().items():
            family.add_metric((value,) if self._labels else (), total)
        yield family


class _InstantSeries(Collector):
    """Samples of the moment as gauges; of two with the same labels the first is shown."""

    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        seen: set[Labels] = set()
        for sample in self._read():
            if len(seen) >= MAX_SERIES:
                break
            if sample.labels in seen:
                continue  # Prometheus refuses a whole scrape for one duplicate
            seen.add(sample.labels)
            name = sample.labels[METRIC_NAME]
            family = families.setdefault(name, Metric(name, HELP.get(name, name), "gauge"))
            family.add_sample(name, dict(sample.labels.drop(METRIC_NAME)), sample.value)
        yield from families.values()
