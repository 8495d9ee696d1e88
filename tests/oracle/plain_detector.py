"""The simplest detector there is: exact sums of ten seconds in a plain dictionary, no sketch."""

from collections import deque
from collections.abc import Callable
from typing import Final

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield_collector.detect import Finding
from heatshield_collector.link import Linked

WINDOW_S: Final = 10.0


class PlainSums:
    """Names each user whose busy time on a call is at least a tenth of the service's capacity.

    Memory grows with the users of ten seconds, which is why it is an oracle and not a product.
    """

    def __init__(self, capacity: Callable[[str], float]) -> None:
        self._capacity = capacity
        self._recent: deque[tuple[float, CallKey, int]] = deque()

    def observe(self, linked: Linked, instant: Instant) -> bool:
        for row in linked.charges.to_pylist():
            if row["user"] is not None:
                key = CallKey(DEFAULT_TENANT, row["user"], row["service"], row["call"])
                self._recent.append((instant.monotonic_s, key, row["busy_us"]))
        return False

    def evaluate(self, instant: Instant) -> list[Finding]:
        while self._recent and self._recent[0][0] <= instant.monotonic_s - WINDOW_S:
            self._recent.popleft()
        busy_us: dict[CallKey, int] = {}
        for _, key, more_us in self._recent:
            busy_us[key] = busy_us.get(key, 0) + more_us
        found = []
        for key, spent_us in sorted(busy_us.items()):
            load, floor = spent_us / 1e6 / WINDOW_S, self._capacity(key.service) / 10
            if load >= floor:
                reason = f"load {load:.2f} reaches the floor of {floor:.2f}"
                found.append(Finding("plain", key, "busy", "10s", load, 0.0, reason))
        return found
