"""Recent requests of each user on each call that show a finding, in bounded memory."""

import threading
from typing import Final, NamedTuple

__all__ = ["EVIDENCE_MOST", "EVIDENCE_S", "KEPT", "Evidence"]

KEPT: Final = 8
"""Requests kept for a key: the costliest, and the newest ones, of which one is typical."""

EVIDENCE_MOST: Final = 10_000
"""Keys that requests are kept for; the key that was longest without a new one goes first."""

EVIDENCE_S: Final = 60.0
"""Age at which a request is no evidence any more for what happens now."""


class _Request(NamedTuple):
    """A request; of those of one moment the costlier counts as the later, so that the order in
    which a batch has them makes no difference.
    """

    at_s: float
    cost: int
    trace_id: str


class Evidence:
    """Keeps trace ids by the text of a key. Thread-safe."""

    def __init__(self) -> None:
        self._requests: dict[str, list[_Request]] = {}
        self._lock = threading.Lock()

    def offer(self, key: str, cost: int, trace_id: str, now_s: float) -> None:
        """Keep a request, in place of an older and cheaper one of its key.

        Args:
            key: text of the key.
            cost: what the request cost; only its order matters.
            trace_id: hexadecimal.
            now_s: monotonic seconds.
        """
        with self._lock:
            known = self._requests.pop(key, [])
            rows = [row for row in known if row.trace_id != trace_id]
            rows = [row for row in rows if now_s - row.at_s < EVIDENCE_S]
            rows.append(_Request(now_s, cost, trace_id))
            if len(rows) > KEPT:
                worst = max(rows, key=_cost)
                rows.remove(min(row for row in rows if row is not worst))
            # Taken out and put back: the dictionary's order is the order of use.
            self._requests[key] = rows
            if len(self._requests) > EVIDENCE_MOST:
                del self._requests[next(iter(self._requests))]

    def of(self, key: str) -> list[str]:
        """Hexadecimal trace ids of up to three requests of a key: the worst, a typical one, and the
        latest. Of two the worst comes first.
        """
        with self._lock:
            rows = list(self._requests.get(key, ()))
        if not rows:
            return []
        worst = max(rows, key=_cost)
        rows.remove(worst)
        if not rows:
            return [worst.trace_id]
        latest = max(rows)
        rows.remove(latest)
        typical = sorted(rows, key=_cost)[len(rows) // 2 :][:1]
        return [worst.trace_id, *(row.trace_id for row in typical), latest.trace_id]


def _cost(row: _Request) -> tuple[int, float, str]:
    return row.cost, row.at_s, row.trace_id
