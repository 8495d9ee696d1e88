"""The hot-user rule: pure, values in and a verdict with its reason out.

A user is hot on a call when the *lower bound* of his load there, over one second and with every
request counted at most a quarter of the floor, reaches the floor (3 % of the service's capacity)
and is more than five times his own load of the five minutes before. A slow companion looks at ten
seconds. Measured on normal Zipf traffic neither had a false alarm, where a threshold on a user's
share had one in nearly every window: the top user of a skewed population always has a large share.
"""

from dataclasses import dataclass
from typing import Final

from heatshield_collector.detect.windows import WindowName

__all__ = ["FAST", "SLOW", "HotRule", "Observation", "Verdict", "judge"]


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
class Observation:
    """What was seen of one user on one call.

    Attributes:
        load: lower bound of the clipped load over the rule's window.
        baseline: upper bound of his own load over the five minutes before.
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
            False, f"load {seen.load:.3f} is usual for him: his baseline is {seen.baseline:.3f}"
        )
    return Verdict(
        True,
        f"keeps at least {seen.load:.2f} of {seen.capacity:g} workers busy over {rule.window} "
        f"(floor {floor:.2f}, his own 5-minute baseline {seen.baseline:.3f})",
    )
