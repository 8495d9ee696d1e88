"""Counts by bucket, with one recent request for each: the parts of a histogram.

Our own class and not ``prometheus_client``'s, because an observation on a request's way costs a
third, an exemplar costs nothing, and that library need not be imported: at its import it decides
between its two kinds of values, and that decision is the service's.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["REQUEST_BUCKETS_S", "Distribution", "Recent"]

REQUEST_BUCKETS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds of durations of requests in seconds, three to a decade; one more bucket takes longer
ones. The collector counts in the same buckets, so that the two can be compared."""


class Recent(NamedTuple):
    """A request that fell into a bucket.

    Attributes:
        trace_id: 128 bits.
        value: the observation.
        at_ns: when, in nanoseconds since the Unix epoch.
    """

    trace_id: int
    value: float
    at_ns: int


class Distribution:
    """Observations by bucket; its owner keeps two threads from adding at once.

    Args:
        bounds: upper bounds of the buckets, inclusive, ascending.

    Attributes:
        counts: observations by bucket, not added up; the last takes those beyond all bounds.
        total: sum of the observations.
        recent: the last request of each bucket that had a trace.
    """

    __slots__ = ("bounds", "counts", "recent", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.recent: list[tuple[int, float, int] | None] = [None] * (len(bounds) + 1)

    def add(self, value: float, trace_id: int = 0, at_ns: int = 0) -> None:
        """Count one observation.

        Args:
            value: in the unit of the bounds.
            trace_id: of the request it was made in; 0 for none.
            at_ns: when, nanoseconds since the Unix epoch; only for the exemplar.
        """
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.total += value
        if trace_id:
            self.recent[bucket] = (trace_id, value, at_ns)

    def copy(self) -> "Distribution":
        """The counts so far."""
        copied = Distribution(self.bounds)
        copied.counts, copied.total = self.counts.copy(), self.total
        copied.recent = self.recent.copy()
        return copied

    def cumulative(self) -> list[tuple[str, int, Recent | None]]:
        """Each bucket as Prometheus has it: upper bound, count of all up to it, exemplar."""
        rows: list[tuple[str, int, Recent | None]] = []
        so_far = 0
        for bound, count, recent in zip(
            (*map(str, self.bounds), "+Inf"), self.counts, self.recent, strict=True
        ):
            so_far += count
            rows.append((bound, so_far, Recent(*recent) if recent else None))
        return rows
