"""Probes: half-open lets a few calls through, at one instance, to see whether the load is gone.

One instance of the fleet gets the quota, so that the calls let through each second are as many as
said, however many instances there are. It keeps the quota as long as it lives: an instance that was
replaced might not have heard of it. Which one is decided by rendezvous hashing (Thaler and
Ravishankar 1998): collectors that know the same instances choose the same one.
"""

import hashlib
from collections.abc import Collection
from typing import Final

from heatshield.call_key import CallKey

__all__ = ["CLEAN_STEP_S", "FIRST_RATE_PER_S", "prober_for", "rate_after"]

FIRST_RATE_PER_S: Final = 1.0
"""Calls a second that half-open lets through at first."""

CLEAN_STEP_S: Final = 2.0
"""Seconds of low demand after which the rate doubles."""

_MOST_RATE_PER_S: Final = 64.0


def prober_for(key: CallKey, instances: Collection[str], current: str = "") -> str:
    """The instance that probes a key; empty: there is none.

    Args:
        key: of the breaker.
        instances: that live and enforce the key.
        current: has the quota now, and keeps it while it is among them.
    """
    if current in instances:
        return current
    return max(instances, key=lambda name: _weight(key, name), default="")


def rate_after(clean_s: float, first_per_s: float = FIRST_RATE_PER_S) -> float:
    """Calls a second that are let through after so many seconds of low demand."""
    steps = int(max(0.0, clean_s) / CLEAN_STEP_S)
    return min(_MOST_RATE_PER_S, first_per_s * 2.0 ** min(steps, 16))


def _weight(key: CallKey, instance: str) -> bytes:
    return hashlib.blake2b(f"{key.text}\0{instance}".encode(), digest_size=16).digest()
