"""Demand on a broken call: what is admitted, and what the refused calls would have cost."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from heatshield.contract import MAX_REJECTIONS, RENEW_S

__all__ = ["CLEAR_FRACTION", "REJECTION_WINDOW_S", "Demand"]

REJECTION_WINDOW_S: Final = 1.5 * RENEW_S
"""Seconds over which rejected calls are counted: clients report at least every renewal, so a user
who keeps coming always has a report in the window."""

CLEAR_FRACTION: Final = 1 / 3
"""Demand below this part of the trip threshold lets a breaker cool. Apart from the threshold
itself, so that a load around one value does not move it to and fro."""

_MAX_REPORTS: Final = 4_096
"""Reports kept for one entry; beyond it the oldest go, which is hundreds a second."""


@dataclass(slots=True)
class Demand:
    """The demand on one entry's key.

    Attributes:
        threshold: the load that trips.
        cost_per_call: load that one call per second makes; 0 if not known.
        since_s: from when rejected calls can be there.
        low_since_s: since when demand is below :data:`CLEAR_FRACTION` of the threshold.
    """

    threshold: float
    cost_per_call: float
    since_s: float
    low_since_s: float | None = None
    _rejected: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_MAX_REPORTS))

    def reject(self, count: int, now: float) -> None:
        """A client reports that it refused so many calls; more than can be count as the most."""
        if count > 0:
            self._rejected.append((now, min(count, MAX_REJECTIONS)))

    def rejected_per_s(self, now: float) -> float:
        """Calls refused each second, over the last :data:`REJECTION_WINDOW_S`."""
        while self._rejected and now - self._rejected[0][0] > REJECTION_WINDOW_S:
            self._rejected.popleft()
        span_s = min(REJECTION_WINDOW_S, max(1.0, now - self.since_s))
        return sum(count for _, count in self._rejected) / span_s

    def level(self, admitted: float, now: float) -> float:
        """Demand in the unit of the threshold. Infinite when calls are refused of unknown cost."""
        rate = self.rejected_per_s(now)
        if rate and self.cost_per_call <= 0:
            return math.inf
        return admitted + rate * self.cost_per_call

    def observe(self, admitted: float, now: float) -> float:
        """Take note of the demand; keeps :attr:`low_since_s`. Returns it."""
        level = self.level(admitted, now)
        if level >= self.threshold * CLEAR_FRACTION and level > 0:
            self.low_since_s = None
        elif self.low_since_s is None:
            self.low_since_s = now
        return level

    def low_for_s(self, now: float) -> float:
        """Seconds for which demand has been low without a gap."""
        return 0.0 if self.low_since_s is None else now - self.low_since_s
