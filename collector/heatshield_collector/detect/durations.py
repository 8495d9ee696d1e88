"""Quantiles of each call's duration over the last half to whole minute.

KLL sketches (Karnin, Lang, Liberty, "Optimal Quantile Approximation in Streams", FOCS 2016), in
Apache DataSketches' C++ implementation: with k = 200 a rank is off by at most 1.3 %, whatever the
order. They compact at random, so two runs may differ by that much: quantiles are shown, and decide
nothing.
"""

import threading
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasketches import kll_doubles_sketch

from heatshield.clock import Instant
from heatshield_collector.link.grouping import pairs_of

__all__ = ["Durations"]

K: Final = 200
"""Size of a sketch: some 5 kB."""

GENERATION_S: Final = 30.0
"""Two of them are kept."""

CALLS_MOST: Final = 1_000
"""Calls that quantiles are kept of; further ones have none."""


class Durations:
    """Keeps two generations of sketches for each call. Thread-safe."""

    def __init__(self) -> None:
        self._young: dict[tuple[str, str], kll_doubles_sketch] = {}
        self._old: dict[tuple[str, str], kll_doubles_sketch] = {}
        self._born_s = 0.0
        self._lock = threading.Lock()

    def observe(self, spans: pa.Table, rows: npt.NDArray[np.int64], instant: Instant) -> None:
        """Take in the durations of some spans.

        Args:
            spans: ``model.SPANS``.
            rows: which of them count.
            instant: when they were received.
        """
        if not len(rows):
            return
        table = spans.select(["service", "name", "duration_ns"]).take(pa.array(rows))
        group, calls = pairs_of(table.column("service"), table.column("name"))
        took_ms = table.column("duration_ns").to_numpy() / 1e6
        now_s = instant.monotonic_s
        with self._lock:
            if now_s - self._born_s >= GENERATION_S:
                self._old, self._young, self._born_s = self._young, {}, now_s
            for number, call in enumerate(calls):
                if call not in self._young and len(self._young) >= CALLS_MOST:
                    continue
                sketch = self._young.setdefault(call, kll_doubles_sketch(K))
                sketch.update(took_ms[group == number])

    def calls_of(self, service: str) -> list[str]:
        """The calls of a service that were seen lately."""
        with self._lock:
            keys = {**self._old, **self._young}
        return [call for of, call in keys if of == service]

    def quantiles(self, service: str, call: str) -> tuple[float | None, float | None]:
        """The median and the 99th percentile in milliseconds, if the call was seen lately."""
        merged = kll_doubles_sketch(K)
        with self._lock:
            for generation in (self._old, self._young):
                if found := generation.get((service, call)):
                    merged.merge(found)
        if merged.is_empty():
            return None, None
        return merged.get_quantile(0.5), merged.get_quantile(0.99)
