"""Hot users: decides whether a user burns a service with a load that is not the usual one.

A user is hot on a call when the *lower bound* of the user's load there, over one second and with
every request counted at most a quarter of the floor, reaches the floor (3 % of the service's
capacity) and is more than five times the user's own load of the five minutes before. A slow
companion looks at ten seconds. Measured on normal Zipf traffic neither had a false alarm, where a
threshold on a user's share had one in nearly every window: the top user of a skewed population
always has a large share.

:func:`judge` is the rule, pure: values in, a verdict with its reason out. :class:`HotUser` keeps
the clipped loads that it judges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from heatshield.call_key import CallKey
from heatshield.clock import Instant
from heatshield_collector.detect.clip import Clip, counters_of, hashes_of
from heatshield_collector.detect.cost_windows import CostWindows
from heatshield_collector.detect.findings import Finding
from heatshield_collector.detect.pair_clip import PairClip
from heatshield_collector.detect.protocol import Sources
from heatshield_collector.detect.windows import WindowName
from heatshield_collector.link import Linked
from heatshield_collector.link.reported import Reported

__all__ = [
    "FAST",
    "HOT",
    "SLOW",
    "HotRule",
    "HotRules",
    "HotUser",
    "Observation",
    "Verdict",
    "judge",
]

Integers = npt.NDArray[np.int64]

HOT: Final = "hot"

BURNS_ON_S: Final = 10.0
"""A user who is not hot for so long has stopped to burn."""

FROZEN_S: Final = 3_600.0
"""For so long at most, what a hot user does is not taken for usual; then it is the new usual."""

EVIDENCE_PIECE: Final = 8
"""Only pieces of at least this fraction (an eighth) of the clip are worth keeping as evidence."""


@dataclass(frozen=True, slots=True)
class HotRule:
    """Thresholds of a hot-user rule.

    Attributes:
        window: what the load is taken over.
        window_s: its seconds.
        share: fraction of the service's capacity that makes the floor.
        ratio: times the user's own baseline.
        requests: fewest requests that can reach the floor.
        least: the floor of a service so small that a share of it is noise, in workers.
    """

    window: WindowName
    window_s: float
    share: float
    ratio: float
    requests: int
    least: float

    def floor(self, capacity: float) -> float:
        """The least load that is hot, in workers."""
        return max(self.share * capacity, self.least)

    def clip_s(self, capacity: float) -> float:
        """Busy seconds of one request that count: a fraction of what the floor asks for."""
        return self.floor(capacity) * self.window_s / self.requests


FAST: Final = HotRule(window="1s", window_s=1.0, share=0.03, ratio=5.0, requests=4, least=0.1)
SLOW: Final = HotRule(window="10s", window_s=10.0, share=0.02, ratio=3.0, requests=10, least=0.1)


@dataclass(frozen=True, slots=True)
class HotRules:
    """The hot-user rules in force."""

    fast: HotRule = FAST
    slow: HotRule = SLOW

    @classmethod
    def tuned(cls, *, share: float, ratio: float, least: float) -> "HotRules":
        """With an operator's thresholds; the slow rule keeps its proportions to the fast one."""
        return cls(
            fast=replace(FAST, share=share, ratio=ratio, least=least),
            slow=replace(
                SLOW,
                share=share * SLOW.share / FAST.share,
                ratio=ratio * SLOW.ratio / FAST.ratio,
                least=least,
            ),
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of one user on one call.

    Attributes:
        load: lower bound of the clipped load over the rule's window.
        baseline: upper bound of the user's own load over the five minutes before.
        capacity: workers of the service.
    """

    load: float
    baseline: float
    capacity: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the user is hot, and why or why not."""

    hot: bool
    reason: str


def judge(rule: HotRule, seen: Observation) -> Verdict:
    """Apply a rule to an observation."""
    floor = rule.floor(seen.capacity)
    if seen.load < floor:
        return Verdict(False, f"load {seen.load:.3f} is under the floor of {floor:.3f}")
    if seen.load <= rule.ratio * seen.baseline:
        return Verdict(
            False,
            f"load {seen.load:.3f} is usual for this user: the baseline is {seen.baseline:.3f}",
        )
    return Verdict(
        True,
        f"keeps at least {seen.load:.2f} of {seen.capacity:g} workers busy over {rule.window} "
        f"(floor {floor:.2f}, the user's own 5-minute baseline {seen.baseline:.3f})",
    )


@dataclass(slots=True)
class _Trip:
    """A rule with what it counts of requests that are told one by one, and of reported pairs."""

    rule: HotRule
    clip: Clip = field(init=False)
    pair_clip: PairClip = field(init=False)

    def __post_init__(self) -> None:
        self.clip = Clip(self.rule.window_s)
        self.pair_clip = PairClip(self.rule.window_s)


@dataclass(slots=True)
class _Burn:
    """A user who is hot on a call.

    Attributes:
        baseline: the user's own when it began. Today's has the burning in it.
        since_s: when it began, monotonic seconds.
        last_s: when the user was hot last.
    """

    baseline: float
    since_s: float
    last_s: float


class HotUser:
    """Names each user on a call that a hot-user rule finds hot.

    Args:
        sources: loads, evidence (this detector fills it) and capacities.
        rules: the rules in force.
    """

    def __init__(self, sources: Sources, rules: HotRules) -> None:
        self._sources = sources
        # The slow rule last: where both find a user, its finding stands.
        self._trips = {"fast": _Trip(rules.fast), "slow": _Trip(rules.slow)}
        self._clipped = CostWindows(self._trips)  # by the text of the key
        self._burns: dict[str, _Burn] = {}

    def observe(self, linked: Linked, instant: Instant) -> bool:
        """Count each request up to its clip; urgent if one reached it."""
        requests = linked.requests
        eligible = requests.filter(requests.column("eligible"))
        busy = eligible.column("busy_us").to_numpy()
        limits = self._limits(eligible.column("service"))
        self._count(eligible, busy, limits, instant.monotonic_s)
        fast = limits[0]
        costly = np.flatnonzero(busy >= -(-fast // EVIDENCE_PIECE))
        self._keep_evidence(eligible, costly.tolist(), instant.monotonic_s)
        return bool((busy[costly] >= fast[costly]).any())

    def pairs(self, reported: Reported, instant: Instant) -> bool:
        """Count each reported pair up to what its requests may count; urgent as with spans."""
        rows = np.flatnonzero(reported.eligible & (reported.costs["busy_us"] > 0))
        if not len(rows):
            return False
        busy = reported.costs["busy_us"][rows]
        keys = [reported.keys[row] for row in rows.tolist()]
        limits = self._limits_of(reported.services, reported.service[rows])
        hashes = hashes_of(reported.process[rows], keys, np.arange(len(keys)), self._sources.seed)
        ended, running = reported.ended[rows], reported.open[rows]
        counted = {
            name: trip.pair_clip.counts(hashes, busy, limit, ended, running, instant.monotonic_s)
            for (name, trip), limit in zip(self._trips.items(), limits, strict=True)
        }
        self._clipped.add(keys, counted, instant.monotonic_s)
        fast = limits[0]
        costly = np.flatnonzero(busy >= -(-fast // EVIDENCE_PIECE))
        for at in costly.tolist():
            for trace_id in reversed(reported.trace_ids(int(rows[at]))):
                cost = int(busy[at])
                self._sources.evidence.offer(keys[at], cost, trace_id, instant.monotonic_s)
        return bool((counted["fast"][costly] >= fast[costly]).any())

    def _count(
        self, eligible: pa.Table, busy: Integers, limits: list[Integers], now_s: float
    ) -> None:
        encoded = eligible.column("key").combine_chunks().dictionary_encode()
        keys, of_row = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
        traces = eligible.column("trace").to_numpy()
        counters = counters_of(traces, keys, of_row, self._sources.seed)
        counted = {}
        for (name, trip), limit in zip(self._trips.items(), limits, strict=True):
            counted[name] = np.zeros(len(keys), dtype=np.int64)
            np.add.at(counted[name], of_row, trip.clip.counts(counters, busy, limit, now_s))
        self._clipped.add(keys, counted, now_s)

    def _keep_evidence(self, eligible: pa.Table, rows: list[int], now_s: float) -> None:
        keys, costs, trace_ids = (eligible.column(name) for name in ("key", "busy_us", "trace_id"))
        for row in rows:
            key, cost, trace_id = (column[row].as_py() for column in (keys, costs, trace_ids))
            self._sources.evidence.offer(key, cost, trace_id.hex(), now_s)

    def _limits(self, services: pa.ChunkedArray) -> list[Integers]:
        """For each trip, what each request may count, in microseconds."""
        encoded = services.combine_chunks().dictionary_encode()
        return self._limits_of(encoded.dictionary.to_pylist(), encoded.indices.to_numpy())

    def _limits_of(
        self, services: Sequence[str], of_row: npt.NDArray[np.integer]
    ) -> list[Integers]:
        limits = [self._limits_us(service) for service in services]
        by_trip = np.array(limits, dtype=np.int64).reshape(-1, len(self._trips)).T
        return [limit[of_row] for limit in by_trip]

    def _limits_us(self, service: str) -> list[int]:
        """What a request to this service may count, by trip."""
        capacity = self._sources.capacity(service)
        return [round(trip.rule.clip_s(capacity) * 1e6) for trip in self._trips.values()]

    def evaluate(self, instant: Instant) -> list[Finding]:
        """The hot users of this moment: one finding a key."""
        now_s = instant.monotonic_s
        self._burns = {
            key: burn for key, burn in self._burns.items() if now_s - burn.last_s <= BURNS_ON_S
        }
        found = {
            finding.key: finding
            for name, trip in self._trips.items()
            for finding in self._hot(name, trip, now_s)
        }
        return list(found.values())

    def _hot(self, name: str, trip: _Trip, now_s: float) -> list[Finding]:
        found: list[Finding] = []
        rule, loads = trip.rule, self._sources.loads
        # The smallest floor there is: most users are under it, and need no further look.
        least_us = round(rule.least * rule.window_s * 1e6)
        windows = self._clipped.of(name)
        if windows.most(rule.window, now_s) < least_us:
            return found
        for hitter in windows.window(rule.window, now_s).surely_over(max(1, least_us - 1)):
            key = CallKey.parse(hitter.key)
            if key.user is None:
                continue
            baseline = self._baseline(hitter.key, loads.baseline_of(key, now_s), now_s)
            load = hitter.lower / 1e6 / rule.window_s
            seen = Observation(load, baseline, self._sources.capacity(key.service))
            verdict = judge(rule, seen)
            if verdict.hot:
                burn = self._burns.setdefault(hitter.key, _Burn(baseline, now_s, now_s))
                burn.last_s = now_s
                found.append(
                    Finding(
                        klass=HOT,
                        key=key,
                        cost="busy",
                        window=rule.window,
                        load=loads.load_of(key, rule.window, now_s).lower,
                        baseline=baseline,
                        reason=verdict.reason,
                        trace_ids=self._sources.evidence.of(hitter.key),
                    )
                )
        return found

    def _baseline(self, key: str, baseline: float, now_s: float) -> float:
        """The user's own, before the burning began: else it would be usual after a minute."""
        burn = self._burns.get(key)
        if burn is None or now_s - burn.since_s > FROZEN_S:
            return baseline
        return min(baseline, burn.baseline)
