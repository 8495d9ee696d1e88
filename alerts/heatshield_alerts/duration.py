"""Durations as Prometheus writes them: ``250ms``, ``5s``, ``1h30m``."""

import re
from typing import Final

__all__ = ["parse_duration_s"]

_UNITS: Final = (
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
)
"""Unit and its milliseconds, in the one order they may be written in."""

_PATTERN: Final = re.compile("".join(f"(?:([0-9]+){unit})?" for unit, _ in _UNITS))


def parse_duration_s(text: str) -> float:
    """Seconds of a Prometheus duration; a bare ``0`` needs no unit.

    Raises:
        ValueError: if it is anything else.
    """
    if text == "0":
        return 0.0
    found = _PATTERN.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"{text!r} is not a duration such as 250ms, 5s or 1h30m")
    total = sum(
        int(count) * ms for count, (_, ms) in zip(found.groups(), _UNITS, strict=True) if count
    )
    return total / 1_000
