"""What a request's headers say of its body: media type, and content coding undone within a limit.

Sources: OTLP 1.x, "OTLP/HTTP Request"; RFC 9110 sections 8.3 and 8.4; RFC 1950, 1952 and 8878.
A receiver that inflates first and measures afterwards can be killed with a few kilobytes
(CVE-2024-36129), so nothing here ever holds more than the limit and one step.
"""

import zlib
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

import pyarrow as pa

from heatshield_collector.intake.payload import MalformedError, TooLargeError, UnsupportedError

__all__ = ["CONTENT_CODINGS", "AbandonedError", "Media", "inflate", "is_plain", "media_of"]

_STEP_BYTES: Final = 256 * 1024
"""Most that is inflated in one step, hence the most that is ever held beyond the limit."""

_WINDOW_BYTES: Final = 16 * 1024
"""Compressed bytes that are handed to zlib at once."""

MAX_MEMBERS: Final = 10_000
"""Most gzip members, or deflate streams, of one body. Each costs some 10 µs, also an empty one of
20 bytes; block compressors make one for each 64 kB."""

_GZIP_WBITS: Final = zlib.MAX_WBITS | 16
_ZLIB_WBITS: Final = zlib.MAX_WBITS


class AbandonedError(Exception):
    """Nobody waits for the body any more: its sender has left, or the collector ends."""


class Media(Enum):
    """The two encodings of OTLP/HTTP; the value is the content type of our answers."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


_MEDIA: Final = {
    "application/x-protobuf": Media.PROTOBUF,
    "application/protobuf": Media.PROTOBUF,  # not OTLP's name, but some senders use it
    "application/json": Media.JSON,
}


def media_of(content_type: str | None) -> Media:
    """The encoding a content type names; parameters such as ``charset`` are ignored.

    Raises:
        UnsupportedError: it is neither protobuf nor JSON.
    """
    essence = (content_type or "").partition(";")[0].strip().lower()
    media = _MEDIA.get(essence)
    if media is None:
        raise UnsupportedError(
            f"content type {essence[:100]!r} is neither {Media.PROTOBUF.value} "
            f"nor {Media.JSON.value}"
        )
    return media


def is_plain(coding: str | None) -> bool:
    """Whether a body of that Content-Encoding is already what it stands for."""
    return _coding_name(coding) == "identity"


def inflate(
    body: bytes,
    coding: str | None,
    limit_bytes: int,
    abandoned: Callable[[], bool] = lambda: False,
) -> bytes:
    """Undo the content coding of a body.

    Args:
        body: as received.
        coding: the Content-Encoding header; ``None``, empty and ``identity`` mean as it is.
        limit_bytes: most bytes the result may have.
        abandoned: asked between steps whether anybody still waits for the result.

    Raises:
        AbandonedError: nobody does.
        UnsupportedError: a coding that is not one of :data:`CONTENT_CODINGS`, or several.
        MalformedError: the body is not in that coding, or is cut short.
        TooLargeError: the result would be over the limit.
    """
    name = _coding_name(coding)
    steps = CONTENT_CODINGS.get(name)
    if steps is None:
        raise UnsupportedError(
            f"content encoding {name[:100]!r} is not one of {', '.join(sorted(CONTENT_CODINGS))}"
        )
    pieces, size = [], 0
    try:
        for piece in steps(body):
            if abandoned():
                raise AbandonedError
            size += len(piece)
            if size > limit_bytes:
                raise TooLargeError(f"the request is over {limit_bytes} bytes once inflated")
            pieces.append(piece)
    except (zlib.error, OSError, EOFError) as error:
        raise MalformedError(f"the body is not valid {name}: {error}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _coding_name(coding: str | None) -> str:
    return (coding or "identity").strip().lower()


def _plain(body: bytes) -> Iterator[bytes]:
    yield body


def _zlib_steps(body: bytes, wbits: int) -> Iterator[bytes]:
    """Inflate step by step; gzip allows several members after one another.

    zlib copies what it has not consumed, so it is fed by windows: fed whole bodies, many members
    would take time that grows with the square of the body.
    """
    view, at, members = memoryview(body), 0, 0
    while at < len(view):
        members += 1
        if members > MAX_MEMBERS:
            raise MalformedError(f"more than {MAX_MEMBERS} members in one body")
        stream = zlib.decompressobj(wbits)
        fed: bytes | memoryview = b""
        while not stream.eof:
            if not fed:
                fed = view[at : at + _WINDOW_BYTES]
                at += len(fed)
            cut_short = not fed
            piece = stream.decompress(fed, _STEP_BYTES)
            fed = stream.unconsumed_tail
            if cut_short and not piece and not stream.eof:
                raise EOFError("cut short")
            yield piece
        at -= len(stream.unused_data)


def _gzip(body: bytes) -> Iterator[bytes]:
    return _zlib_steps(body, _GZIP_WBITS)


def _deflate(body: bytes) -> Iterator[bytes]:
    """RFC 9110's deflate is the zlib format, not a raw deflate stream."""
    return _zlib_steps(body, _ZLIB_WBITS)


def _zstd(body: bytes) -> Iterator[bytes]:
    """Arrow's stream, because it notices a frame that is cut short and bounds the window."""
    with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
        while piece := stream.read(_STEP_BYTES):
            yield piece


CONTENT_CODINGS: Final[dict[str, Callable[[bytes], Iterator[bytes]]]] = {
    "identity": _plain,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
"""Content codings we undo, each as the steps it inflates in."""
