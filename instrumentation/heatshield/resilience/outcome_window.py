"""The outcomes of the requests of the last seconds, in buckets, as Armeria's sliding window counts.

A bucket begins with a request and is complete once a request comes ``update_s`` later. Only
complete buckets are read, so the request that completes one is not yet among them.
"""

from collections import deque
from typing import NamedTuple

__all__ = ["Counts", "Window"]


class Counts(NamedTuple):
    """Requests of some time, and how many of them failed or were slow."""

    requests: int = 0
    failures: int = 0
    slow: int = 0


class Window:
    """A sliding window over outcomes. Not safe for threads by itself.

    Args:
        window_s: buckets that began longer ago are forgotten.
        update_s: length of a bucket.
        now: monotonic seconds.
    """

    __slots__ = ("_failures", "_full", "_requests", "_since", "_slow", "_update_s", "_window_s")

    def __init__(self, window_s: float, update_s: float, now: float) -> None:
        self._window_s = window_s
        self._update_s = update_s
        self._full: deque[tuple[float, Counts]] = deque()
        self._since = now
        self._requests = self._failures = self._slow = 0

    def add(self, now: float, *, failed: bool, slow: bool) -> bool:
        """Count one request; returns whether it completed a bucket."""
        complete = now >= self._since + self._update_s
        if complete:
            self._full.append((self._since, self._current))
            self._since = now
            self._requests = self._failures = self._slow = 0
            self._forget(now)
        self._requests += 1
        self._failures += failed
        self._slow += slow
        return complete

    def counts(self, now: float) -> Counts:
        """The sum of the complete buckets that are young enough."""
        self._forget(now)
        requests = failures = slow = 0
        for _, part in self._full:
            requests += part.requests
            failures += part.failures
            slow += part.slow
        return Counts(requests, failures, slow)

    def is_clean(self, now: float) -> bool:
        """Whether no request in it, in complete buckets or not, failed or was slow."""
        full, current = self.counts(now), self._current
        return not (full.failures or full.slow or current.failures or current.slow)

    @property
    def _current(self) -> Counts:
        return Counts(self._requests, self._failures, self._slow)

    def _forget(self, now: float) -> None:
        oldest = now - self._window_s
        while self._full and self._full[0][0] < oldest:
            self._full.popleft()
