"""The counts of this process, as families of ``prometheus_client``.

Importing this module imports that library, which decides at import whether it works in
multi-process mode. So heatshield imports it only once the service has, or serves.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from heatshield import names
from heatshield.counters import COUNTERS
from heatshield.metrics.distribution import Distribution, Recent
from heatshield.metrics.downstream import downstream_families
from heatshield.metrics.gc_pauses import GC_PAUSES
from heatshield.metrics.loop_lag import LOOP_LAG
from heatshield.metrics.readings import READINGS
from heatshield.metrics.red import OUTCOMES, RED

__all__ = ["OWN", "Families"]

TRACE_ID: Final = "trace_id"
"""The label in which Grafana, among others, expects an exemplar's trace id."""

_SECONDS: Final = "seconds"


def _requests() -> Iterator[Metric]:
    requests = CounterMetricFamily(
        names.SERVICE_REQUESTS, "Requests by call and outcome.", labels=("call", "outcome")
    )
    durations = HistogramMetricFamily(
        names.SERVICE_REQUEST_DURATION,
        "Duration of requests by call, without rejected ones.",
        labels=("call",),
        unit=_SECONDS,
    )
    for counts in RED.counts():
        for outcome, count in zip(OUTCOMES, counts.outcomes, strict=True):
            requests.add_metric((counts.call, outcome), count)
        _add(durations, (counts.call,), counts.durations)
    yield requests
    yield durations


def _in_flight() -> Iterator[Metric]:
    yield GaugeMetricFamily(names.SERVICE_REQUESTS_IN_FLIGHT, "Requests in flight.", RED.in_flight)


def _held() -> Iterator[Metric]:
    yield _gauge(names.SERVICE_BREAKERS, "Breaker entries held.", "mode", READINGS.breakers())
    switch = "What has thrown the kill switch; the process refuses no call meanwhile."
    yield _gauge(names.SERVICE_KILL_SWITCH, switch, "cause", READINGS.kill_switch())
    yield _gauge(
        names.SERVICE_QUEUE_RECORDS, "Records that wait to be sent.", "queue", READINGS.queues()
    )


def _event_loop() -> Iterator[Metric]:
    family = HistogramMetricFamily(
        names.EVENT_LOOP_LAG, "How late the event loop comes to what is due.", unit=_SECONDS
    )
    lags = LOOP_LAG.counts()
    if any(lags.counts):
        _add(family, (), lags)
    yield family


def _garbage_collector() -> Iterator[Metric]:
    family = HistogramMetricFamily(
        names.GC_PAUSE,
        "How long garbage collection stopped the process.",
        labels=("generation",),
        unit=_SECONDS,
    )
    for generation, pauses in GC_PAUSES.counts().items():
        _add(family, (generation,), pauses)
    yield family


def _gauge(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], counted: Distribution) -> None:
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
        (bound, count, _exemplar(recent)) if recent else (bound, count)
        for bound, count, recent in counted.cumulative()
    ]
    family.add_metric(labels, buckets, counted.total)


def _exemplar(recent: Recent) -> Exemplar:
    at_s = recent.at_ns / 1e9 if recent.at_ns else None
    return Exemplar({TRACE_ID: f"{recent.trace_id:032x}"}, recent.value, at_s)


class Families(Collector):
    """Shows a registry the counts of this process.

    Attributes:
        sources: functions that make the families; one that fails is counted and left out.
    """

    def __init__(self) -> None:
        self.sources: list[Callable[[], Iterable[Metric]]] = [
            _requests, _in_flight, _held, downstream_families, _event_loop, _garbage_collector,
            COUNTERS.collect,
        ]  # fmt: skip

    def collect(self) -> Iterator[Metric]:
        """All families, for a scrape or a push."""
        for source in self.sources:
            try:
                yield from list(source())
            except Exception:  # noqa: BLE001  # the other sources still answer
                COUNTERS.error("metrics")


OWN: Final = Families()
"""This process's."""
