"""Tells whether the wall clock may be believed when something is about to be deleted by its age.

A wall clock that stands four days ahead for a minute (a virtual machine resumed, a wrong RTC, a
typing mistake) makes everything look four days old. What is deleted then is gone for good, so
retention waits until the time has gone on evenly for a while.
"""

import logging
from typing import Final

from heatshield.clock import Instant

__all__ = ["JUMP_NS", "SETTLE_S", "BelievedTime"]

_log = logging.getLogger(__name__)

JUMP_NS: Final = 60 * 10**9
"""A wall clock that leaves the monotonic one by this much between two looks has jumped. NTP slews
by 30 ms a minute at most; what is kept is kept for hours."""

SETTLE_S: Final = 1_800.0
"""Seconds after a jump before ages are believed again: longer than the longest poll of NTP
(1,024 s), which is what puts a wrong clock right. The limit by size holds meanwhile."""


class BelievedTime:
    """Compares each look at the wall clock with the one before, the first with the newest row."""

    def __init__(self) -> None:
        self._last: Instant | None = None
        self._believed_from_s = 0.0

    def believed(self, now: Instant, newest_ns: int | None = None) -> bool:
        """Whether ages may be told by this time.

        Args:
            now: the moment.
            newest_ns: when the newest row was written of those that were there at the start,
                nanoseconds since the Unix epoch; looked at in the first call only. ``None``: there
                was no row.
        """
        ahead_ns = self._ahead_ns(now, newest_ns)
        self._last = now
        if abs(ahead_ns) > JUMP_NS:
            self._believed_from_s = now.monotonic_s + SETTLE_S
            _log.warning(
                "the wall clock is %+.0f s off what was expected: nothing is deleted by its age "
                "for %.0f minutes",
                ahead_ns / 1e9,
                SETTLE_S / 60,
            )
        return now.monotonic_s >= self._believed_from_s

    def _ahead_ns(self, now: Instant, newest_ns: int | None) -> int:
        """How far the wall clock is from where it should be, in nanoseconds."""
        if self._last is not None:
            passed_ns = round((now.monotonic_s - self._last.monotonic_s) * 1e9)
            return now.epoch_ns - self._last.epoch_ns - passed_ns
        # Rows that were written while the clock was ahead say nothing against this time.
        return max(0, now.epoch_ns - newest_ns) if newest_ns is not None else 0
