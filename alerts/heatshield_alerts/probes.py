"""Probes: half-open lets a few calls through, at one instance, to see whether the load is gone.

One instance of the fleet gets the quota, so that the calls let through each second are as many as
said, however many instances there are. It keeps the quota as long as it lives. An instance that is
silent may go on probing, as it has not heard that it is replaced, until its lease ends: so long no
other instance gets the quota. Which one does is decided by rendezvous hashing (Thaler and
Ravishankar 1998): collectors that know the same instances choose the same one.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from heatshield.call_key import CallKey
from heatshield.contract import BreakerEntry

__all__ = ["CLEAN_STEP_S", "FIRST_RATE_PER_S", "Probers", "prober_for", "rate_after"]

FIRST_RATE_PER_S: Final = 1.0
"""Calls a second that half-open lets through at first."""

CLEAN_STEP_S: Final = 2.0
"""Seconds of low demand after which the rate doubles."""

_MOST_RATE_PER_S: Final = 64.0


@dataclass(slots=True)
class _Turn:
    instance: str
    lease_s: float
    over_s: float | None = None  # when its lease ends surely; None: it has the quota

    def withdrawn(self, now: float) -> float:
        """It has the quota no more, from now on at the latest; when its lease ends surely."""
        if self.over_s is None:
            self.over_s = now + self.lease_s
        return self.over_s


class Probers:
    """Which instance has the quota of each key, and which one may not know yet that it has not.

    Times are seconds on a clock that never goes back.
    """

    def __init__(self) -> None:
        self._turns: dict[CallKey, _Turn] = {}
        self._quiet_until_s = float("-inf")

    def choose(self, key: CallKey, instances: Collection[str], now: float, lease_s: float) -> str:
        """The instance that is granted the quota of a key from now on; empty: none is.

        Args:
            key: of the breaker.
            instances: that live and enforce the key.
            now: the time.
            lease_s: for how long clients may enforce what they are granted.
        """
        turn = self._turns.get(key)
        if turn is not None and turn.instance not in instances and now < turn.withdrawn(now):
            return ""
        if turn is None and now < self._quiet_until_s:
            return ""
        kept = turn is not None and turn.instance in instances
        name = turn.instance if turn is not None and kept else prober_for(key, instances)
        if name:
            self._turns[key] = _Turn(name, lease_s)
        return name

    def restored(self, entry: BreakerEntry, now: float) -> None:
        """An earlier collector granted this entry, and its prober, if it has one, the quota.

        Which instances it withdrew the quota from is not known: others wait for a lease. What a
        person holds is not probed, and its lease may be very long.
        """
        lease_s = entry.lease_ms / 1_000
        if not entry.issuer.startswith("human:"):
            self._quiet_until_s = max(self._quiet_until_s, now + lease_s)
        if entry.prober:
            self._turns[entry.key] = _Turn(entry.prober, lease_s)

    def forget(self, probed: Collection[CallKey], now: float) -> None:
        """Keys that are not among these are not half-open any more."""
        for key in [one for one in self._turns if one not in probed]:
            if now >= self._turns[key].withdrawn(now):
                del self._turns[key]


def prober_for(key: CallKey, instances: Collection[str]) -> str:
    """The instance that is to probe a key, of those that live and enforce it; empty: none."""
    return max(instances, key=lambda name: _weight(key, name), default="")


def rate_after(clean_s: float, first_per_s: float = FIRST_RATE_PER_S) -> float:
    """Calls a second that are let through after so many seconds of low demand."""
    steps = int(max(0.0, clean_s) / CLEAN_STEP_S)
    return min(_MOST_RATE_PER_S, first_per_s * 2.0 ** min(steps, 16))


def _weight(key: CallKey, instance: str) -> bytes:
    return hashlib.blake2b(f"{key.text}\0{instance}".encode(), digest_size=16).digest()
