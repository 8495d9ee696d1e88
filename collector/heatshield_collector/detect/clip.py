"""How much of a request counts towards a trip, and which requests were the costliest.

A request counts at most a fraction of the floor within a window, however many pieces it arrives in.
What has been counted is remembered in counters that requests share by hash (a Count-Min sketch of
one row: Cormode and Muthukrishnan, "An Improved Data Stream Summary", 2005), so memory is flat and
no piece is too small to be remembered. Requests that share a counter count less than they might,
never more: an error here can't cut anybody.
"""

from array import array
from typing import Final

__all__ = ["Clip", "Evidence"]

LOG2_COUNTERS: Final = 18
"""Counters of a generation: 2**18, 2 MiB. With 20,000 requests/s over ten seconds every second one
shares, and shares some milliseconds, where the clip is a hundred or more."""

TRACES: Final = 3
"""Evidence kept for a key."""

EVIDENCE_MOST: Final = 10_000
"""Keys that evidence is kept for."""

EVIDENCE_S: Final = 60.0
"""Age at which a trace is no evidence any more for what happens now."""


class Clip:
    """Counts each request up to a limit. Two generations, each as long as the window.

    Args:
        window_s: length of the window it feeds, seconds.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._young = _counters()
        self._old = _counters()
        self._born_s = 0.0

    def counts(self, trace: int, key: str, busy_us: int, limit_us: int, now_s: float) -> int:
        """Microseconds of this piece that count.

        Args:
            trace: which request.
            key: whose and which call.
            busy_us: what the piece cost.
            limit_us: what the whole request may count within a window.
            now_s: monotonic seconds.
        """
        self._rotate(now_s)
        at = hash((trace, key)) & (2**LOG2_COUNTERS - 1)
        room = limit_us - self._young[at] - self._old[at]
        counted = max(0, min(busy_us, room))
        self._young[at] += counted
        return counted

    def _rotate(self, now_s: float) -> None:
        if now_s - self._born_s >= self._window_s:
            self._old, self._young, self._born_s = self._young, _counters(), now_s


def _counters() -> "array[int]":
    return array("q", bytes(8 * 2**LOG2_COUNTERS))


class Evidence:
    """The costliest recent requests of each key, in bounded memory."""

    def __init__(self) -> None:
        self._traces: dict[str, list[tuple[int, str, float]]] = {}

    def offer(self, key: str, cost: int, trace_id: str, now_s: float) -> None:
        """Keep a request if it is among the costliest of its key."""
        rows = self._traces.pop(key, [])
        rows = [row for row in rows if row[1] != trace_id and now_s - row[2] < EVIDENCE_S]
        rows.append((cost, trace_id, now_s))
        # Taken out and put back: the dictionary's order is the order of use.
        self._traces[key] = sorted(rows, reverse=True)[:TRACES]
        if len(self._traces) > EVIDENCE_MOST:
            del self._traces[next(iter(self._traces))]

    def of(self, key: str) -> list[str]:
        """Hexadecimal trace ids, the costliest first."""
        return [trace_id for _, trace_id, _ in self._traces.get(key, [])]
