"""Draws the picture of a sticker, from its name alone: a PNG without any library."""

import hashlib
import struct
import zlib
from typing import Final

__all__ = ["draw"]

SIDE: Final = 320
"""Pixels."""

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def draw(name: str) -> bytes:
    """The picture, as PNG: rings in two colours that the name decides."""
    seed = hashlib.sha256(name.encode()).digest()
    colours, ring = (seed[:3], seed[3:6]), 4 + seed[6] % 12
    rows = bytearray()
    for y in range(SIDE):
        rows.append(0)  # no filter
        for x in range(SIDE):
            distance = ((x - SIDE / 2) ** 2 + (y - SIDE / 2) ** 2) ** 0.5
            rows += colours[int(distance / ring) % 2]
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
