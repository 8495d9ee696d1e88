"""What detection remembers over a restart, as bytes: named sections, each written by its owner.

::

    sections   [name length, 2 bytes][name, UTF-8][length, 4 bytes][bytes] ...
    a section  whatever its owner writes

All numbers are unsigned and little-endian. A section that nobody knows any more is ignored.
"""

import struct
from collections.abc import Mapping
from typing import Final

__all__ = ["MOST_BYTES", "decode", "encode"]

MOST_BYTES: Final = 16 * 2**20
"""Of a section; ordinary ones take about one MiB. What is larger is left out."""

_NAME: Final = struct.Struct("<H")
_LENGTH: Final = struct.Struct("<I")


def encode(sections: Mapping[str, bytes]) -> bytes:
    """Put sections together; those that are too large are left out."""
    parts = []
    for name, content in sections.items():
        if len(content) <= MOST_BYTES:
            encoded = name.encode()
            parts += [_NAME.pack(len(encoded)), encoded, _LENGTH.pack(len(content)), content]
    return b"".join(parts)


def decode(data: bytes) -> dict[str, bytes]:
    """Read :func:`encode` back.

    Raises:
        ValueError: if it is damaged.
    """
    sections: dict[str, bytes] = {}
    at = 0
    try:
        while at < len(data):
            (length,) = _NAME.unpack_from(data, at)
            at += _NAME.size
            name = data[at : at + length].decode()
            at += length
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            if at + length > len(data):
                raise ValueError(f"section {name!r} is cut off")
            sections[name] = data[at : at + length]
            at += length
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"no sections of detection: {error}") from error
    return sections
