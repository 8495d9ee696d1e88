"""Charges in, findings and loads out.

Loads are kept by user and call (what is cut), by user, and by call (where the cost arose: a
backend's time counts there as the backend's). Writers and readers are different threads; one lock
guards the sketches and is held for a few milliseconds at most.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from heatshield_collector.detect.active_users import ActiveUsers
from heatshield_collector.detect.clip import Clip, Evidence
from heatshield_collector.detect.findings import Finding, FindingClass, Key
from heatshield_collector.detect.hot_user import FAST, SLOW, HotRule, Observation, judge
from heatshield_collector.detect.sketch import Hitter
from heatshield_collector.detect.windows import WINDOWS_S, WindowName, Windows
from heatshield_collector.link import UNKNOWN
from heatshield_collector.link.charges import by_call, by_request, call_of, sums

__all__ = ["COSTS", "Detector", "Load", "Profile", "Rules"]

COSTS: Final = {"busy": ("busy_us", 1e-6), "calls": ("calls", 1.0), "elements": ("elements", 1.0)}
"""Cost to the charges' column and to its unit's size in seconds or pieces."""

EVIDENCE_PIECE: Final = 8
"""Only pieces of at least this fraction (an eighth) of the clip are worth keeping as evidence."""

HEAVY_SHARE: Final = 0.05
"""Part of all busy load over 10 s at which a user is heavy: worth a look, no more."""


class Load(NamedTuple):
    """The load of a key: cost per second. For busy time that is busy seconds per second."""

    key: Key
    load: float
    lower: float
    upper: float


class Profile(NamedTuple):
    """What is known of one user on one call.

    Attributes:
        baseline: upper bound of his busy load over the five minutes before.
        cost_per_call: busy seconds of one of his calls, over the last ten seconds.
        trace_ids: his costliest recent requests, hexadecimal.
    """

    baseline: float
    cost_per_call: float
    trace_ids: list[str]


@dataclass(frozen=True, slots=True)
class Rules:
    """The hot-user rules in force."""

    fast: HotRule = FAST
    slow: HotRule = SLOW

    @classmethod
    def tuned(cls, *, share: float, ratio: float, least: float) -> "Rules":
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


@dataclass(slots=True)
class _Trip:
    """A rule with the clipped loads it is judged on."""

    rule: HotRule
    clip: Clip = field(init=False)
    windows: Windows = field(default_factory=Windows)

    def __post_init__(self) -> None:
        self.clip = Clip(self.rule.window_s)


class Detector:
    """Keeps loads and names hot and heavy users.

    Args:
        capacity: workers of a service, from its live instances.
        rules: the hot-user rules.
    """

    def __init__(self, capacity: Callable[[str], float], rules: Rules | None = None) -> None:
        rules = rules or Rules()
        self._capacity = capacity
        self._trips = [_Trip(rules.fast), _Trip(rules.slow)]
        self._by_user_call = {cost: Windows() for cost in COSTS}
        self._by_user = {cost: Windows() for cost in COSTS}
        self._by_call = {cost: Windows() for cost in (*COSTS, "errors")}
        self._evidence = Evidence()
        self._active = ActiveUsers()
        self._lock = threading.Lock()

    def observe(self, charges: pa.Table, now_s: float) -> bool:
        """Take in charges (``link.CHARGES``) that were received at ``now_s``, monotonic seconds.

        Returns:
            Whether a request among them was as costly as one may count: then somebody may be hot.
        """
        if not charges.num_rows:
            return False
        requests = by_request(charges)
        by_key = sums(requests, ["key"])
        keys = by_key.column("key").to_pylist()
        by_user = sums(requests, ["user"])
        users = by_user.column("user").to_pylist()
        summed, calls = by_call(charges)
        with self._lock:
            for cost, (column, _) in COSTS.items():
                self._by_user_call[cost].add(keys, by_key.column(column).to_pylist(), now_s)
                self._by_user[cost].add(users, by_user.column(column).to_pylist(), now_s)
                self._by_call[cost].add(calls, summed.column(column).to_pylist(), now_s)
            self._active.add(users, now_s)
            self._by_call["errors"].add(calls, summed.column("errors").to_pylist(), now_s)
            return self._clip(requests, now_s)

    def _clip(self, requests: pa.Table, now_s: float) -> bool:
        """Feed the trips' windows: each request counts at most its rule's clip.

        Returns:
            Whether one reached it.
        """
        eligible = requests.filter(pc.field("eligible"))
        keys, traces, services, busy = (
            eligible.column(name).to_pylist() for name in ("key", "trace", "service", "busy_us")
        )
        limits = {service: self._limits_us(service) for service in set(services)}
        for at, one in enumerate(self._trips):
            counts = one.clip.counts
            weights = [
                counts(trace, key, busy_us, limits[service][at], now_s)
                for trace, key, service, busy_us in zip(traces, keys, services, busy, strict=True)
            ]
            one.windows.add(keys, weights, now_s)
        reached = False
        for row, (service, busy_us) in enumerate(zip(services, busy, strict=True)):
            if busy_us * EVIDENCE_PIECE >= limits[service][0]:
                trace_id = eligible.column("trace_id")[row].as_py().hex()
                self._evidence.offer(keys[row], busy_us, trace_id, now_s)
                reached = reached or busy_us >= limits[service][0]
        return reached

    def _limits_us(self, service: str) -> list[int]:
        """What a request to this service may count, by trip."""
        capacity = self._capacity(service)
        return [round(one.rule.clip_s(capacity) * 1e6) for one in self._trips]

    def evaluate(self, now_s: float) -> list[Finding]:
        """Who is hot or heavy now; one finding a key and class."""
        with self._lock:
            hot = {
                finding.key: finding for trip in self._trips for finding in self._hot(trip, now_s)
            }
            return [*hot.values(), *self._heavy(now_s)]

    def _hot(self, trip: _Trip, now_s: float) -> list[Finding]:
        found = []
        rule = trip.rule
        # The smallest floor there is: most users are under it, and need no further look.
        least = round(rule.least * rule.window_s * 1e6)
        for hitter in trip.windows.window(rule.window, now_s).surely_over(max(1, least - 1)):
            key = Key.of(hitter.key)
            capacity = self._capacity(key.service)
            load = hitter.lower / 1e6 / rule.window_s
            baseline = self._baseline(hitter.key, now_s)
            verdict = judge(rule, Observation(load, baseline, capacity))
            if verdict.hot and key.user != UNKNOWN:
                found.append(
                    self._finding("hot", key, rule.window, baseline, verdict.reason, now_s)
                )
        return found

    def _heavy(self, now_s: float) -> list[Finding]:
        busy = self._by_user_call["busy"].window("10s", now_s)
        least = max(HEAVY_SHARE * busy.total, FAST.least * 10 * 1e6)
        found = []
        for hitter in busy.surely_over(round(least) - 1):
            key = Key.of(hitter.key)
            if key.user != UNKNOWN:
                reason = f"{hitter.lower / busy.total:.0%} of all busy time over 10s is his"
                baseline = self._baseline(hitter.key, now_s)
                found.append(self._finding("heavy", key, "10s", baseline, reason, now_s))
        return found

    def _finding(
        self,
        klass: FindingClass,
        key: Key,
        window: WindowName,
        baseline: float,
        reason: str,
        now_s: float,
    ) -> Finding:
        seen = self._by_user_call["busy"].window(window, now_s).bounds(key.text)
        return Finding(
            klass=klass,
            key=key,
            cost="busy",
            window=window,
            load=seen.lower / 1e6 / WINDOWS_S[window],
            baseline=baseline,
            reason=reason,
            trace_ids=self._evidence.of(key.text),
        )

    def _cost_per_call(self, key: str, now_s: float) -> float:
        busy = self._by_user_call["busy"].window("10s", now_s).bounds(key)
        calls = self._by_user_call["calls"].window("10s", now_s).bounds(key)
        return busy.estimate / 1e6 / max(1, calls.estimate)

    def _baseline(self, key: str, now_s: float) -> float:
        sketch, covered_s = self._by_user_call["busy"].baseline(now_s)
        return sketch.bounds(key).upper / 1e6 / covered_s if covered_s else 0.0

    def baseline_of(self, key: Key, now_s: float) -> float:
        """Upper bound of a user's busy load on a call over the five minutes before."""
        with self._lock:
            return self._baseline(key.text, now_s)

    def load_of(self, key: Key, window: WindowName, now_s: float) -> Load:
        """The busy load of one user on one call."""
        with self._lock:
            hitter = self._by_user_call["busy"].window(window, now_s).bounds(key.text)
        return _load(hitter, "busy", window)

    def describe(self, key: Key, now_s: float) -> Profile:
        """What is known of a user on a call, whether or not he stands out."""
        with self._lock:
            return Profile(
                baseline=self._baseline(key.text, now_s),
                cost_per_call=self._cost_per_call(key.text, now_s),
                trace_ids=self._evidence.of(key.text),
            )

    def capacity_of(self, service: str) -> float:
        """Workers of a service."""
        return self._capacity(service)

    def floor_of(self, service: str) -> float:
        """The least load that is hot on a service, in workers."""
        return self._trips[0].rule.floor(self._capacity(service))

    def active_users(self) -> int:
        """About how many users there were in the last minutes."""
        with self._lock:
            return self._active.count()

    def traces_of(self, key: Key) -> list[str]:
        """His costliest recent requests there, hexadecimal."""
        with self._lock:
            return self._evidence.of(key.text)

    def top(
        self, cost: str, window: WindowName, limit: int, now_s: float, by: str = "call"
    ) -> list[Load]:
        """The heaviest users by a cost over a window.

        Args:
            cost: ``busy``, ``calls`` or ``elements``.
            window: over how long.
            limit: most rows.
            now_s: monotonic seconds.
            by: ``call`` for a row each (user, service, call), ``user`` for a row each user, whose
                key then has no service and no call.
        """
        windows = self._by_user_call if by == "call" else self._by_user
        with self._lock:
            hitters = windows[cost].window(window, now_s).top(limit)
        if by == "user":
            hitters = [one._replace(key=Key(one.key, "", "").text) for one in hitters]
        return [_load(hitter, cost, window) for hitter in hitters]

    def total(self, cost: str, window: WindowName, now_s: float) -> float:
        """The load of everybody together."""
        with self._lock:
            total = self._by_user_call[cost].window(window, now_s).total
        return total * COSTS[cost][1] / WINDOWS_S[window]

    def calls(
        self, window: WindowName, limit: int, now_s: float
    ) -> list[tuple[str, str, dict[str, float]]]:
        """(service, call, load by cost) of the busiest calls; backends' operations among them."""
        with self._lock:
            by_cost = {cost: one.window(window, now_s) for cost, one in self._by_call.items()}
            rows = [
                (
                    hitter.key,
                    {cost: one.bounds(hitter.key).estimate for cost, one in by_cost.items()},
                )
                for hitter in by_cost["busy"].top(limit)
            ]
        seconds = WINDOWS_S[window]
        return [
            (
                *call_of(key),
                {
                    cost: value * COSTS.get(cost, ("", 1.0))[1] / seconds
                    for cost, value in of.items()
                },
            )
            for key, of in rows
        ]


def _load(hitter: Hitter, cost: str, window: WindowName) -> Load:
    unit = COSTS[cost][1] / WINDOWS_S[window]
    return Load(
        Key.of(hitter.key), hitter.estimate * unit, hitter.lower * unit, hitter.upper * unit
    )
