"""The costliest recent requests of each user on each call, in bounded memory."""

import threading
from typing import Final

__all__ = ["EVIDENCE_MOST", "EVIDENCE_S", "TRACES", "Evidence"]

TRACES: Final = 3
"""Requests kept for a key."""

EVIDENCE_MOST: Final = 10_000
"""Keys that requests are kept for; the key that was longest without a new one goes first."""

EVIDENCE_S: Final = 60.0
"""Age at which a request is no evidence any more for what happens now."""


class Evidence:
    """Keeps trace ids by the text of a key. Thread-safe."""

    def __init__(self) -> None:
        self._traces: dict[str, list[tuple[int, str, float]]] = {}
        self._lock = threading.Lock()

    def offer(self, key: str, cost: int, trace_id: str, now_s: float) -> None:
        """Keep a request if it is among the costliest of its key.

        Args:
            key: text of the key.
            cost: what the request cost; only its order matters.
            trace_id: hexadecimal.
            now_s: monotonic seconds.
        """
        with self._lock:
            rows = self._traces.pop(key, [])
            rows = [row for row in rows if row[1] != trace_id and now_s - row[2] < EVIDENCE_S]
            rows.append((cost, trace_id, now_s))
            # Taken out and put back: the dictionary's order is the order of use.
            self._traces[key] = sorted(rows, reverse=True)[:TRACES]
            if len(self._traces) > EVIDENCE_MOST:
                del self._traces[next(iter(self._traces))]

    def of(self, key: str) -> list[str]:
        """Hexadecimal trace ids of the requests of a key, the costliest first."""
        with self._lock:
            return [trace_id for _, trace_id, _ in self._traces.get(key, [])]
