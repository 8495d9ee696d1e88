"""How many workers an instance has been busy with at once: what is believed of its claims.

Whoever sends telemetry may say that a service has thousands of workers, and then no user's load is
much of them. So of each service the most is kept that one of its instances was busy with over a
second, for some hours; a claim beyond that counts for nothing.
"""

import threading
from itertools import compress
from typing import Final

import numpy as np
import pyarrow as pa

from heatshield.charge_report import ChargeReport, Pair
from heatshield.json_columns import transposed
from heatshield_collector.link.grouping import pairs_of

__all__ = ["ShownWorkers"]

GENERATION_S: Final = 4 * 3600.0
"""Two of them are remembered: what was shown in the morning is believed in the afternoon."""

SECONDS_KEPT: Final = 8
"""Of each instance so many seconds are summed up at a time; messages of older ones are late."""

INSTANCES_MOST: Final = 20_000
"""Instances whose seconds are summed up; the one that was silent longest goes first."""

SERVICES_MOST: Final = 10_000

_CPU: Final = Pair._fields.index("cpu_us")

_SECOND_NS: Final = 10**9
_SECOND_US: Final = 10**6


class ShownWorkers:
    """The most that an instance of each service was busy with over a second. Thread-safe."""

    def __init__(self) -> None:
        self._young: dict[str, float] = {}
        self._old: dict[str, float] = {}
        self._born_s: float | None = None
        self._seconds: dict[tuple[str, str], dict[int, float]] = {}
        self._lock = threading.Lock()

    def of(self, service: str) -> float:
        """Workers that an instance of a service was busy with; 0: none has shown any."""
        with self._lock:
            return max(self._young.get(service, 0.0), self._old.get(service, 0.0))

    def charges(self, charges: pa.Table, now_s: float) -> None:
        """Note what spans cost (``link.CHARGES``), each in the second in which it ended: there one
        was busy for no longer than the second.
        """
        if not charges.num_rows:
            return
        group, pairs = pairs_of(charges.column("service"), charges.column("instance"))
        start, duration, busy_us = (
            charges.column(name).to_numpy() for name in ("start_ns", "duration_ns", "busy_us")
        )
        second = start // _SECOND_NS + duration // _SECOND_NS
        last = np.full(len(pairs), np.iinfo(np.int64).min)
        np.maximum.at(last, group, second)
        ago = last[group] - second
        recent = ago < SECONDS_KEPT
        sums = np.bincount(
            (group * SECONDS_KEPT + ago)[recent],
            (np.minimum(busy_us, _SECOND_US) / _SECOND_US)[recent],
        )
        with self._lock:
            for at in np.flatnonzero(sums).tolist():
                which, since = divmod(at, SECONDS_KEPT)
                self._add(pairs[which], int(last[which]) - since, float(sums[at]), now_s)

    def report(self, report: ChargeReport, now_s: float) -> None:
        """Note what a process was busy with, and the requests that it says run and names."""
        key = (report.service, report.instance)
        busy_us = sum(transposed(report.pairs, len(Pair._fields))[_CPU])
        busy_us += sum(transposed(report.backend_us, 4)[2])
        share = 1 / max(1.0, report.seconds)
        _, _, calls, is_open = transposed(report.durations, 4)
        running = sum(compress(calls, is_open))
        with self._lock:
            self._add(key, report.at_ns // _SECOND_NS, busy_us / _SECOND_US * share, now_s)
            self._show(report.service, float(min(running, report.process.running)), now_s)

    def _add(self, key: tuple[str, str], second: int, workers: float, now_s: float) -> None:
        seconds = self._seconds.pop(key, {})
        self._seconds[key] = seconds  # and in again: the dict is by silence
        seconds[second] = seconds.get(second, 0.0) + workers
        if len(seconds) > SECONDS_KEPT:
            del seconds[min(seconds)]
        if len(self._seconds) > INSTANCES_MOST:
            del self._seconds[next(iter(self._seconds))]
        self._show(key[0], seconds.get(second, 0.0), now_s)

    def _show(self, service: str, workers: float, now_s: float) -> None:
        if self._born_s is None or now_s - self._born_s >= GENERATION_S:
            self._old, self._young, self._born_s = self._young, {}, now_s
        if workers > self._young.get(service, 0.0):
            self._young.pop(service, None)
            self._young[service] = workers
            if len(self._young) > SERVICES_MOST:
                del self._young[next(iter(self._young))]
