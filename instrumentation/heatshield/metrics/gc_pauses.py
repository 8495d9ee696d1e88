"""How long the garbage collector stops this process.

A collection may run within anything that allocates, also while a lock is held; so what it calls
here takes no lock and touches nothing that does. Python runs one collection at a time.
"""

import gc
from collections.abc import Mapping
from time import perf_counter
from typing import Final

from heatshield.metrics.distribution import Distribution

__all__ = ["GC_PAUSES", "GcPauses"]

BUCKETS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
)  # fmt: skip
"""From what the youngest generation takes to what a heap of millions of objects does."""


class GcPauses:
    """Durations of collections by generation, from :meth:`install` to :meth:`remove`."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._by_generation: dict[int, Distribution] = {}

    def install(self) -> None:
        """Measure from now on."""
        if self._noticed not in gc.callbacks:
            gc.callbacks.append(self._noticed)

    def remove(self) -> None:
        """Measure no more; what was measured stays."""
        if self._noticed in gc.callbacks:
            gc.callbacks.remove(self._noticed)

    def after_fork(self) -> None:
        """Start anew in a child process."""
        self._began_s = None
        self._by_generation = {}

    def _noticed(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._began_s = perf_counter()
        elif self._began_s is not None:
            paused_s = perf_counter() - self._began_s
            self._began_s = None
            generation = info["generation"]
            pauses = self._by_generation.get(generation)
            if pauses is None:
                pauses = self._by_generation[generation] = Distribution(BUCKETS_S)
            pauses.add(paused_s)

    def counts(self) -> dict[str, Distribution]:
        """Pauses by generation."""
        pauses = sorted(self._by_generation.copy().items())
        return {str(generation): one.copy() for generation, one in pauses}


GC_PAUSES: Final = GcPauses()
"""This process's."""
