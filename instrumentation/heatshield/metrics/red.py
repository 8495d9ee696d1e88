"""Rate, errors and duration of the calls of this process, counted on each request's way.

A request costs two small additions and a look-up in a dictionary, all under one lock, some 1.2 µs
with the count of what is in flight. A thread must be able to take the lock twice: a destructor that
ends a span may run in the middle of a count.
"""

from typing import Final, Literal, NamedTuple

from heatshield import native
from heatshield.metrics.distribution import REQUEST_BUCKETS_S, Distribution

__all__ = ["MAX_CALLS", "OTHER", "OUTCOMES", "RED", "CallCounts", "Outcome", "Red"]

Outcome = Literal["ok", "error", "rejected"]

OUTCOMES: Final[tuple[Outcome, ...]] = ("ok", "error", "rejected")

MAX_CALLS: Final = 200
"""Calls with series of their own, 18 each. A service has fewer; one with more has ids in its span
names."""

OTHER: Final = "other"
"""The call under which further ones are counted together."""


class CallCounts(NamedTuple):
    """The counts of one call.

    Attributes:
        outcomes: requests by outcome, in the order of :data:`OUTCOMES`.
        durations: of those not rejected; rejections would make a protected call look fast.
    """

    call: str
    outcomes: tuple[int, ...]
    durations: Distribution


class _Totals:
    __slots__ = ("durations", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        self.durations = Distribution(REQUEST_BUCKETS_S)


class Red:
    """Counts of a process; threads may share it.

    Args:
        max_calls: calls with series of their own.
    """

    def __init__(self, max_calls: int = MAX_CALLS) -> None:
        self._max_calls = max_calls
        self.after_fork()

    def after_fork(self) -> None:
        """Start anew in a child process: the parent reports its own counts."""
        self._lock = native.rlock()
        self._calls: dict[str, _Totals] = {}
        self._begun = 0
        self._ended = 0

    def begin(self) -> None:
        """Count a request that begins."""
        with self._lock:
            self._begun += 1

    def end(self) -> None:
        """Count a request that ended."""
        with self._lock:
            self._ended += 1

    def observe(
        self,
        call: str,
        outcome: Outcome,
        duration_s: float,
        trace_id: int = 0,
        end_ns: int = 0,
        *,
        ends: bool = False,
    ) -> None:
        """Count a call that ended.

        Args:
            call: a server span's or a guard's name.
            outcome: how it went.
            duration_s: how long it took.
            trace_id: of its request, for an exemplar; 0 for none.
            end_ns: when it ended, nanoseconds since the Unix epoch.
            ends: it is a request that :meth:`begin` has counted.
        """
        with self._lock:
            if ends:
                self._ended += 1
            totals = self._calls.get(call)
            if totals is None:
                totals = self._totals_of_new(call)
            totals.outcomes[outcome] += 1
            if outcome != "rejected":
                totals.durations.add(duration_s, trace_id, end_ns)

    def _totals_of_new(self, call: str) -> _Totals:
        if len(self._calls) >= self._max_calls:
            call = OTHER
        return self._calls.setdefault(call, _Totals())

    @property
    def in_flight(self) -> int:
        """Requests begun and not ended; in a child process never those of its parent."""
        return max(0, self._begun - self._ended)

    def counts(self) -> list[CallCounts]:
        """All counts, call by call; a request waits for the copy of one call at most."""
        copied = []
        for call, totals in list(self._calls.items()):
            with self._lock:
                counted = tuple(totals.outcomes.values())
                copied.append(CallCounts(call, counted, totals.durations.copy()))
        return copied


RED: Final = Red()
"""This process's."""
