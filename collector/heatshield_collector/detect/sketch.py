"""Sketches of weights by key: heavy hitters in bounded memory, with bounds for every key.

The algorithm is Misra-Gries with weights, as Anderson, Bevin, Lang, Liberty, Rhodes and Thaler
describe it in "A High-Performance Algorithm for Identifying Frequent Items in Data Streams" (IMC
2017), in Apache DataSketches' C++ implementation. Of a stream of total weight N, a sketch of 2**k
slots answers each key's weight with an error of at most 3.5 / 2**k * N, and the bounds it gives
hold whatever the order of updates and merges was.

A sketch that gets one key of equal weight too many lets go of all its keys. That implementation
takes such a sketch for an empty one, and drops its error when it merges or serialises it.
:class:`HeavyHitters` remembers weight and error of such sketches beside it.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from datasketches import frequent_items_error_type, frequent_strings_sketch

__all__ = ["LG_SLOTS", "HeavyHitters", "Hitter"]

LG_SLOTS: Final = 12
"""4,096 slots: an error of at most 0.085 % of the total load, where a service's floor is 3 % of its
capacity; at most 3,072 keys, some 200 KiB, a sketch."""

Integers = npt.NDArray[np.int64]

_KEYS: Final = 3
"""Fourths of the slots that may hold a key."""

WEIGHT_MOST: Final = 2**48
"""Weights are clamped here (nine years of microseconds): one absurd number must not wrap a sum."""

_FORGOTTEN: Final = struct.Struct("<QQ")
"""Weight and error of sketches that had let go of all their keys."""


class Hitter(NamedTuple):
    """A key, its estimated weight, and the bounds that hold the true one."""

    key: str
    estimate: int
    lower: int
    upper: int


class HeavyHitters:
    """A mergeable, serialisable sketch of integer weights by key.

    Attributes:
        most: no key weighs more. A coarse bound that costs nothing: where all keys are light, none
            of them has to be looked at. Not serialised; of a sketch that was read back it is the
            weight of all keys.
    """

    __slots__ = ("_error", "_forgotten", "_lg_slots", "_sketch", "most")

    def __init__(self, lg_slots: int = LG_SLOTS) -> None:
        self.most = 0
        self._lg_slots = lg_slots
        self._sketch = frequent_strings_sketch(lg_slots)
        self._forgotten = 0
        self._error = 0

    @property
    def total(self) -> int:
        """The weight of all updates."""
        return int(self._sketch.total_weight) + self._forgotten

    def update(self, keys: Sequence[str], weights: Sequence[int], *, each_once: bool) -> None:
        """Add weights; those that are not positive count for nothing.

        Args:
            keys: what they weigh.
            weights: one a key.
            each_once: no key stands twice in ``keys``, so that none gets more than one weight.
        """
        if each_once:
            heaviest = max(weights, default=0)
        else:
            heaviest = sum(weight for weight in weights if weight > 0)
        self.most += max(0, heaviest)
        update = self._sketch.update
        for key, weight in zip(keys, weights, strict=True):
            if weight > 0:
                update(key, weight if weight < WEIGHT_MOST else WEIGHT_MOST)  # noqa: FURB136 - twice as fast

    def update_heaviest(self, keys: Sequence[str], weights: Integers) -> None:
        """Add weights of so many keys as a sketch can hold, and remember the weight of the others.

        The heaviest key that is left out bounds what any of them weighs: the error is no greater
        than that of an update with each, and the time is bounded.

        Args:
            keys: each once.
            weights: int64[n], positive, one a key.
        """
        most = _KEYS * 2**self._lg_slots // 4
        at = np.arange(len(keys))
        if len(keys) > most:
            order = np.argpartition(weights, -most)
            at, left = order[-most:], weights[order[:-most]]
            self._forgotten += int(left.sum())
            self._error += int(left.max())
        kept = [keys[one] for one in at.tolist()] if len(at) < len(keys) else keys
        self.update(kept, weights[at].tolist(), each_once=True)

    def merge(self, other: "HeavyHitters") -> None:
        """Add everything another sketch has seen."""
        self.most += other.most
        forgotten, error = other._set_aside()  # noqa: SLF001 - of its own kind
        self._forgotten += forgotten
        self._error += error
        theirs = other._sketch  # noqa: SLF001 - of its own kind
        if not theirs.is_empty():
            self._sketch.merge(theirs)

    def _set_aside(self) -> tuple[int, int]:
        """Weight and error that the sketch itself would not pass on."""
        if not self._sketch.is_empty():
            return self._forgotten, self._error
        # No key is in it, so any key's upper bound is the error.
        error = self._error + int(self._sketch.get_upper_bound(""))
        return self._forgotten + int(self._sketch.total_weight), error

    def bounds(self, key: str) -> Hitter:
        """Estimate and bounds of one key, whether or not it was seen."""
        return Hitter(
            key,
            int(self._sketch.get_estimate(key)),
            int(self._sketch.get_lower_bound(key)),
            int(self._sketch.get_upper_bound(key)) + self._error,
        )

    def sum_of(self, name: str, is_one: Callable[[str], bool]) -> Hitter:
        """Estimate and bounds of all keys of a kind together, as far as they are in the sketch.

        Args:
            name: stands for them in the answer.
            is_one: whether a key is of the kind.
        """
        none_missing = frequent_items_error_type.NO_FALSE_NEGATIVES
        found = [row for row in self._sketch.get_frequent_items(none_missing) if is_one(row[0])]
        estimate, lower, upper = (sum(row[part] for row in found) for part in (1, 2, 3))
        return Hitter(name, estimate, lower, upper + self._error)

    def top(self, limit: int) -> list[Hitter]:
        """The keys of highest estimate that may be heavier than the error, the heaviest first.

        Of equal ones the keys that sort first.
        """
        rows = self._sketch.get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES)
        if not rows or limit <= 0:
            return []
        # The rows are sorted by estimate, so only those that tie with the last one can move in.
        least = rows[min(limit, len(rows)) - 1][1]
        end = bisect_right(rows, -least, key=lambda row: -row[1])
        return self._hitters(rows[:end])[:limit]

    def surely_over(self, weight: int) -> list[Hitter]:
        """The keys whose lower bound is over this positive weight, the heaviest first."""
        none_below = frequent_items_error_type.NO_FALSE_POSITIVES
        return self._hitters(self._sketch.get_frequent_items(none_below, weight))

    def _hitters(self, rows: list[tuple[str, int, int, int]]) -> list[Hitter]:
        # DataSketches returns ties in the order of its hash table.
        return [
            Hitter(key, estimate, lower, upper + self._error)
            for key, estimate, lower, upper in sorted(rows, key=lambda row: (-row[1], row[0]))
        ]

    def to_bytes(self) -> bytes:
        """Weight and error set aside, two little-endian 64-bit numbers, then DataSketches' own
        format, which its other languages read too.
        """
        return _FORGOTTEN.pack(*self._set_aside()) + bytes(self._sketch.serialize())

    @classmethod
    def from_bytes(cls, data: bytes, lg_slots: int = LG_SLOTS) -> Self:
        """Read a sketch back.

        Raises:
            ValueError: if it is not one.
        """
        made = cls(lg_slots)
        try:
            made._forgotten, made._error = _FORGOTTEN.unpack_from(data)
            read = frequent_strings_sketch.deserialize(data[_FORGOTTEN.size :])
            # A key that is no text is noticed only when it is asked for: better here than later.
            read.get_frequent_items(frequent_items_error_type.NO_FALSE_NEGATIVES, 0)
            made._sketch.merge(read)
            made.most = made.total
        except (RuntimeError, ValueError, IndexError, MemoryError, struct.error) as error:
            raise ValueError(f"not a serialised sketch: {error}") from error
        return made

    @classmethod
    def merged(cls, sketches: Sequence["HeavyHitters"], lg_slots: int = LG_SLOTS) -> Self:
        """One sketch of everything these have seen; they stay as they are."""
        made = cls(lg_slots)
        for sketch in sketches:
            made.merge(sketch)
        return made
