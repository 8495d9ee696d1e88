"""The baseline of loads over a restart, as bytes: the closed tens of five minutes, by minute.

::

    [tens covered, 2 bytes] ([age in tens, 2 bytes][length, 4 bytes][sketch]) ...

Numbers are unsigned and little-endian; a sketch is written as
:meth:`~heatshield_collector.detect.sketch.HeavyHitters.to_bytes` does. Six tens are merged into
one, which takes the age of the newest of them: kept a little longer, it makes a baseline higher,
and a finding less likely. Five sketches of 3,000 keys take about one MiB.
"""

import struct
from collections.abc import Sequence
from typing import Final

from heatshield_collector.detect.kept_state import MOST_BYTES
from heatshield_collector.detect.sketch import HeavyHitters
from heatshield_collector.detect.windows import TENS

__all__ = ["decode", "encode"]

TENS_A_PART: Final = 6

_COVERED: Final = struct.Struct("<H")
_PART: Final = struct.Struct("<HI")

Aged = tuple[int, HeavyHitters]
"""A sketch with its age in tens of seconds."""


def encode(closed: Sequence[Aged], covered: int) -> bytes:
    """Write down what :meth:`~heatshield_collector.detect.windows.Windows.closed` returned.

    The newest first, as far as there is room: keys may be long.
    """
    groups: dict[int, list[Aged]] = {}
    for age, sketch in closed:
        groups.setdefault((age - 1) // TENS_A_PART, []).append((age, sketch))
    parts = [_COVERED.pack(covered)]
    size = len(parts[0])
    for _, group in sorted(groups.items()):
        content = HeavyHitters.merged([sketch for _, sketch in group]).to_bytes()
        size += _PART.size + len(content)
        if size > MOST_BYTES:
            break
        parts += [_PART.pack(min(age for age, _ in group), len(content)), content]
    return b"".join(parts)


def decode(data: bytes) -> tuple[list[Aged], int]:
    """Read :func:`encode` back.

    Raises:
        ValueError: if it is damaged.
    """
    closed: list[Aged] = []
    try:
        (covered,) = _COVERED.unpack_from(data)
        at = _COVERED.size
        while at < len(data):
            age, length = _PART.unpack_from(data, at)
            at += _PART.size
            if not 0 < age <= TENS or at + length > len(data):
                raise ValueError("a part is cut off, or too old")
            closed.append((age, HeavyHitters.from_bytes(data[at : at + length])))
            at += length
    except struct.error as error:
        raise ValueError(f"no baseline: {error}") from error
    return closed, min(covered, TENS)
