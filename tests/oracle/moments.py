"""Moments on both axes of time, for tests that count in seconds."""

from typing import Final

from heatshield.clock import Instant, ManualClock, Waitable

EPOCH_S: Final = 1_700_000_000
"""What the wall clock shows when the monotonic clock shows 0."""


def at(seconds: float) -> Instant:
    """The moment at which the monotonic clock shows so much."""
    return Instant(seconds, EPOCH_S * 10**9 + round(seconds * 1e9))


class PassingClock(ManualClock):
    """A clock on which every wait for an event is over at once, with its time passed.

    Attributes:
        waits: seconds of each wait, in order.
    """

    def __init__(self) -> None:
        super().__init__(monotonic_s=0.0)
        self.waits: list[float] = []

    def wait(self, event: Waitable, seconds: float | None = None) -> bool:
        """Let the time pass, unless the event is set already."""
        assert seconds is not None, "it would never end"
        self.waits.append(seconds)
        if not event.is_set():
            self.advance(seconds)
        return event.is_set()
