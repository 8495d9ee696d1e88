"""Attribute values: whatever a service hands over becomes something that OTLP can carry.

Copied and cut where it is handed over: what is queued must not change any more, nor be large.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["MAX_ATTRIBUTES", "MAX_TEXT", "plain"]

MAX_ATTRIBUTES: Final = 128
"""Attributes of a span, as in the SDK."""

MAX_TEXT: Final = 4_096
"""Characters or bytes of a value: a statement or URL beyond this tells nothing more."""

MAX_ITEMS: Final = 128
"""Items of a list or mapping, those of lists within it too: converting takes the service's time."""

MAX_DEPTH: Final = 4
"""Lists within lists."""

_INT64: Final = range(-(2**63), 2**63)


def plain(value: Any) -> Any:
    """``value``, or what stands for it: str, bool, int of 64 bits, float, bytes, tuple, dict.

    Never fails: a value that can't even be shown is shown as its type.
    """
    kind = type(value)
    if kind is str:
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT]
    if kind is bool or kind is float or value is None:
        return value
    if kind is int and value in _INT64:
        return value
    return _within(value, 0, [MAX_ITEMS])


def _within(value: Any, depth: int, room: list[int]) -> Any:
    """A value within ``depth`` others; ``room`` holds how many more items there may be."""
    if value is None or type(value) is bool:
        return value
    try:
        return _converted(value, depth, room)
    except Exception:  # noqa: BLE001  # e.g. a __str__ or an __iter__ that raises
        return f"<{type(value).__name__}>"


def _converted(value: Any, depth: int, room: list[int]) -> Any:
    for kind, convert in _SIMPLER:
        if isinstance(value, kind):
            return convert(value)
    is_mapping = isinstance(value, Mapping)
    if not is_mapping and not isinstance(value, Sequence | set | frozenset):
        return _shown(value)
    if depth >= MAX_DEPTH:
        return f"<{type(value).__name__}>"
    within: list[Any] = []
    for item in value.items() if is_mapping else value:
        if room[0] <= 0:
            break
        room[0] -= 1
        if is_mapping:
            key = str(_within(item[0], depth + 1, room))
            within.append((key, _within(item[1], depth + 1, room)))
        else:
            within.append(_within(item, depth + 1, room))
    return dict(within) if is_mapping else tuple(within)


def _small_or_shown(value: int) -> int | str:
    number = int(value)
    return number if number in _INT64 else _shown(number)


def _shown(value: Any) -> str:
    return str(value)[:MAX_TEXT]


_SIMPLER: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (str, lambda value: str.__str__(value)[:MAX_TEXT]),  # an enumeration's member, for one
    (bytes | bytearray | memoryview, lambda value: bytes(value[:MAX_TEXT])),
    (int, _small_or_shown),
    (float, float),
)
"""Classes derived from OTLP's own types, and what turns their values into those."""
