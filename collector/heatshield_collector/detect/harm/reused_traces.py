"""Trace ids that more than one user's requests have: they tell no request from another.

Who sends ``traceparent`` chooses the trace id, so all requests may have the same. As a request
counts only so much for its user, they would hide each other.
"""

from typing import Final

import numpy as np

from heatshield_collector.detect.harm.recent import Floats

__all__ = ["ReusedTraces"]

KEPT: Final = 1_000
"""Trace ids that are remembered, those seen last."""


class ReusedTraces:
    """Finds them among the spans that requests begin with."""

    def __init__(self) -> None:
        self._known: dict[float, None] = {}
        self._number = 0

    def note(self, trace: Floats, user: Floats) -> None:
        """Take in the trace ids and users of requests; users below 0 are nobody."""
        named = user >= 0
        traces, of_row = np.unique(trace[named], return_inverse=True)
        if len(traces) == len(of_row):
            return
        low, high = np.full(len(traces), np.inf), np.full(len(traces), -np.inf)
        np.minimum.at(low, of_row, user[named])
        np.maximum.at(high, of_row, user[named])
        for one in traces[low != high].tolist():
            self._known.pop(one, None)
            self._known[one] = None
            if len(self._known) > KEPT:
                del self._known[next(iter(self._known))]

    def told_apart(self, trace: Floats) -> Floats:
        """Numbers of requests: their trace ids, and for those that tell nothing, each its own."""
        if not self._known:
            return trace
        shared = np.isin(trace, np.fromiter(self._known, dtype=np.float64))
        count = int(shared.sum())
        if not count:
            return trace
        found = trace.copy()
        found[shared] = -np.arange(self._number + 1, self._number + count + 1) - 0.5
        self._number += count
        return found
