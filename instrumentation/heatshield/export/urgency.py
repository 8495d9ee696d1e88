"""Which span can't wait for its batch: one whose cost is far beyond its call's usual.

A running mean per span name costs a dictionary look-up and a few multiplications. Values are
clipped before they enter it, so that the outliers it is to find don't become the usual.
"""

from typing import Final

__all__ = ["Urgency"]

FAR_BEYOND: Final = 8.0
"""Times the usual. Lognormal costs with sigma 1.5 pass 8 times their mean in 2 % of calls, which
costs a few early batches; a whole-collection refresh passes it by orders of magnitude."""

MIN_DURATION_S: Final = 0.020
"""A span faster than this can't burn a worker, however unusual it is."""

MIN_ELEMENTS: Final = 1_000
"""Elements that are many for any call; the floor of the whole-collection detector."""

COLD_DURATION_S: Final = 0.250
"""Slow for a call nothing is known about yet."""

WARM_UP: Final = 10
"""Spans of a call before its mean means something."""

SMOOTHING: Final = 1 / 32
"""Weight of a new value: the mean remembers about the last 32 spans."""

CLIP: Final = 4.0
"""A value enters the mean as at most this many times the mean."""

MAX_CALLS: Final = 1_024
"""Names that are remembered; span names beyond are of high cardinality and never urgent."""


class _Usual:
    __slots__ = ("duration_s", "elements", "seen")

    def __init__(self, duration_s: float, elements: float) -> None:
        self.duration_s = min(duration_s, COLD_DURATION_S)
        self.elements = min(elements, float(MIN_ELEMENTS))
        self.seen = 0


class Urgency:
    """Running estimates of what spans cost, by name."""

    def __init__(self) -> None:
        self._usual: dict[str, _Usual] = {}

    def judge(self, name: str, duration_s: float, elements: int) -> bool:
        """Whether this span should leave at once; learns from it either way."""
        usual = self._usual.get(name)
        if usual is None:
            if len(self._usual) >= MAX_CALLS:
                return False
            usual = self._usual[name] = _Usual(duration_s, elements)
        urgent = _far_beyond(usual, duration_s, elements)
        usual.seen += 1
        usual.duration_s += SMOOTHING * (_clipped(duration_s, usual.duration_s) - usual.duration_s)
        usual.elements += SMOOTHING * (_clipped(elements, usual.elements) - usual.elements)
        return urgent


def _far_beyond(usual: _Usual, duration_s: float, elements: int) -> bool:
    if elements >= MIN_ELEMENTS and elements > FAR_BEYOND * usual.elements:
        return True
    if usual.seen < WARM_UP:
        return duration_s >= COLD_DURATION_S or elements >= MIN_ELEMENTS
    return duration_s >= MIN_DURATION_S and duration_s > FAR_BEYOND * usual.duration_s


def _clipped(value: float, mean: float) -> float:
    return min(value, CLIP * mean + 1e-4)  # the summand lets a mean of 0 grow
