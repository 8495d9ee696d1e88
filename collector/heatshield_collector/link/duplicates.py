"""Remembers spans that were charged: delivery is at-least-once, so re-delivery is normal.

A span is one (trace, span id, kind, service): Zipkin's shared spans have one id on both sides. Seen
spans are remembered in two generations of a Bloom filter (Bloom, "Space/time trade-offs in hash
coding with allowable errors", CACM 1970), so memory is flat. A false positive leaves a span
uncharged, which can cut no user: at 80,000 spans/s about 0.07 % of them.
"""

from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["SeenSpans", "UnstoredSpans"]

HORIZON_NS: Final = 300 * 10**9
"""How long a span is surely remembered: longer than the retries of most senders last."""

LOG2_BITS: Final = 28
"""Size of a generation: 2**28 bits, 32 MiB."""

GENERATION_MOST: Final = 16_000_000
"""Spans at which a generation is full, 0.2 % false positives; it is then closed before its time."""

GENERATION_LEAST: Final = GENERATION_MOST // 4
"""Spans below which a generation stays open past its time, at 0.001 % false positives: at 1,000
spans/s a span is remembered for an hour, for senders that were cut off that long."""

_PROBES: Final = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93],
    dtype=np.uint64,
)

UNSTORED_MOST: Final = 1_000_000
"""Spans that are remembered as charged and not stored, 8 MB."""

Keys = npt.NDArray[np.uint64]


class SeenSpans:
    """Remembers which spans were charged.

    Attributes:
        duplicates: spans that came again.
        shortened: generations closed early; while that happens the horizon is shorter.
    """

    def __init__(
        self,
        log2_bits: int = LOG2_BITS,
        most: int = GENERATION_MOST,
        least: int = GENERATION_LEAST,
    ) -> None:
        self._shift = np.uint64(64 - log2_bits)
        self._most, self._least = most, least
        self._young = np.zeros(2 ** (log2_bits - 3), dtype=np.uint8)
        self._old = np.zeros_like(self._young)
        self._count = 0
        self._born_ns = 0
        self.duplicates = 0
        self.shortened = 0

    def fresh(self, keys: Keys, now_ns: int) -> npt.NDArray[np.bool_]:
        """Find the spans that were not seen before, each where it first stands; remember all.

        Args:
            keys: one number a span, made of all that tells it from other spans.
            now_ns: when they were received; monotonic.
        """
        self._rotate(now_ns)
        byte, bit = self._places(keys)
        seen = ((self._young[byte] & bit) != 0).all(axis=0)
        seen |= ((self._old[byte] & bit) != 0).all(axis=0)
        first = np.zeros(len(keys), dtype=bool)
        first[np.unique(keys, return_index=True)[1]] = True
        fresh: npt.NDArray[np.bool_] = first & ~seen
        np.bitwise_or.at(self._young, byte[:, fresh], bit[:, fresh])
        count = int(fresh.sum())
        self._count += count
        self.duplicates += len(keys) - count
        return fresh

    def remember(self, keys: Keys) -> None:
        """Take spans as seen, such as those that an earlier process has charged."""
        np.bitwise_or.at(self._young, *self._places(keys))
        self._count += len(keys)

    def _places(self, keys: Keys) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
        place = (keys[None, :] * _PROBES[:, None]) >> self._shift
        bit = np.left_shift(np.uint8(1), (place & np.uint64(7)).astype(np.uint8))
        return place >> np.uint64(3), bit

    def _rotate(self, now_ns: int) -> None:
        aged = now_ns - self._born_ns >= HORIZON_NS and self._count >= self._least
        full = self._count >= self._most
        if not (aged or full):
            return
        self.shortened += full and not aged
        self._young, self._old = self._old, self._young
        self._young.fill(0)
        self._count = 0
        self._born_ns = now_ns


class UnstoredSpans:
    """Remembers spans that were charged and then not stored, as the disk was full.

    When they are delivered again they are charged no second time, and what the store sums up must
    count them nevertheless. One thread adds, another takes.
    """

    def __init__(self) -> None:
        self._added: deque[Keys] = deque()
        self._keys = np.empty(0, dtype=np.uint64)

    def add(self, keys: Keys) -> None:
        """Remember spans; from any thread."""
        self._added.append(keys)

    def take(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """bool[n]: which spans are remembered, each where it first stands; forget these."""
        while self._added:
            self._keys = np.union1d(self._keys, self._added.popleft())[:UNSTORED_MOST]
        taken = np.zeros(len(keys), dtype=bool)
        if len(self._keys):
            taken[np.unique(keys, return_index=True)[1]] = True
            taken &= np.isin(keys, self._keys)
            self._keys = np.setdiff1d(self._keys, keys[taken])
        return taken
