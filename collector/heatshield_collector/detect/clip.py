"""How much of a request counts towards a trip, and which requests were the costliest.

A request counts at most a fraction of the floor, however many pieces it arrives in: what pieces
of it have counted already is remembered for as long as the window is. Pieces under an eighth of
the clip are not remembered, so a request could overdraw only by arriving in very many tiny pieces.
"""

from typing import Final

__all__ = ["Clip", "Evidence"]

PIECE: Final = 8
"""Only pieces of at least this fraction (an eighth) of the clip are remembered."""

REMEMBERED_MOST: Final = 50_000
"""Requests remembered in a generation; a full one is closed before its time."""

TRACES: Final = 3
"""Evidence kept for a key."""

EVIDENCE_MOST: Final = 10_000
"""Keys that evidence is kept for."""

EVIDENCE_S: Final = 60.0
"""Age at which a trace is no evidence any more for what happens now."""


class Clip:
    """Counts each request once, up to a limit. Two generations, each as long as the window.

    Args:
        window_s: length of the window it feeds, seconds.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._young: dict[tuple[int, str], int] = {}
        self._old: dict[tuple[int, str], int] = {}
        self._born_s = 0.0

    def counts(self, trace: int, key: str, busy_us: int, limit_us: int, now_s: float) -> int:
        """Microseconds of this piece that count.

        Args:
            trace: which request.
            key: whose and which call.
            busy_us: what the piece cost.
            limit_us: what the whole request may count.
            now_s: monotonic seconds.
        """
        if busy_us * PIECE < limit_us:
            return busy_us
        self._rotate(now_s)
        request = (trace, key)
        before = self._young.get(request, 0) or self._old.get(request, 0)
        counted = max(0, min(busy_us, limit_us - before))
        self._young[request] = before + counted
        return counted

    def _rotate(self, now_s: float) -> None:
        if now_s - self._born_s >= self._window_s or len(self._young) >= REMEMBERED_MOST:
            self._old, self._young, self._born_s = self._young, {}, now_s


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
