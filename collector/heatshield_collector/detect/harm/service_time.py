"""How long a resource served each of the operations on it, from when they began and ended.

What a client measures is the wait in line and the service together. *Waiting in line is harm that
is done to the user, and no load of the user's*, so the two must be told apart. How depends on how
the resource serves:

- :func:`in_line`: one after the other, like Redis. An operation is served from when it was sent, or
  the one before it ended, whichever is later.
- :func:`in_parallel`: all at once, like a database or the threads of a process. While ``n`` run,
  each has an ``n``-th of the resource (processor sharing, Kleinrock 1967).
- :func:`in_turn`: so many at once, and the others wait, like what is behind a pool of connections.
"""

from heapq import heappush, heappushpop
from typing import NamedTuple

import numpy as np

from heatshield_collector.detect.harm.recent import Floats

__all__ = ["Served", "in_line", "in_parallel", "in_turn", "waited_behind"]


class Served(NamedTuple):
    """Seconds of each operation, in the order of the operations.

    Attributes:
        begin_s: when the resource began to serve it.
        service_s: that the resource spent on it.
    """

    begin_s: Floats
    service_s: Floats


def in_line(start_s: Floats, end_s: Floats) -> Served:
    """Of a resource that serves one after the other, in the order in which they were sent.

    A client that is busy reads its answer late, so the order of the answers says little: who read
    the answer first would be charged for all that was served before. But whoever came later was
    served later, so an operation had ended when the first of those after it was answered.

    Args:
        start_s: when each was sent.
        end_s: when each was answered; now, for one that still runs.
    """
    order = np.lexsort((end_s, start_s))
    starts, read = start_s[order], end_s[order]
    # What stands for many that were too short to tell of has no times of its own.
    known = np.where(read > starts, read, np.inf)
    ends = np.minimum.accumulate(known[::-1])[::-1]
    before = np.concatenate([[-np.inf], ends[:-1]])
    ends = np.where(read > starts, ends, read)
    begins = np.minimum(np.maximum(starts, before), ends)
    begin_s, service_s = np.empty_like(starts), np.empty_like(starts)
    begin_s[order], service_s[order] = begins, ends - begins
    return Served(begin_s, service_s)


def in_parallel(start_s: Floats, end_s: Floats, weight: Floats | float = 1.0) -> Served:
    """Of a resource that serves all at once: seconds of the time in which it served any.

    Args:
        start_s: when each began.
        end_s: when each ended; now, for one that still runs.
        weight: the part of its time in which each was there at all, 0 to 1.
    """
    weights = np.broadcast_to(np.asarray(weight, dtype=np.float64), start_s.shape)
    times = np.concatenate([start_s, end_s])
    change = np.concatenate([weights, -weights])
    order = np.argsort(times, kind="stable")
    times = times[order]
    active = np.cumsum(change[order])[:-1]
    # Sums of fractions leave crumbs where nothing runs.
    each = np.diff(times) / np.maximum(active, 1.0)
    shared = np.concatenate([[0.0], np.cumsum(np.where(active > 1e-9, each, 0.0))])  # noqa: PLR2004
    service_s = weights * (np.interp(end_s, times, shared) - np.interp(start_s, times, shared))
    return Served(start_s, service_s)


def in_turn(start_s: Floats, end_s: Floats, servers: int) -> Floats:
    """When each operation began to be served, where so many are at once, and the others wait.

    Args:
        start_s: when each was sent; the first to come is the first to be served.
        end_s: when each was answered; now, for one that still runs.
        servers: how many are served at once.
    """
    begin_s = start_s.copy()
    free: list[float] = []
    for at in np.argsort(start_s, kind="stable").tolist():
        end = float(end_s[at])
        if len(free) < servers:
            heappush(free, end)
            continue
        begin_s[at] = min(end, max(float(start_s[at]), heappushpop(free, end)))
    return begin_s


def waited_behind(served: Served, start_s: Floats, of_culprit: np.ndarray) -> Floats:
    """Seconds that each operation in line waited while the culprit's were served.

    Args:
        served: from :func:`in_line`.
        start_s: when each was sent.
        of_culprit: bool[n], which are the culprit's.
    """
    begins = served.begin_s[of_culprit]
    order = np.argsort(begins)
    begins = begins[order]
    ends = begins + served.service_s[of_culprit][order]
    if not len(begins):
        return np.zeros_like(start_s)
    # The culprit's service until a moment: a line that rises while one of its operations is served.
    moments = np.stack([begins, ends], axis=-1).reshape(-1)
    until = np.stack([np.cumsum(ends - begins) - (ends - begins), np.cumsum(ends - begins)], -1)
    sums = until.reshape(-1)
    waited: Floats = np.interp(served.begin_s, moments, sums) - np.interp(start_s, moments, sums)
    return waited
