"""Which stretches of a process's time its charge reports cover, whatever order they come in.

::

    report 1     report 2                report 4          report 3 is still to come, or lost
    [──────────)[──────────)            [──────────)
    first                   until, of what hangs together

Times are nanoseconds since the Unix epoch by the process's own clock, which its spans have, too.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["Coverage"]

STRETCHES_MOST: Final = 32
"""Stretches kept; the oldest goes first. Between them as many reports would have to be missing."""

JOINT_NS: Final = 20_000_000
"""Stretches so close to each other are one: a report's length and its moment are taken apart."""

Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


class Coverage:
    """The covered stretches, in order, none touching another.

    Attributes:
        begins: when each begins.
        ends: when each ends.
    """

    __slots__ = ("begins", "ends")

    def __init__(self) -> None:
        self.begins: list[int] = []
        self.ends: list[int] = []

    def add(self, begin_ns: int, end_ns: int) -> None:
        """A report covers this stretch."""
        if self.ends and begin_ns <= self.ends[-1] + JOINT_NS and begin_ns >= self.begins[-1]:
            self.ends[-1] = max(self.ends[-1], end_ns)  # as nearly all do
            return
        stretches = sorted([*zip(self.begins, self.ends, strict=True), (begin_ns, end_ns)])
        joined = [stretches[0]]
        for begin, end in stretches[1:]:
            if begin <= joined[-1][1] + JOINT_NS:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((begin, end))
        self.begins, self.ends = map(list, zip(*joined[-STRETCHES_MOST:], strict=True))

    @property
    def first_ns(self) -> int:
        """When the first stretch begins."""
        return self.begins[0]

    @property
    def until_ns(self) -> int:
        """When the last stretch ends."""
        return self.ends[-1]

    def has(self, times_ns: Integers) -> Booleans:
        """Which of these moments are covered."""
        at = np.searchsorted(self.begins, times_ns, side="left") - 1
        ends = np.array(self.ends)
        found: Booleans = (at >= 0) & (times_ns <= ends[np.maximum(at, 0)] + JOINT_NS)
        return found

    def before(self, times_ns: Integers) -> Integers:
        """For each moment the end of the last stretch that ends before it; 0 where none does."""
        at = np.searchsorted(self.ends, times_ns, side="left") - 1
        found: Integers = np.where(at >= 0, np.array(self.ends)[np.maximum(at, 0)], 0)
        return found
