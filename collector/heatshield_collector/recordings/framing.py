"""Cuts a stream of bytes into the pieces that are decoded one by one.

- *lines*: one JSON document a line, as the OpenTelemetry Collector's file exporter writes.
- *messages*: protobuf, each after its length: 4 bytes, big endian (the file exporter's ``format:
  proto``), or a varint (protobuf's own ``writeDelimitedTo``).
- *items*: of one JSON document that may be far larger than memory, the members of its list; or
  documents that are spread over lines.

A piece is (its place, bytes). Nothing here holds more than one piece and what was read at once.
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

__all__ = ["MAX_PIECE_BYTES", "Cut", "FramingError", "items", "lines", "messages", "whole"]

MAX_PIECE_BYTES: Final = 128 << 20
"""Most bytes of one line, message or item; exporters send some megabytes at most. Longer ones are
passed over, as a file without an end of line would fill the memory."""

TOO_LONG: Final = b"\0"
"""Stands for a line that is too long: no JSON, so whoever decodes it tells of it."""

Read = Callable[[], bytes]
Piece = tuple[int, bytes]
Cut = Callable[[Read], Iterator[Piece]]

_LENGTH_BYTES: Final = 4
_VARINT_BITS: Final = 7
_VARINT_MOST: Final = 5
_QUOTE, _BACKSLASH = b'"\\'
_OPEN, _CLOSE = np.zeros(256, bool), np.zeros(256, bool)
_OPEN[list(b"[{")] = True
_CLOSE[list(b"]}")] = True


class FramingError(ValueError):
    """The stream can't be cut any further.

    Attributes:
        at: the number of the piece.
    """

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at = at


def lines(read: Read) -> Iterator[Piece]:
    """Lines that are not blank, by their number from 1; without their ends.

    Of a line that is too long comes :data:`TOO_LONG`.
    """
    number, rest, size = 1, list[bytes](), 0
    while block := read():
        first, *others = block.split(b"\n")
        size += len(first)
        rest = [*rest, first] if size <= MAX_PIECE_BYTES else [TOO_LONG]
        for following in others:
            if line := b"".join(rest).strip():
                yield number, line
            number += 1
            rest, size = [following], len(following)
    if line := b"".join(rest).strip():
        yield number, line


def whole(read: Read) -> Iterator[Piece]:
    """All there is as one piece: a message without its length.

    Raises:
        FramingError: it is too long.
    """
    blocks, size = [], 0
    while block := read():
        blocks.append(block)
        size += len(block)
        if size > MAX_PIECE_BYTES:
            raise FramingError(1, f"a message of more than {MAX_PIECE_BYTES} bytes")
    yield 1, b"".join(blocks)


def messages(read: Read, *, varint: bool) -> Iterator[Piece]:
    """Messages by their number from 1.

    Raises:
        FramingError: a length makes no sense, or the last message is cut short.
    """
    header = _varint if varint else _fixed
    buffer, at, number, ended = b"", 0, 0, False
    while True:
        number += 1
        found = header(buffer, at)
        while not ended and (found is None or len(buffer) < at + sum(found)):
            # Read until the message is whole, so that a long one is not copied at each step.
            wanted = 1 if found is None else at + sum(found) - len(buffer)
            blocks = [buffer[at:]]
            at = 0
            while wanted > 0:
                block = read()
                if not block:
                    ended = True
                    break
                blocks.append(block)
                wanted -= len(block)
            buffer = b"".join(blocks)
            found = header(buffer, at)
            if found is not None and found[1] > MAX_PIECE_BYTES:
                raise FramingError(
                    number, f"it would have {found[1]} bytes: no length of a message"
                )
        if found is None or len(buffer) < at + sum(found):
            if len(buffer) > at:
                raise FramingError(number, "it is cut short")
            return
        begins, length = at + found[0], found[1]
        if length > MAX_PIECE_BYTES:
            raise FramingError(number, f"it would have {length} bytes: no length of a message")
        at = begins + length
        yield number, buffer[begins:at]


def _fixed(buffer: bytes, at: int) -> tuple[int, int] | None:
    if len(buffer) - at < _LENGTH_BYTES:
        return None
    return _LENGTH_BYTES, int.from_bytes(buffer[at : at + _LENGTH_BYTES], "big")


def _varint(buffer: bytes, at: int) -> tuple[int, int] | None:
    """Bytes of the length itself, and what it says; ``None``: more bytes are needed."""
    length = 0
    for place in range(min(_VARINT_MOST, len(buffer) - at)):
        byte = buffer[at + place]
        length |= (byte & 0x7F) << (_VARINT_BITS * place)
        if byte < 0x80:  # noqa: PLR2004 - protobuf's mark of a last byte
            return place + 1, length
    return (_VARINT_MOST, MAX_PIECE_BYTES + 1) if len(buffer) - at >= _VARINT_MOST else None


def items(read: Read, depth: int = 0) -> Iterator[Piece]:
    """Objects and lists that are nested so deeply, by their number from 1; what is around them,
    such as the list they are in, is passed over.

    Brackets outside of texts are counted, some hundred megabytes a second.

    Args:
        read: the stream.
        depth: brackets around each; 0: documents that follow one another.

    Raises:
        FramingError: a text or a bracket is never closed, or one is too long.
    """
    now, number, in_text, escaped = 0, 0, False, False
    begun: list[bytes] | None = None
    size = 0
    while block := read():
        data = np.frombuffer(block, np.uint8)
        outside, in_text, escaped = _outside(data, in_text=in_text, escaped=escaped)
        steps = (_OPEN[data] & outside).astype(np.int32) - (_CLOSE[data] & outside)
        depths = np.cumsum(steps) + now
        now = int(depths[-1])
        opens = np.flatnonzero((steps > 0) & (depths == depth + 1)).tolist()
        ends = (np.flatnonzero((steps < 0) & (depths == depth)) + 1).tolist()
        starts = iter(opens if begun is None else [0, *opens])
        for end in ends:
            start = next(starts, end)
            number += 1
            yield number, b"".join([*(begun or ()), block[start:end]])
            begun, size = None, 0
        if (last := next(starts, None)) is not None:
            begun = [*(begun or ()), block[last:]]
            size += len(block) - last
        if size > MAX_PIECE_BYTES:
            raise FramingError(number + 1, f"it has more than {MAX_PIECE_BYTES} bytes")
    if now or in_text:
        raise FramingError(number + 1, "it is cut short, or a bracket or quote is never closed")


def _outside(data: np.ndarray, *, in_text: bool, escaped: bool) -> tuple[np.ndarray, bool, bool]:
    """Which bytes are outside of JSON texts; whether the next one is inside, and escaped."""
    quotes = data == _QUOTE
    slashes = np.flatnonzero(data == _BACKSLASH)
    next_escaped = False
    if escaped:
        quotes[0] = False
    if len(slashes):
        # Of a run of backslashes each second one is escaped by the one before it.
        first = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
        run = np.repeat(slashes[first], np.diff(np.append(first, len(slashes))))
        odd = (slashes - run) % 2
        if escaped:
            odd[run == 0] ^= 1
        escapes = slashes[odd == 0]
        following = escapes + 1
        next_escaped = bool(len(following)) and int(following[-1]) == len(data)
        quotes[following[following < len(data)]] = False
    inside = (np.cumsum(quotes) + in_text) % 2 == 1
    return ~inside, bool(inside[-1]), next_escaped
