"""Tells the format of a recording by its content."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import orjson
from google.protobuf.message import DecodeError as ProtobufError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heatshield_collector.recordings.compression import ZSTD_MAGIC, Source
from heatshield_collector.recordings.framing import (
    MAX_PIECE_BYTES,
    Cut,
    items,
    lines,
    messages,
    whole,
)
from heatshield_collector.recordings.problems import RecordingError

__all__ = ["Content", "Format", "sniff"]

Content = Literal["otlp-json", "zipkin", "protobuf"]

HEAD_BYTES: Final = 1 << 20
"""Of a file that much is looked at."""

LINE_BYTES: Final = 64 << 20
"""Where no line ends in the head, that much is looked at: exporters send thousands of spans at
once, and each request is one line."""

_REQUEST: Final = re.compile(rb'\{\s*"resource_?[sS]pans"\s*:\s*\[')

LINES_TRIED: Final = 20
"""First lines, one of which has to be a document for a file to be one of lines."""

_FIELD_1: Final = 0x0A
"""Protobuf's tag of ``resource_spans``."""
_SPACE: Final = b"\xef\xbb\xbf \t\r\n"


@dataclass(frozen=True, slots=True)
class Format:
    """How a file is read.

    Attributes:
        cut: the stream into pieces.
        content: of each piece.
        piece: what people call a piece.
    """

    cut: Cut
    content: Content
    piece: str


def sniff(source: Source) -> Format | None:
    """The format of a recording; ``None``: it is empty.

    Raises:
        RecordingError: it is none that is known.
    """
    head = source.peek(HEAD_BYTES)
    text = head.lstrip(_SPACE)
    if not text:
        return None
    if text[:1] in (b"{", b"["):
        return _json(source, text)
    for varint in (False, True):
        if _is_framed(head, varint=varint):
            content = _framed_content(head, varint=varint)
            return Format(partial(messages, varint=varint), content, "message")
    if head[0] == _FIELD_1 and _is_request(head, complete=len(head) < HEAD_BYTES):
        return Format(whole, "protobuf", "message")
    if (found := _lines(head)) is not None:
        return found
    raise RecordingError(
        f"{source.name}: no recording of spans that is known here: OTLP JSON (one request a line), "
        "OTLP protobuf (each message after its length), or Zipkin v2 JSON"
    )


def _json(source: Source, text: bytes) -> Format:
    if b"\n" not in text and len(text) > HEAD_BYTES // 2:
        text = source.peek(LINE_BYTES).lstrip(_SPACE)
    if (found := _lines(text)) is not None:
        return found
    head = text[:HEAD_BYTES]
    is_list = head[:1] == b"["
    if _REQUEST.match(head):
        # A request may be as large as the file: its resources are read one by one.
        return Format(partial(items, depth=2), "otlp-json", "item")
    if b'"resourceSpans"' in head or b'"resource_spans"' in head:
        return Format(partial(items, depth=int(is_list)), "otlp-json", "item")
    if is_list or (b'"traceId"' in head and b'"id"' in head):
        return Format(partial(items, depth=int(is_list)), "zipkin", "item")
    hint = " (Jaeger's JSON is not read)" if b'"traceID"' in head else ""
    raise RecordingError(f"{source.name}: JSON, but neither of OTLP nor of Zipkin{hint}")


def _lines(head: bytes) -> Format | None:
    """A format of lines, where one of the first lines is a document."""
    for line in head.split(b"\n", LINES_TRIED)[:LINES_TRIED]:
        if line[:1] not in (b"{", b"["):
            continue
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if content := _content_of(document):
            return Format(lines, content, "line")
    return None


def _content_of(document: Any) -> Content | None:
    if isinstance(document, dict):
        if "resourceSpans" in document or "resource_spans" in document:
            return "otlp-json"
        return "zipkin" if {"traceId", "id"} <= document.keys() else None
    for one in document if isinstance(document, list) else ():
        return _content_of(one)
    return None


def _frames(head: bytes, *, varint: bool) -> Iterator[bytes]:
    """The messages that the head has whole; a :class:`FramingError` where it is cut."""
    blocks = iter((head,))
    for _, piece in messages(lambda: next(blocks, b""), varint=varint):
        yield piece


def _is_framed(head: bytes, *, varint: bool) -> bool:
    """Whether the head begins with a length and what may have it."""
    try:
        first = next(_frames(head, varint=varint), None)
    except ValueError:  # the first message is longer than the head, or this is no length
        skip = 4
        if varint:
            skip = next((at + 1 for at in range(5) if head[at : at + 1] < b"\x80"), 0)
        body = head[skip:]
        claimed = int.from_bytes(head[:4], "big")
        is_length = varint or len(body) <= claimed <= MAX_PIECE_BYTES
        plausible = len(head) >= HEAD_BYTES and is_length
        return plausible and body[:1] == bytes([_FIELD_1])
    if first is None:
        return False
    if first[:4] == ZSTD_MAGIC or first[:1] == b"{":
        return True
    return first[:1] == bytes([_FIELD_1]) and _is_request(first, complete=True)


def _is_request(body: bytes, *, complete: bool) -> bool:
    if not complete:
        return True
    try:
        return len(ExportTraceServiceRequest.FromString(body).resource_spans) > 0
    except ProtobufError:
        return False


def _framed_content(head: bytes, *, varint: bool) -> Content:
    try:
        first = next(_frames(head, varint=varint), b"")
    except ValueError:
        return "protobuf"
    return "otlp-json" if first[:1] == b"{" else "protobuf"
