"""Binary operators on two numbers, as Go's float64 has them: they never raise.

Python raises where IEEE 754 has an answer (``1 / 0``, ``(-8) ** 0.5``, ``1e300 ** 2``), so each
of those cases is answered here.
"""

import math
import operator
from collections.abc import Callable
from typing import Final

__all__ = ["ARITHMETIC", "COMPARISON", "kahan_sum"]


def _divide(left: float, right: float) -> float:
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _modulo(left: float, right: float) -> float:
    """Remainder with the sign of ``left``, as C's fmod."""
    try:
        return math.fmod(left, right)
    except ValueError:
        return math.nan


def _power(left: float, right: float) -> float:
    try:
        return math.pow(left, right)
    except OverflowError:
        negative = left < 0 and math.fmod(right, 2) != 0
        return -math.inf if negative else math.inf
    except ValueError:
        if left != 0:  # a negative base and a broken exponent
            return math.nan
        odd = math.fmod(right, 2) in (-1.0, 1.0)
        return math.copysign(math.inf, left) if odd else math.inf


ARITHMETIC: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": _modulo,
    "^": _power,
    "atan2": math.atan2,
}

COMPARISON: Final[dict[str, Callable[[float, float], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def kahan_sum(values: list[float]) -> float:
    """Sum with Neumaier's compensation (the improved Kahan-Babuška algorithm, 1974).

    :func:`math.fsum` would be exact, but raises on infinities of both signs; here that is NaN.
    """
    total, lost = 0.0, 0.0
    for value in values:
        following = total + value
        if math.isinf(following):
            lost = 0.0
        elif abs(total) >= abs(value):
            lost += (total - following) + value
        else:
            lost += (value - following) + total
        total = following
    return total + lost
