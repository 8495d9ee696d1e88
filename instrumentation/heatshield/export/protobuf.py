"""Protobuf's wire format, as far as OTLP needs it.

A message is a sequence of fields, each a tag byte (field number * 8 + wire type) and a value:
0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. Tags stand in the code as bytes with
their field's name beside them.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

__all__ = ["DOUBLE", "FIXED64", "length", "message", "text", "varint"]

FIXED64: Final = Struct("<Q").pack
DOUBLE: Final = Struct("<d").pack


def _varint(value: int) -> bytes:
    if value < 0:
        value += 1 << 64
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004  # seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL: Final = tuple(_varint(value) for value in range(4_096))
"""Lengths, mostly."""

_SMALL_COUNT: Final = len(_SMALL)


def varint(value: int) -> bytes:
    """An integer of 64 bits, signed ones as two's complement."""
    return _SMALL[value] if 0 <= value < _SMALL_COUNT else _varint(value)


def length(value: int) -> bytes:
    """The length of what follows."""
    return _SMALL[value] if value < _SMALL_COUNT else _varint(value)


def text(tag: bytes, value: str) -> bytes:
    """A string field."""
    try:
        data = value.encode()
    except (UnicodeEncodeError, AttributeError):  # a lone surrogate, or a name that is no text
        data = str(value).encode("utf-8", "replace")
    return tag + length(len(data)) + data


def message(tag: bytes, parts: Sequence[bytes]) -> bytes:
    """A field that is a message, of its fields."""
    body = b"".join(parts)
    return tag + length(len(body)) + body
