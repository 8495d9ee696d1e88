"""OTLP's protobuf, written by hand: a span in some 5 µs where the stock encoder takes 30.

The format is opentelemetry-proto 1.x (``trace.proto``, ``logs.proto``, ``common.proto``,
``resource.proto``), on protobuf's wire format. A message is a sequence of fields, each a tag byte
(field number * 8 + wire type) and a value: 0 varint, 1 eight bytes, 2 length and bytes, 5 four
bytes. Tags stand in the code as bytes with their field's name beside them.

Most attributes of a service's spans have few different values (routes, methods, statements, hosts),
so encoded text pairs are kept and found again; that is where the time is saved. A property test
reads everything back with the generated classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct
from typing import Any, Final

from opentelemetry.trace import SpanKind, StatusCode

from heatshield.export.logs import LogEvent
from heatshield.names import CALL, ENDUSER_ID
from heatshield.tracing.span import Event, Link, Scope, Span
from heatshield.tracing.values import plain

__all__ = ["encode_logs", "encode_spans"]

MAX_KEPT: Final = 4_096
"""Encoded pairs and names that are kept; then all are let go: they must be of high cardinality."""

MAX_KEPT_LENGTH: Final = 128
"""Characters of a value that is worth keeping."""

_TIMES: Final = Struct("<BQBQ").pack
_FIXED64: Final = Struct("<Q").pack
_DOUBLE: Final = Struct("<d").pack

_KINDS: Final = {kind: b"\x30" + bytes([kind.value + 1]) for kind in SpanKind}  # kind

_UNSET: Final = StatusCode.UNSET


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


def _length(value: int) -> bytes:
    return _SMALL[value] if value < len(_SMALL) else _varint(value)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, as file names may hold
        return text.encode("utf-8", "replace")


def _text(tag: bytes, text: str) -> bytes:
    data = _utf8(text)
    return tag + _length(len(data)) + data


def _message(tag: bytes, parts: Sequence[bytes]) -> bytes:
    body = b"".join(parts)
    return tag + _length(len(body)) + body


class _Kept:
    """Encoded pieces by what they encode."""

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, str], bytes] = {}
        self.keys: dict[str, bytes] = {}
        self.names: dict[str, bytes] = {}

    def pair(self, key: str, value: str) -> bytes:
        """A KeyValue of a text, after its tag."""
        found = self.pairs.get((key, value))
        if found is None:
            found = _pair(self.key(key), _text(b"\x0a", value))  # string_value
            if len(value) <= MAX_KEPT_LENGTH:
                if len(self.pairs) >= MAX_KEPT:
                    self.pairs.clear()
                self.pairs[key, value] = found
        return found

    def key(self, key: str) -> bytes:
        """The key of a KeyValue."""
        found = self.keys.get(key)
        if found is None:
            if len(self.keys) >= MAX_KEPT:
                self.keys.clear()
            found = self.keys[key] = _text(b"\x0a", key)  # key
        return found

    def name(self, name: str) -> bytes:
        """A span's name."""
        found = self.names.get(name)
        if found is None:
            if len(self.names) >= MAX_KEPT:
                self.names.clear()
            found = self.names[name] = _text(b"\x2a", name)  # name
        return found


_KEPT: Final = _Kept()


def _pair(key: bytes, value: bytes) -> bytes:
    size = len(value)
    return _length(len(key) + 1 + len(_length(size)) + size) + key + b"\x12" + _length(size) + value


def _any(value: Any) -> bytes:
    """An AnyValue, without tag and length."""
    write = _WRITERS.get(type(value))
    return _any(plain(value)) if write is None else write(value)


def _integer(value: int) -> bytes:
    return b"\x18" + (_SMALL[value] if 0 <= value < len(_SMALL) else _varint(value))  # int_value


def _array(values: tuple[Any, ...]) -> bytes:
    return _message(b"\x2a", [_message(b"\x0a", [_any(item)]) for item in values])  # array_value


def _mapping(values: Mapping[str, Any]) -> bytes:
    pairs = [b"\x0a" + _pair(_KEPT.key(key), _any(item)) for key, item in values.items()]
    return _message(b"\x32", pairs)  # kvlist_value


_WRITERS: Final[Mapping[Any, Callable[[Any], bytes]]] = {
    str: lambda value: _text(b"\x0a", value),  # string_value
    bool: lambda value: b"\x10\x01" if value else b"\x10\x00",  # bool_value
    int: _integer,
    float: lambda value: b"\x21" + _DOUBLE(value),  # double_value
    bytes: lambda value: b"\x3a" + _length(len(value)) + value,  # bytes_value
    tuple: _array,
    dict: _mapping,
    type(None): lambda _: b"",
}
"""What :func:`~heatshield.tracing.values.plain` makes, and how each is written."""


def _attributes(tag: bytes, attributes: Mapping[str, Any], parts: list[bytes]) -> None:
    pairs = _KEPT.pairs
    for key, value in attributes.items():
        if type(value) is str:
            pair = pairs.get((key, value)) or _KEPT.pair(key, value)
        else:
            pair = _pair(_KEPT.key(key if type(key) is str else str(key)), _any(value))
        parts.append(tag)
        parts.append(pair)


# -- spans -----------------------------------------------------------------------------------------


def encode_spans(spans: Sequence[Span], resource: Mapping[str, str | int]) -> bytes:
    """An ExportTraceServiceRequest."""
    by_scope: dict[Scope, list[bytes]] = {}
    for span in spans:
        by_scope.setdefault(span.instrumentation_scope, []).append(_span(span))
    return _request(by_scope, resource)


def _request(by_scope: Mapping[Scope, list[bytes]], resource: Mapping[str, str | int]) -> bytes:
    """Resources, scopes and records nest alike in requests of spans and of logs."""
    own: list[bytes] = []
    _attributes(b"\x0a", resource, own)  # attributes
    parts = [_message(b"\x0a", own)]  # resource
    for scope, records in by_scope.items():
        said = [_text(b"\x0a", scope.name)]  # name
        if scope.version:
            said.append(_text(b"\x12", scope.version))  # version
        of_scope = [_message(b"\x0a", said), *records]  # scope
        if scope.schema_url:
            of_scope.append(_text(b"\x1a", scope.schema_url))  # schema_url
        parts.append(_message(b"\x12", of_scope))  # scope_spans, scope_logs
    return _message(b"\x0a", parts)  # resource_spans, resource_logs


def _span(span: Span) -> bytes:
    parts = [
        b"\x0a\x10", span.trace_id.to_bytes(16, "big"),  # trace_id
        b"\x12\x08", span.span_id.to_bytes(8, "big"),  # span_id
    ]  # fmt: skip
    if span.parent_id:
        parts.append(b"\x22\x08" + span.parent_id.to_bytes(8, "big"))  # parent_span_id
    if span.trace_state:
        parts.append(_text(b"\x1a", span.trace_state))  # trace_state
    parts.append(_KEPT.names.get(span.name) or _KEPT.name(span.name))
    parts.append(_KINDS[span.kind])
    # start_time_unix_nano, end_time_unix_nano
    parts.append(_TIMES(0x39, max(0, span.start_time), 0x41, max(0, span.end_time)))
    _span_attributes(span, parts)
    if span.events or span.links or span.status_code is not _UNSET or span.dropped:
        _rest(span, parts)
    body = b"".join(parts)
    return b"\x12" + _length(len(body)) + body  # spans


def _span_attributes(span: Span, parts: list[bytes]) -> None:
    request, attributes = span.request, span.raw_attributes
    if request is not None and request.raw_user:
        attributes = request.masked_values(attributes)
    _attributes(b"\x4a", attributes, parts)  # attributes
    if call := span.call:
        parts.append(b"\x4a")
        parts.append(_KEPT.pairs.get((CALL, call)) or _KEPT.pair(CALL, call))
    if request is not None and request.user is not None:
        parts.append(b"\x4a")
        parts.append(_KEPT.pair(ENDUSER_ID, request.user))


def _rest(span: Span, parts: list[bytes]) -> None:
    """What few spans have."""
    masked = span.request.masked_values if span.request and span.request.raw_user else dict
    parts.extend(_event(event, masked(event.attributes)) for event in span.events)
    parts.extend(_link(link) for link in span.links)
    for tag, count in (
        (b"\x50", span.dropped_attributes), (b"\x60", span.dropped_events),
        (b"\x70", span.dropped_links),
    ):  # fmt: skip
        if count:
            parts.append(tag + _varint(count))
    if span.status_code is not _UNSET:
        said = []
        if span.status_description:
            described = masked({"": span.status_description})[""]
            said.append(_text(b"\x12", str(plain(described))))  # message
        said.append(b"\x18" + bytes([span.status_code.value]))  # code
        parts.append(_message(b"\x7a", said))  # status


def _event(event: Event, attributes: Mapping[str, Any]) -> bytes:
    parts = [b"\x09", _FIXED64(max(0, event.timestamp)), _text(b"\x12", event.name)]
    _attributes(b"\x1a", attributes, parts)  # attributes
    return _message(b"\x5a", parts)  # events


def _link(link: Link) -> bytes:
    context = link.context
    parts = [
        b"\x0a\x10", context.trace_id.to_bytes(16, "big"),  # trace_id
        b"\x12\x08", context.span_id.to_bytes(8, "big"),  # span_id
    ]  # fmt: skip
    _attributes(b"\x22", link.attributes, parts)  # attributes
    return _message(b"\x6a", parts)  # links


# -- logs ------------------------------------------------------------------------------------------


def encode_logs(events: Iterable[LogEvent], resource: Mapping[str, str | int]) -> bytes:
    """An ExportLogsServiceRequest."""
    by_scope: dict[Scope, list[bytes]] = {}
    for event in events:
        by_scope.setdefault(Scope(event.logger), []).append(_log(event))
    return _request(by_scope, resource)


def _log(event: LogEvent) -> bytes:
    time = _FIXED64(max(0, event.time_ns))
    parts = [
        b"\x09", time,  # time_unix_nano
        b"\x10", bytes([event.severity]),  # severity_number
        _text(b"\x1a", event.severity_text),  # severity_text
        _message(b"\x2a", [_text(b"\x0a", event.body)]),  # body
    ]  # fmt: skip
    _attributes(b"\x32", event.attributes, parts)  # attributes
    if event.user is not None:
        parts += (b"\x32", _KEPT.pair(ENDUSER_ID, event.user))
    if event.span.is_valid:
        parts += (
            b"\x4a\x10", event.span.trace_id.to_bytes(16, "big"),  # trace_id
            b"\x52\x08", event.span.span_id.to_bytes(8, "big"),  # span_id
        )  # fmt: skip
    parts += (b"\x59", time)  # observed_time_unix_nano
    return _message(b"\x12", parts)  # log_records
