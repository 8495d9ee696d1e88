"""Numbers as Go and Prometheus' templates print them."""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final

__all__ = ["HUMANIZERS", "plain", "printf", "verbs"]

_EXPONENT_FROM: Final = 1e6
_EXPONENT_BELOW: Final = 1e-4
"""Go's ``%v`` of a float64 writes an exponent outside these."""


def _special(value: float) -> str | None:
    if math.isnan(value):
        return "NaN"
    return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value)


def plain(value: float) -> str:
    """Shortest text that reads back as the value: Go's ``%v``."""
    special = _special(value)
    if special is not None:
        return special
    if value == 0 or _EXPONENT_BELOW <= abs(value) < _EXPONENT_FROM:
        return repr(value).removesuffix(".0")
    sign, digits, _ = Decimal(repr(value)).normalize().as_tuple()
    exponent = Decimal(repr(value)).adjusted()
    head, rest = str(digits[0]), "".join(map(str, digits[1:]))
    mantissa = f"{head}.{rest}" if rest else head
    return f"{'-' * sign}{mantissa}e{exponent:+03d}"


def _four_digits(value: float) -> str:
    return _special(value) or f"{value:.4g}"


def humanize(value: float) -> str:
    """With a metric prefix: 1234 → ``1.234k``, 0.0012 → ``1.2m``."""
    if value == 0 or not math.isfinite(value):
        return _four_digits(value)
    prefix = ""
    if abs(value) >= 1:
        for larger in "kMGTPEZY":
            if abs(value) < 1000:  # noqa: PLR2004 - the step of the metric prefixes
                break
            prefix, value = larger, value / 1000
    else:
        for smaller in "munpfazy":
            if abs(value) >= 1:
                break
            prefix, value = smaller, value * 1000
    return f"{_four_digits(value)}{prefix}"


def humanize_percentage(value: float) -> str:
    """A ratio as a percentage: 0.1234 → ``12.34%``."""
    return f"{_four_digits(value * 100)}%"


def humanize_duration(value: float) -> str:
    """Seconds in their larger units: 3661 → ``1h 1m 1s``, 0.25 → ``250ms``."""
    if value == 0 or not math.isfinite(value):
        return "0s" if value == 0 else _four_digits(value)
    if abs(value) < 1:
        return f"{humanize(value)}s"
    sign, value = ("-" if value < 0 else ""), abs(value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    if minutes:
        return f"{sign}{minutes}m {seconds}s"
    return f"{sign}{_four_digits(value)}s"


HUMANIZERS: Final[dict[str, Callable[[float], str]]] = {
    "humanize": humanize,
    "humanizePercentage": humanize_percentage,
    "humanizeDuration": humanize_duration,
}


_VERB: Final = re.compile(r"%(?P<shape>[-+ 0]*[0-9]*(?:\.[0-9]+)?)(?P<verb>.|$)", re.DOTALL)
_NUMERIC_VERBS: Final = "feEg"


def verbs(pattern: str) -> list[str]:
    """The verbs of a printf pattern that take an argument.

    Raises:
        ValueError: on a verb that is not among ``%f %e %g %s %v %%``.
    """
    found = [match["verb"] for match in _VERB.finditer(pattern)]
    for verb in found:
        if verb not in [*_NUMERIC_VERBS, "s", "v", "%"]:
            raise ValueError(f"printf verb %{verb} is not supported")
    return [verb for verb in found if verb != "%"]


def printf(pattern: str, *values: str | float) -> str:
    """``pattern`` with its verbs filled in, for a pattern that :func:`verbs` accepts."""
    rest = iter(values)

    def fill(match: re.Match[str]) -> str:
        if match["verb"] == "%":
            return "%"
        return _fill(match["shape"], match["verb"], next(rest))

    return _VERB.sub(fill, pattern)


def _fill(shape: str, verb: str, value: str | float) -> str:
    if isinstance(value, str):
        return f"%{shape}s" % value
    width = shape.partition(".")[0].lstrip("+ 0") or "0"
    special = _special(value)
    if special is not None or verb not in _NUMERIC_VERBS:
        return f"%{width}s" % (special or plain(value))
    if verb == "g" and "." not in shape:
        return f"%{width}s" % plain(value)
    return f"%{shape}{verb}" % value
