"""OTLP's protobuf, written by hand: a span in some 5 µs where the stock encoder takes 30.

The format is opentelemetry-proto 1.x (``trace.proto``, ``logs.proto``, ``common.proto``,
``resource.proto``), on protobuf's wire format. A message is a sequence of fields, each a tag byte
(field number * 8 + wire type) and a value: 0 varint, 1 eight bytes, 2 length and bytes, 5 four
bytes. Tags stand in the code as bytes with their field's name beside them.

Most attributes of a service's spans have few different values (routes, methods, statements, hosts),
so encoded text pairs are kept and found again; that is where the time is saved. A property test
reads everything back with the generated classes.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from struct import Struct
from typing import Any, Final, TypeVar

from opentelemetry.trace import SpanKind, StatusCode

from heatshield.context.request import Request
from heatshield.export.logs import LogEvent
from heatshield.names import CALL, ENDUSER_ID, USER_SOURCE
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.tracing.span import ENTRY_KINDS, Span
from heatshield.tracing.span_records import Event, Link, Scope
from heatshield.tracing.values import Plain, plain

__all__ = ["encode_logs", "encode_spans", "forget"]

R = TypeVar("R")

MAX_KEPT: Final = 4_096
"""Encoded pairs and names that are kept; then all are let go: they must be of high cardinality."""

MAX_KEPT_LENGTH: Final = 128
"""Characters of a value that is worth keeping."""

RECORDS_AT_A_TIME: Final = 32
"""Records that are encoded in one go: some 0.2 ms."""

PAUSE_S: Final = 50e-6
"""Long enough for a thread that waits to wake up and take over."""

_OFTEN: Final = range(65_536)
"""Integers that come again: statuses, ports, counts."""

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
    data = _utf8(text if isinstance(text, str) else str(plain(text)))
    return tag + _length(len(data)) + data


def _message(tag: bytes, parts: Sequence[bytes]) -> bytes:
    body = b"".join(parts)
    return tag + _length(len(body)) + body


class _Pairs:
    """Writes KeyValues under one tag, and keeps what it wrote.

    Args:
        tag: of the field that repeats them.
    """

    def __init__(self, tag: bytes) -> None:
        self._tag = tag
        self._texts: dict[tuple[str, str], bytes] = {}
        self._integers: dict[tuple[str, int], bytes] = {}  # apart: True and 1 are one key
        self._keys: dict[str, bytes] = {}

    def write(self, attributes: Mapping[str, Any], parts: list[bytes]) -> None:
        """Append each attribute to ``parts``."""
        texts, integers = self._texts, self._integers
        for key, value in attributes.items():
            kind = type(value)
            if kind is str:
                parts.append(texts.get((key, value)) or self.text(key, value))
            elif kind is int:
                parts.append(integers.get((key, value)) or self._integer(key, value))
            else:
                shown = SANITIZER.shown(key, value)
                parts.append(self._tag + _pair(self._key(key), _any(shown)))

    def text(self, key: str, value: str) -> bytes:
        """One KeyValue of a text. Only one that is not kept is looked through for secrets."""
        found = self._texts.get((key, value))
        if found is None:
            shown = SANITIZER.shown(key, value)
            found = self._tag + _pair(self._key(key), _text(b"\x0a", shown))  # string_value
            if len(value) <= MAX_KEPT_LENGTH:
                _keep(self._texts, (key, value), found)
        return found

    def forget(self) -> None:
        """Write everything anew: it is to be redacted otherwise."""
        self._texts.clear()
        self._integers.clear()

    def _integer(self, key: str, value: int) -> bytes:
        found = self._tag + _pair(self._key(key), _any(SANITIZER.shown(key, value)))
        if value in _OFTEN:
            _keep(self._integers, (key, value), found)
        return found

    def _key(self, key: str) -> bytes:
        found = self._keys.get(key)
        if found is None:
            found = _text(b"\x0a", key if type(key) is str else str(key))  # key
            _keep(self._keys, key, found)
        return found


def _keep(kept: dict[Any, bytes], key: Any, encoded: bytes) -> None:
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[key] = encoded


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
    pairs: list[bytes] = []
    _FIRST.write(values, pairs)
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


_OF_SPAN: Final = _Pairs(b"\x4a")
_OF_LOG: Final = _Pairs(b"\x32")
_OF_EVENT: Final = _Pairs(b"\x1a")
_OF_LINK: Final = _Pairs(b"\x22")
_FIRST: Final = _Pairs(b"\x0a")
"""Attributes of a resource, values of a mapping: field 1."""

_NAMES: Final[dict[str, bytes]] = {}
"""Names of spans, encoded."""


def forget() -> None:
    """Keep nothing of what was written by other settings."""
    for pairs in (_OF_SPAN, _OF_LOG, _OF_EVENT, _OF_LINK, _FIRST):
        pairs.forget()


def _name(name: str) -> bytes:
    encoded = _text(b"\x2a", name)  # name
    _keep(_NAMES, name, encoded)
    return encoded


# -- spans -----------------------------------------------------------------------------------------


def encode_spans(spans: Sequence[Span], resource: Mapping[str, Plain]) -> bytes:
    """An ExportTraceServiceRequest."""
    by_scope: dict[Scope, list[bytes]] = {}
    for span in _unhurried(spans):
        by_scope.setdefault(span.instrumentation_scope, []).append(_span(span))
    return _request(by_scope, resource)


def _unhurried(records: Iterable[R]) -> Iterator[R]:
    """The records, with a pause now and then in which the threads that serve requests run.

    A thread that does nothing but compute keeps Python's lock for 5 ms at a time.
    """
    for count, record in enumerate(records, 1):
        yield record
        if not count % RECORDS_AT_A_TIME:
            time.sleep(PAUSE_S)


def _request(by_scope: Mapping[Scope, list[bytes]], resource: Mapping[str, Plain]) -> bytes:
    """Resources, scopes and records nest alike in requests of spans and of logs."""
    own: list[bytes] = []
    _FIRST.write(resource, own)  # attributes
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
        parts.append(
            _text(b"\x1a", SANITIZER.masked(span.trace_state, span.request))
        )  # trace_state
    name = SANITIZER.name_of(span) if SANITIZER.masking else span.name
    parts.append(_NAMES.get(name) or _name(name))
    parts.append(_KINDS[span.kind])
    # start_time_unix_nano, end_time_unix_nano
    parts.append(_TIMES(0x39, max(0, span.start_time), 0x41, max(0, span.end_time)))
    _span_attributes(span, parts)
    if span.events or span.links or span.status_code is not _UNSET or span.dropped:
        _rest(span, parts)
    body = b"".join(parts)
    return b"\x12" + _length(len(body)) + body  # spans


def _span_attributes(span: Span, parts: list[bytes]) -> None:
    request = span.request
    _OF_SPAN.write(SANITIZER.of_span(span), parts)  # attributes
    if call := span.call:
        parts.append(_OF_SPAN.text(CALL, call))
    if request is not None and request.user is not None:
        parts.append(_OF_SPAN.text(ENDUSER_ID, request.user))
        if request.source and span.kind in ENTRY_KINDS:
            parts.append(_OF_SPAN.text(USER_SOURCE, request.source))


def _rest(span: Span, parts: list[bytes]) -> None:
    """What few spans have."""
    request = span.request
    parts.extend(_event(event, request) for event in span.events)
    parts.extend(_link(link, request) for link in span.links)
    for tag, count in (
        (b"\x50", span.dropped_attributes), (b"\x60", span.dropped_events),
        (b"\x70", span.dropped_links),
    ):  # fmt: skip
        if count:
            parts.append(tag + _varint(count))
    if span.status_code is not _UNSET:
        said = []
        if span.status_description:
            described = SANITIZER.text(str(plain(span.status_description)), request)
            said.append(_text(b"\x12", described))  # message
        said.append(b"\x18" + bytes([span.status_code.value]))  # code
        parts.append(_message(b"\x7a", said))  # status


def _event(event: Event, request: Request | None) -> bytes:
    name = SANITIZER.text(event.name, request)
    parts = [b"\x09", _FIXED64(max(0, event.timestamp)), _text(b"\x12", name)]
    _OF_EVENT.write(SANITIZER.attributes(event.attributes, request), parts)  # attributes
    return _message(b"\x5a", parts)  # events


def _link(link: Link, request: Request | None) -> bytes:
    context = link.context
    parts = [
        b"\x0a\x10", context.trace_id.to_bytes(16, "big"),  # trace_id
        b"\x12\x08", context.span_id.to_bytes(8, "big"),  # span_id
    ]  # fmt: skip
    _OF_LINK.write(SANITIZER.attributes(link.attributes, request), parts)  # attributes
    return _message(b"\x6a", parts)  # links


# -- logs ------------------------------------------------------------------------------------------


def encode_logs(events: Iterable[LogEvent], resource: Mapping[str, str | int]) -> bytes:
    """An ExportLogsServiceRequest."""
    by_scope: dict[Scope, list[bytes]] = {}
    for event in _unhurried(events):
        by_scope.setdefault(Scope(event.logger), []).append(_log(event))
    return _request(by_scope, resource)


def _log(event: LogEvent) -> bytes:
    at = _FIXED64(max(0, event.time_ns))
    parts = [
        b"\x09", at,  # time_unix_nano
        b"\x10", bytes([event.severity]),  # severity_number
        _text(b"\x1a", event.severity_text),  # severity_text
        _message(b"\x2a", [_text(b"\x0a", SANITIZER.text(event.body))]),  # body
    ]  # fmt: skip
    _OF_LOG.write(SANITIZER.attributes(event.attributes, event.masking), parts)  # attributes
    if event.user is not None:
        parts.append(_OF_LOG.text(ENDUSER_ID, event.user))
    if event.trace_id:
        parts += (
            b"\x4a\x10", event.trace_id.to_bytes(16, "big"),  # trace_id
            b"\x52\x08", event.span_id.to_bytes(8, "big"),  # span_id
        )  # fmt: skip
    parts += (b"\x59", at)  # observed_time_unix_nano
    return _message(b"\x12", parts)  # log_records
