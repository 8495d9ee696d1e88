"""Rate, errors and duration of every call, from the batches that are committed.

A batch is grouped with a few numpy passes, so that a span costs no Python object. The groups are
added to counters and histograms; each bucket remembers the trace id of a request that fell into it.
Memory is bounded: the first :data:`MAX_CALLS` calls have series of their own.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from heatshield import names
from heatshield.metrics.distribution import REQUEST_BUCKETS_S
from heatshield_collector.link.grouping import pairs_of

__all__ = ["BUCKETS_S", "MAX_CALLS", "OTHER", "CallGroup", "CallMetrics", "groups_of"]

BUCKETS_S: Final = REQUEST_BUCKETS_S
"""Upper bounds in seconds, as services have them; one more bucket takes what is longer."""

MAX_CALLS: Final = 1_000
"""Pairs of (service, call) with series of their own: 18 series each."""

OTHER: Final = "other"
"""The call under which further calls of a service are counted together."""

OUTCOMES: Final = ("ok", "error", "rejected")

_COLUMNS: Final = ["service", "name", "rejected", "start_ns", "duration_ns", "trace_id"]


@dataclass(frozen=True, slots=True)
class CallGroup:
    """What one batch has of one call.

    Attributes:
        outcomes: requests by ``ok``, ``error``, ``rejected``.
        buckets: durations by bucket of :data:`BUCKETS_S`, not added up, the longest last.
            Rejected requests have none: they would make a protected call look fast.
        duration_s: sum of those durations.
        exemplars: bucket to a request that fell into it.
    """

    service: str
    call: str
    outcomes: Sequence[int]
    buckets: Sequence[int]
    duration_s: float
    exemplars: Mapping[int, Exemplar] = field(default_factory=dict)


def groups_of(
    spans: pa.Table, opens: npt.NDArray[np.bool_], errors: npt.NDArray[np.bool_]
) -> list[CallGroup]:
    """Group a batch by (service, name).

    Args:
        spans: ``model.SPANS``.
        opens: which spans are calls: server spans and guards.
        errors: which spans failed. A rejected one did not.
    """
    rows = np.flatnonzero(opens)
    if not len(rows):
        return []
    calls = spans.select(_COLUMNS).take(pa.array(rows))
    group, pairs = pairs_of(calls.column("service"), calls.column("name"))
    rejected = np.asarray(calls.column("rejected").combine_chunks().is_valid())
    outcome = np.where(rejected, 2, errors[rows].astype(np.int64))
    duration_ns = calls.column("duration_ns").to_numpy()
    bounds_ns = np.asarray(BUCKETS_S) * 1e9
    bucket = np.searchsorted(bounds_ns, duration_ns)
    width = len(BUCKETS_S) + 1
    timed = np.flatnonzero(~rejected)
    cell = (group * width + bucket)[timed]
    outcomes = np.bincount(group * 3 + outcome, minlength=len(pairs) * 3).reshape(-1, 3)
    buckets = np.bincount(cell, minlength=len(pairs) * width).reshape(-1, width)
    sums_ns = np.bincount(group[timed], weights=duration_ns[timed], minlength=len(pairs))
    exemplars = _exemplars(calls, timed, cell, width)
    return [
        CallGroup(
            service, call, outcomes[at].tolist(), buckets[at].tolist(), float(sums_ns[at]) / 1e9,
            exemplars.get(at, {}),
        )
        for at, (service, call) in enumerate(pairs)
    ]  # fmt: skip


def _exemplars(
    calls: pa.Table, timed: npt.NDArray[np.int64], cell: npt.NDArray[np.int64], width: int
) -> dict[int, dict[int, Exemplar]]:
    """Group to bucket to the last row of the batch that fell there."""
    cells, last = np.unique(cell[::-1], return_index=True)
    found: dict[int, dict[int, Exemplar]] = {}
    for at, row in zip(cells.tolist(), timed[::-1][last].tolist(), strict=True):
        duration_ns = calls.column("duration_ns")[row].as_py()
        end_ns = calls.column("start_ns")[row].as_py() + duration_ns
        trace_id = calls.column("trace_id")[row].as_py().hex()
        exemplar = Exemplar({"trace_id": trace_id}, duration_ns / 1e9, end_ns / 1e9)
        found.setdefault(at // width, {})[at % width] = exemplar
    return found


@dataclass(slots=True)
class _Totals:
    """What has been counted of one call since the collector started."""

    outcomes: list[int] = field(default_factory=lambda: [0] * len(OUTCOMES))
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    duration_s: float = 0.0
    exemplars: dict[int, Exemplar] = field(default_factory=dict)

    def add(self, group: CallGroup) -> None:
        self.outcomes = [a + b for a, b in zip(self.outcomes, group.outcomes, strict=True)]
        self.buckets = [a + b for a, b in zip(self.buckets, group.buckets, strict=True)]
        self.duration_s += group.duration_s
        self.exemplars.update(group.exemplars)

    def cumulative(self) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
        rows: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        total = 0
        for at, bound in enumerate((*map(str, BUCKETS_S), "+Inf")):
            total += self.buckets[at]
            exemplar = self.exemplars.get(at)
            rows.append((bound, total, exemplar) if exemplar else (bound, total))
        return rows


class CallMetrics(Collector):
    """Keeps the totals of every call and shows them to a scrape. Thread-safe.

    Args:
        max_calls: calls with series of their own.

    Attributes:
        collapsed: requests that were counted under another call's series for want of room.
    """

    def __init__(self, max_calls: int = MAX_CALLS) -> None:
        self.collapsed = 0
        self._max_calls = max_calls
        self._totals: dict[tuple[str, str], _Totals] = {}
        self._lock = threading.Lock()

    def observe_calls(self, groups: Iterable[CallGroup]) -> None:
        """Add the groups of a batch."""
        with self._lock:
            for group in groups:
                self._totals_of(group).add(group)

    def collect(self) -> Iterator[Metric]:
        """The series, for a scrape."""
        requests = CounterMetricFamily(
            names.REQUESTS, "Requests by call and outcome.", labels=("service", "call", "outcome")
        )
        durations = HistogramMetricFamily(
            names.REQUEST_DURATION, "Duration of requests by call.", labels=("service", "call")
        )
        with self._lock:
            for key, totals in self._totals.items():
                for outcome, count in zip(OUTCOMES, totals.outcomes, strict=True):
                    requests.add_metric((*key, outcome), count)
                durations.add_metric(key, totals.cumulative(), totals.duration_s)
        yield requests
        yield durations
        yield CounterMetricFamily(
            names.REQUESTS_COLLAPSED, "Requests counted under the call other.", self.collapsed
        )

    def _totals_of(self, group: CallGroup) -> _Totals:
        key = (group.service, group.call)
        if key not in self._totals and len(self._totals) >= self._max_calls:
            self.collapsed += sum(group.outcomes)
            key = self._overflow_key(group.service)
        return self._totals.setdefault(key, _Totals())

    def _overflow_key(self, service: str) -> tuple[str, str]:
        """``other`` of the service; of ``other`` once there are too many services, too."""
        key = (service, OTHER)
        full = len(self._totals) >= 2 * self._max_calls
        return (OTHER, OTHER) if full and key not in self._totals else key
