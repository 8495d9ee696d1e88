"""Which instances of which service are alive, how much they can compute, what they enforce.

Capacity decides who is hot, so what one sender says of itself must not move it far: only instances
that send spans or charges count, each as the median of the workers that these have reported, and of
no instance more is believed than one of its service has shown to be busy with. Reading the breaker
state says nothing at all: an image on a web page can do it.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import median_low
from typing import Final

from heatshield.contract import MAX_SPREAD_MS, Report, StateVersion

__all__ = ["LIVE_S", "MAX_INSTANCES", "Instance", "Instances", "spread_ms"]

LIVE_S: Final = 30.0
"""Seconds without a word after which an instance no longer counts: three renewals were lost."""

BELIEVED_WORKERS: Final = 8.0
"""Workers that an instance may have without having shown them, where it does not say how many
processors it has: as many threads are usual."""

BELIEVED_PROCESSORS: Final = 16.0
"""Processors that an instance may have without having shown them to be busy."""

MAX_INSTANCES: Final = 20_000
"""Instances remembered, as (service, instance); the one that was silent longest goes first."""

SPREAD_FROM: Final = 100
"""Instances from which on a fleet spreads its reports of a new version: fewer report at once, so it
is known within milliseconds that all enforce it."""

SPREAD_PER_S: Final = 2_500.0
"""Reports of a new version a second: at 0.1 ms each, a quarter of a processor."""

FOLLOWERS_AGE_S: Final = 0.25
"""Age at which the instances that follow are looked up anew: there may be thousands."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a service.

    Attributes:
        service: its service.
        instance: its id.
        workers: requests it can compute at once; ``None`` until it has reported.
        sends_spans: whether spans or charges have come from it since it is alive.
        seen_s: when it last spoke.
        applied: the breaker state it last said it enforces.
        enforcing: whether it refuses what is granted; not while its kill switch is thrown.
        processors: how many it may use; ``None`` until it has reported charges.
    """

    service: str
    instance: str
    workers: int | None
    sends_spans: bool
    seen_s: float
    applied: StateVersion | None = None
    enforcing: bool = True
    processors: float | None = None

    def believed(self, shown: float) -> float | None:
        """The workers that are believed of it where its service has shown so many to be busy."""
        if self.workers is None:
            return None
        start = BELIEVED_WORKERS
        if self.processors is not None:
            start = min(self.processors, BELIEVED_PROCESSORS)
        return max(1.0, min(self.workers, max(shown, start)))


class Instances:
    """The instances that spoke lately. Times are seconds on a clock that never goes back."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Instance] = {}
        self._followers: dict[str, frozenset[str]] = {}
        self._followers_s = float("-inf")

    def attend(
        self,
        service: str,
        instance: str,
        now: float,
        *,
        workers: int | None = None,
        applied: StateVersion | None = None,
        enforcing: bool | None = None,
        sends_spans: bool = False,
        processors: float | None = None,
    ) -> bool:
        """An instance spoke; what it left out stays as it said before.

        Returns:
            Whether it was not alive before.
        """
        key = (service, instance)
        known = self._known.pop(key, None)  # and in again at the end: the dict is by silence
        if known is None or not _alive(known, now):
            known, arrived = Instance(service, instance, None, False, now), True
        else:
            arrived = False
        self._known[key] = replace(
            known,
            workers=known.workers if workers is None else workers,
            sends_spans=known.sends_spans or sends_spans,
            seen_s=now,
            applied=known.applied if applied is None else applied,
            enforcing=known.enforcing if enforcing is None else enforcing,
            processors=known.processors if processors is None else processors,
        )
        if applied is not None and known.applied is None:
            self._followers_s = float("-inf")
        if len(self._known) > MAX_INSTANCES:
            del self._known[next(iter(self._known))]
        return arrived

    def reported(self, report: Report, now: float) -> bool:
        """An instance has sent a report; whether it was not alive before."""
        return self.attend(
            report.service,
            report.instance,
            now,
            workers=report.workers,
            applied=report.applied,
            enforcing=report.enforcing,
        )

    @property
    def spread_ms(self) -> int:
        """Milliseconds over which all are to spread their reports of a new version."""
        return spread_ms(len(self._known))

    def find(self, service: str, instance: str, now: float) -> Instance | None:
        """One that is alive, however many there are; ``None``: it is not."""
        known = self._known.get((service, instance))
        return known if known is not None and _alive(known, now) else None

    def live(self, now: float) -> tuple[Instance, ...]:
        """Those that are alive, the one that was silent longest first."""
        return tuple(row for row in self._known.values() if _alive(row, now))

    def capacities(
        self, now: float, shown: Callable[[str], float] = lambda _service: 0.0
    ) -> dict[str, float]:
        """Workers, that is, capacity for busy load, of services whose live instances send spans.

        Each such instance counts as the median (the lower of two) of what is believed of those that
        have reported, and as one worker where none has. The order is that of names, not that in
        which threads brought instances.

        Args:
            now: seconds.
            shown: the most workers that an instance of a service has been busy with at once.
        """
        senders: dict[str, list[float | None]] = {}
        for row in self.live(now):
            if row.sends_spans:
                believed = row.believed(shown(row.service))
                senders.setdefault(row.service, []).append(believed)
        return {service: _capacity(senders[service]) for service in sorted(senders)}

    def count(self, service: str, now: float) -> int:
        """Live instances of a service, at least one; without a name: of the largest one."""
        return self.counts((service,), now)[service]

    def counts(self, services: Iterable[str], now: float) -> dict[str, int]:
        """The same for some services, with one look at the instances."""
        found = Counter(row.service for row in self.live(now))
        largest = max(found.values(), default=1)
        return {name: max(1, found[name]) if name else largest for name in services}

    def following(self, service: str, now: float) -> frozenset[str]:
        """The live instances of a service that have said what they enforce; as they were up to a
        quarter of a second ago, as each report asks.
        """
        if now - self._followers_s >= FOLLOWERS_AGE_S or now < self._followers_s:
            found: dict[str, set[str]] = {}
            for row in self._known.values():
                if row.applied is not None and _alive(row, now):
                    found.setdefault(row.service, set()).add(row.instance)
            self._followers = {name: frozenset(those) for name, those in found.items()}
            self._followers_s = now
        return self._followers.get(service, frozenset())

    def behind(self, at: StateVersion, now: float) -> tuple[Instance, ...]:
        """Live instances that have not said that they enforce ``at`` or later."""
        return tuple(row for row in self.live(now) if row.applied is None or row.applied < at)

    def not_enforcing(self, now: float) -> tuple[Instance, ...]:
        """Live instances that refuse no call, because their kill switch is thrown."""
        return tuple(row for row in self.live(now) if not row.enforcing)

    def forget(self, now: float) -> tuple[Instance, ...]:
        """Drop the dead ones; returns them."""
        dead = tuple(row for row in self._known.values() if not _alive(row, now))
        for row in dead:
            del self._known[(row.service, row.instance)]
        return dead


def spread_ms(instances: int) -> int:
    """Milliseconds over which so many instances are to spread their reports of a new version."""
    if instances < SPREAD_FROM:
        return 0
    return min(MAX_SPREAD_MS, round(1_000 * instances / SPREAD_PER_S))


def _capacity(workers: list[float | None]) -> float:
    reported = [count for count in workers if count is not None]
    return len(workers) * (median_low(reported) if reported else 1.0)


def _alive(row: Instance, now: float) -> bool:
    return now - row.seen_s <= LIVE_S
