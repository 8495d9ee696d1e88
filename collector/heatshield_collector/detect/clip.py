"""How much of a request counts towards a trip.

A request counts at most a fraction of the floor within a window, however many pieces it arrives in.
What has been counted is remembered in counters that requests share by hash (a Count-Min sketch of
one row: Cormode and Muthukrishnan, "An Improved Data Stream Summary", 2005), so memory is flat and
no piece is too small to be remembered. Requests that share a counter count less than they might,
never more: such an error can't cut a user.

Which requests share a counter is decided by a hash with a seed, not by Python's ``hash``, which
differs from process to process: with one seed a recording gives the same findings in any process.
A sender that knew the seed could choose trace ids whose requests all share one counter, and so hide
a hot user; so a collector draws its seed at random. (A sender can always give all requests one
trace id; they count as one request then.)
"""

from collections.abc import Sequence
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

__all__ = ["Clip", "counters_of", "hashes_of"]

Integers = npt.NDArray[np.int64]

LOG2_COUNTERS: Final = 18
"""Counters of a generation: 2**18, 2 MiB. With 20,000 requests/s over ten seconds every second one
shares, and shares some milliseconds, where the clip is a hundred or more."""

_MIX: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""Multipliers of SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA 2014): each bit in moves each
bit out."""


def counters_of(
    traces: npt.NDArray[np.uint64], keys: Sequence[str], of_row: npt.NDArray[np.integer], seed: int
) -> Integers:
    """The counter of each request on each key.

    Args:
        traces: one number a request.
        keys: texts of the keys that they are counted for.
        of_row: which of them each request is counted for.
        seed: 64 bits.
    """
    mixed = hashes_of(traces, keys, of_row, seed)
    counters: Integers = (mixed >> np.uint64(64 - LOG2_COUNTERS)).astype(np.int64)
    return counters


def hashes_of(
    traces: npt.NDArray[np.uint64], keys: Sequence[str], of_row: npt.NDArray[np.integer], seed: int
) -> npt.NDArray[np.uint64]:
    """64 bits for each request on each key, of which the counter has the first."""
    named = np.fromiter((crc32(key.encode()) for key in keys), dtype=np.uint64, count=len(keys))
    named = named[of_row]
    mixed: npt.NDArray[np.uint64] = traces ^ np.uint64(seed) ^ (named << np.uint64(32) | named)
    for shift, factor in zip((30, 27), _MIX, strict=True):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
    return mixed


class Clip:
    """Counts each request up to a limit. Two generations, each as long as the window.

    Args:
        window_s: length of the window it feeds, seconds.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._young = _no_counts()
        self._old = _no_counts()
        self._born_s = 0.0

    def counts(
        self, counters: Integers, busy_us: Integers, limit_us: Integers, now_s: float
    ) -> Integers:
        """Microseconds that count, of pieces of requests that came together.

        Args:
            counters: of the requests, from :func:`counters_of`.
            busy_us: what each piece cost.
            limit_us: what the whole request of each piece may count within a window.
            now_s: monotonic seconds.
        """
        if now_s - self._born_s >= self._window_s:
            self._old, self._young, self._born_s = self._young, _no_counts(), now_s
        counted = np.zeros(len(counters), dtype=np.int64)
        rest = np.arange(len(counters))
        # Pieces that share a counter count one after the other.
        while len(rest):
            _, first = np.unique(counters[rest], return_index=True)
            rows = rest[first]
            at = counters[rows]
            room = limit_us[rows] - self._young[at] - self._old[at]
            counted[rows] = np.maximum(0, np.minimum(busy_us[rows], room))
            self._young[at] += counted[rows]
            rest = np.delete(rest, first)
        return counted


def _no_counts() -> Integers:
    # The operating system has zeros at hand; of most pages none is ever written.
    return np.zeros(2**LOG2_COUNTERS, dtype=np.int64)
