"""Which instances of which service are alive, how much they can compute, what they enforce."""

from dataclasses import dataclass, replace
from typing import Final

from heatshield.contract import StateVersion

__all__ = ["LIVE_S", "MAX_INSTANCES", "Instance", "Instances"]

LIVE_S: Final = 30.0
"""Seconds without a word after which an instance no longer counts: three renewals were lost."""

MAX_INSTANCES: Final = 20_000
"""Instances remembered, as (service, instance); the one that was silent longest goes first."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a service.

    Attributes:
        service: its service.
        instance: its id.
        workers: requests it can compute at once.
        seen_s: when it last spoke.
        applied: the breaker state it last said it enforces.
    """

    service: str
    instance: str
    workers: int
    seen_s: float
    applied: StateVersion | None = None


class Instances:
    """The instances that spoke lately. Times are seconds on a clock that never goes back."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Instance] = {}

    def attend(
        self,
        service: str,
        instance: str,
        workers: int,
        now: float,
        applied: StateVersion | None = None,
    ) -> bool:
        """An instance spoke.

        Returns:
            Whether it was not alive before.
        """
        key = (service, instance)
        known = self._known.pop(key, None)  # and in again at the end: the dict is by silence
        fresh = Instance(service, instance, workers, now, applied)
        if known is not None and applied is None:
            fresh = replace(fresh, applied=known.applied)
        self._known[key] = fresh
        if len(self._known) > MAX_INSTANCES:
            del self._known[next(iter(self._known))]
        return known is None or not _alive(known, now)

    def find(self, service: str, instance: str, now: float) -> Instance | None:
        """One that is alive, however many there are; ``None``: it is not."""
        known = self._known.get((service, instance))
        return known if known is not None and _alive(known, now) else None

    def live(self, now: float) -> tuple[Instance, ...]:
        """Those that are alive, the one that was silent longest first."""
        return tuple(row for row in self._known.values() if _alive(row, now))

    def capacities(self, now: float) -> dict[str, float]:
        """Workers of live instances, that is, capacity for busy load, by service and by its name.

        The order is that of names, not that in which threads brought instances.
        """
        workers: dict[str, float] = {}
        for row in self.live(now):
            workers[row.service] = workers.get(row.service, 0.0) + row.workers
        return dict(sorted(workers.items()))

    def behind(self, at: StateVersion, now: float) -> tuple[Instance, ...]:
        """Live instances that have not said that they enforce ``at`` or later."""
        return tuple(row for row in self.live(now) if row.applied is None or row.applied < at)

    def forget(self, now: float) -> tuple[Instance, ...]:
        """Drop the dead ones; returns them."""
        dead = tuple(row for row in self._known.values() if not _alive(row, now))
        for row in dead:
            del self._known[(row.service, row.instance)]
        return dead


def _alive(row: Instance, now: float) -> bool:
    return now - row.seen_s <= LIVE_S
