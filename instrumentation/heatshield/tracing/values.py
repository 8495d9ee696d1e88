"""Attribute values: any value that a service hands over becomes one that OTLP can carry.

Values are copied and cut at once, because what is queued must neither change nor be large.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Union

from heatshield.sanitize.sanitizer import SANITIZER

__all__ = ["MAX_ATTRIBUTES", "MAX_TEXT", "Attributes", "Plain", "plain"]

Plain = Union[str, bool, int, float, bytes, None, tuple["Plain", ...], dict[str, "Plain"]]  # noqa: UP007  # quoted names take no |
"""What OTLP can carry; ints have 64 bits."""

Attributes = dict[str, Plain]
"""Attributes of a span or a log record."""

MAX_ATTRIBUTES: Final = 128
"""Attributes of a span, as in the SDK."""

MAX_TEXT: Final = 4_096
"""Characters or bytes of a value: a statement or URL beyond this tells nothing more."""

MAX_ITEMS: Final = 128
"""Items of a list or mapping, those of lists within it too: converting takes the service's time."""

MAX_DEPTH: Final = 4
"""Lists within lists."""

_INT64: Final = range(-(2**63), 2**63)


def plain(value: Any) -> Plain:  # whatever a service sets as an attribute, on its requests' way
    """``value`` as OTLP can carry it.

    Never fails: a value whose ``__str__`` raises is shown as its type.
    """
    kind = type(value)
    same: Plain = value
    if kind is str:
        return same if len(value) <= MAX_TEXT else str(value)[:MAX_TEXT]
    if kind is bool or kind is float or value is None:
        return same
    if kind is int and value in _INT64:
        return same
    return _within(value, 0, [MAX_ITEMS])


def _within(value: object, depth: int, room: list[int]) -> Plain:
    """A value within ``depth`` others; ``room`` holds how many more items there may be."""
    if value is None or isinstance(value, bool):
        return value
    try:
        return _converted(value, depth, room)
    except Exception:  # noqa: BLE001  # e.g. a __str__ or an __iter__ that raises
        return f"<{type(value).__name__}>"


def _converted(value: object, depth: int, room: list[int]) -> Plain:
    if isinstance(value, str | bytes | bytearray | memoryview | int | float):
        return _scalar(value)
    if not isinstance(value, Mapping | Sequence | set | frozenset):
        return _shown(value)
    if depth >= MAX_DEPTH:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return _pairs(value, depth + 1, room)
    return _items(value, depth + 1, room)


def _scalar(value: str | bytes | bytearray | memoryview | float) -> Plain:
    """A value of a class that may be derived from one of OTLP's own types."""
    if isinstance(value, str):
        return str.__str__(value)[:MAX_TEXT]  # of an enumeration's member, the text itself
    if isinstance(value, int):
        number = int(value)
        return number if number in _INT64 else _shown(number)
    return float(value) if isinstance(value, float) else bytes(value[:MAX_TEXT])


def _pairs(mapping: Mapping[object, object], depth: int, room: list[int]) -> Attributes:
    found: Attributes = {}
    for key, value in mapping.items():
        if room[0] <= 0:
            break
        room[0] -= 1
        name = str(_within(key, depth, room))
        found[name] = _within(value, depth, room)
    return found


def _items(values: Iterable[object], depth: int, room: list[int]) -> tuple[Plain, ...]:
    found: list[Plain] = []
    for value in values:
        if room[0] <= 0:
            break
        room[0] -= 1
        found.append(_within(value, depth, room))
    return tuple(found)


def _shown(value: object) -> str:
    if isinstance(value, BaseException):
        return SANITIZER.error_text(value, str(value))[:MAX_TEXT]
    return str(value)[:MAX_TEXT]
