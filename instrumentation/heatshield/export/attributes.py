"""Attributes as OTLP's ``KeyValue`` and ``AnyValue``, cleaned by the sanitizer and kept encoded.

Most attributes of a service's records have few different values (routes, methods, statements,
hosts), so encoded text pairs are kept and found again. That is where the time is saved: a pair is
looked through for secrets, and written, once.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from heatshield.export.protobuf import DOUBLE, length, message, text, varint
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.tracing.values import plain

__all__ = [
    "FOREIGN_NAMES",
    "NAMES",
    "OF_EVENT",
    "OF_LINK",
    "OF_LOG",
    "OF_RESOURCE",
    "OF_SPAN",
    "forget",
    "keep",
]

K = TypeVar("K")

MAX_KEPT: Final = 4_096
"""Encoded pairs and names that are kept; then all are let go: they must be of high cardinality."""

MAX_KEPT_LENGTH: Final = 128
"""Characters of a value that is worth keeping."""

_OFTEN: Final = range(65_536)
"""Integers that come again: statuses, ports, counts."""


class Pairs:
    """Writes attributes under one tag, and keeps what it wrote.

    Args:
        tag: of the field that repeats them.
    """

    def __init__(self, tag: bytes) -> None:
        self._tag = tag
        self._texts: dict[tuple[str, str], bytes] = {}
        self._integers: dict[tuple[str, int], bytes] = {}  # apart: True and 1 are one key
        self._keys: dict[str, bytes] = {}

    def write(self, attributes: Mapping[str, object], parts: list[bytes]) -> None:
        """Append each attribute to ``parts``."""
        texts, integers = self._texts, self._integers
        for key, value in attributes.items():
            if type(value) is str:
                parts.append(texts.get((key, value)) or self.text(key, value))
            elif type(value) is int:
                parts.append(integers.get((key, value)) or self._integer(key, value))
            else:
                parts.append(self._pair(key, _any(SANITIZER.shown(key, value))))

    def text(self, key: str, value: str) -> bytes:
        """An attribute that is a text. Only one that is not kept is looked through for secrets."""
        found = self._texts.get((key, value))
        if found is None:
            found = self._pair(key, _any(SANITIZER.shown(key, value)))
            if len(value) <= MAX_KEPT_LENGTH:
                keep(self._texts, (key, value), found)
        return found

    def forget(self) -> None:
        """Write everything anew: it is to be redacted otherwise."""
        self._texts.clear()
        self._integers.clear()
        self._keys.clear()

    def _integer(self, key: str, value: int) -> bytes:
        found = self._pair(key, _any(SANITIZER.shown(key, value)))
        if value in _OFTEN:
            keep(self._integers, (key, value), found)
        return found

    def _pair(self, key: str, value: bytes) -> bytes:
        name = self._keys.get(key)
        if name is None:
            name = text(b"\x0a", SANITIZER.name(str(key)))  # key
            keep(self._keys, key, name)
        size = length(len(value))
        return (
            self._tag + length(len(name) + 1 + len(size) + len(value)) + name
            + b"\x12" + size + value  # value
        )  # fmt: skip


def keep(kept: dict[K, bytes], key: K, encoded: bytes) -> None:
    """Keep what was encoded; let all go when there is too much."""
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[key] = encoded


def _any(value: object) -> bytes:
    """An AnyValue, without tag and length."""
    write = _WRITERS.get(type(value))
    return _any(plain(value)) if write is None else write(value)


def _array(values: tuple[object, ...]) -> bytes:
    return message(b"\x2a", [message(b"\x0a", [_any(item)]) for item in values])  # array_value


def _mapping(values: Mapping[str, object]) -> bytes:
    pairs: list[bytes] = []
    OF_RESOURCE.write(values, pairs)
    return message(b"\x32", pairs)  # kvlist_value


def _text(value: str) -> bytes:
    return text(b"\x0a", value)  # string_value


def _boolean(value: bool) -> bytes:  # noqa: FBT001  # a value as any other
    return b"\x10\x01" if value else b"\x10\x00"  # bool_value


def _int(value: int) -> bytes:
    return b"\x18" + varint(value)  # int_value


def _float(value: float) -> bytes:
    return b"\x21" + DOUBLE(value)  # double_value


def _bytes(value: bytes) -> bytes:
    return b"\x3a" + length(len(value)) + value  # bytes_value


def _nothing(_: None) -> bytes:
    return b""


_WRITERS: Final[Mapping[type, Callable[..., bytes]]] = {
    str: _text,
    bool: _boolean,
    int: _int,
    float: _float,
    bytes: _bytes,
    tuple: _array,
    dict: _mapping,
    type(None): _nothing,
}
"""What :func:`~heatshield.tracing.values.plain` makes, and how each is written."""

OF_SPAN: Final = Pairs(b"\x4a")
OF_LOG: Final = Pairs(b"\x32")
OF_EVENT: Final = Pairs(b"\x1a")
OF_LINK: Final = Pairs(b"\x22")
OF_RESOURCE: Final = Pairs(b"\x0a")
"""Of values that are mappings, too: field 1."""


NAMES: Final[dict[str, bytes]] = {}
"""Names of spans, encoded."""

FOREIGN_NAMES: Final[dict[str, bytes]] = {}
"""Those of spans that others made: cleaned, where ours are the code's own."""


def forget() -> None:
    """Keep nothing of what was written by other settings."""
    NAMES.clear()
    FOREIGN_NAMES.clear()
    for pairs in (OF_SPAN, OF_LOG, OF_EVENT, OF_LINK, OF_RESOURCE):
        pairs.forget()
