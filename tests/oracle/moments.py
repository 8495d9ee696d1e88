"""Moments on both axes of time, for tests that count in seconds."""

from typing import Final

from heatshield.clock import Instant

EPOCH_S: Final = 1_700_000_000
"""What the wall clock shows when the monotonic clock shows 0."""


def at(seconds: float) -> Instant:
    """The moment at which the monotonic clock shows so much."""
    return Instant(seconds, EPOCH_S * 10**9 + round(seconds * 1e9))
