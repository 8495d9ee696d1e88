"""Brings the times that processes tell to one axis: the collector's monotonic clock.

A process stamps by its own clock, which may be hours off. What it sends arrives a little after it
was stamped, never before; so the least difference between arrival and stamp of the last minute is
the clocks' difference and the shortest way here (Cristian, "Probabilistic clock synchronization",
1989, has the same for round trips).
"""

from dataclasses import dataclass
from typing import Final

from heatshield.clock import Instant

__all__ = ["SenderClocks"]

GENERATION_S: Final = 30.0
"""Two generations of the least difference are kept, so that a clock that was set is followed."""

FUTURE_S: Final = 0.5
"""A time that lies so far ahead says that its clock was set back since."""

SENDERS_MOST: Final = 10_000


@dataclass(slots=True)
class _Offset:
    young_s: float
    old_s: float
    born_s: float


class SenderClocks:
    """Keeps, for each process, what must be added to its times."""

    def __init__(self) -> None:
        self._offsets: dict[int, _Offset] = {}
        self._base_ns: int | None = None

    def base_ns(self, now: Instant) -> int:
        """What all stamps are told from, nanoseconds since the Unix epoch.

        Seconds since the epoch as a float are exact to a quarter of a microsecond only.
        """
        if self._base_ns is None:
            self._base_ns = now.epoch_ns
        return self._base_ns

    def offset_s(self, instance: int, latest_s: float, now_s: float) -> float:
        """Seconds to add to the times of a process.

        Args:
            instance: the process.
            latest_s: the latest time that its message names, seconds after :meth:`base_ns`.
            now_s: when the message arrived, monotonic seconds.
        """
        seen_s = now_s - latest_s
        known = self._offsets.pop(instance, None)
        if known is None or latest_s + min(known.young_s, known.old_s) > now_s + FUTURE_S:
            known = _Offset(seen_s, seen_s, now_s)
        elif now_s - known.born_s >= GENERATION_S:
            known.old_s, known.young_s, known.born_s = known.young_s, seen_s, now_s
        known.young_s = min(known.young_s, seen_s)
        # Taken out and put back: the dictionary's order is the order of use.
        self._offsets[instance] = known
        if len(self._offsets) > SENDERS_MOST:
            del self._offsets[next(iter(self._offsets))]
        return min(known.young_s, known.old_s)
