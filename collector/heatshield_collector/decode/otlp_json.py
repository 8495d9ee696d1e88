"""OTLP JSON trace requests -> the columns that detection reads, without protobuf between.

For recordings: intake makes protobuf of JSON first, which keeps all that a span says and costs ten
times as much. OTLP JSON is proto3's JSON mapping with hexadecimal ids (OTLP 1.x, "JSON Protobuf
Encoding"); ids in base64, as the mapping itself would have them, are taken too, because exporters
write them, and names in their original spelling (``trace_id``).
"""

import base64
from collections.abc import Iterator
from typing import Any, Final

from heatshield import names
from heatshield_collector.decode.records import UNKNOWN_SERVICE
from heatshield_collector.decode.span_columns import NAMED, NamedValues, named_values

__all__ = ["BadSpanError", "otlp_json_rows"]

_KINDS: Final = dict(
    zip(
        ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"),
        range(6),
        strict=True,
    )
)
_CODES: Final = {"UNSET": 0, "OK": 1, "ERROR": 2}
_INT64_MAX: Final = 2**63 - 1
_NO_SPAN: Final = bytes(8)
_NO_TRACE: Final = bytes(16)
_OF_RESOURCE: Final = frozenset({"scopeSpans", "scope_spans", "instrumentationLibrarySpans"})
_RESOURCE_NAMES: Final = frozenset({names.SERVICE_NAME, names.SERVICE_INSTANCE_ID})


class BadSpanError(ValueError):
    """A document or a span in it is not what the format says that it is."""


def otlp_json_rows(document: Any) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Take the spans of one export request.

    Args:
        document: parsed JSON; a resource of one, with its scopes, is taken, too.

    Returns:
        Rows of :data:`~.span_columns.DETECTED`, and for each span that is left out why.

    Raises:
        BadSpanError: it is no export request of spans.
    """
    if isinstance(document, dict) and not _OF_RESOURCE.isdisjoint(document):
        document = {"resourceSpans": [document]}
    if not isinstance(document, dict) or not (
        isinstance(document.get("resourceSpans", document.get("resource_spans")), list)
    ):
        raise BadSpanError("no OTLP export request of spans: it has no list resourceSpans")
    rows: list[tuple[Any, ...]] = []
    bad: list[str] = []
    for of_resource in _members(document, "resourceSpans", "resource_spans", bad):
        service, instance = _resource(of_resource.get("resource"))
        scopes = [
            *_members(of_resource, "scopeSpans", "scope_spans", bad),
            *_members(of_resource, "instrumentationLibrarySpans", "", bad),
        ]
        for of_scope in scopes:
            for span in _members(of_scope, "spans", "", bad):
                try:
                    rows.append(_row(span, service, instance))
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    bad.append(_reason(error))
    return rows, bad


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"a span without {error.args[0]}"
    return f"a span is damaged: {error}"


def _members(parent: dict[str, Any], name: str, other: str, bad: list[str]) -> Iterator[Any]:
    """Objects of a list; what has another shape is left out."""
    members = parent.get(name)
    if members is None:
        members = parent.get(other)
    if members is None:
        return
    if not isinstance(members, list):
        bad.append(f"{name} is no list")
        return
    for one in members:
        if isinstance(one, dict):
            yield one
        else:
            bad.append(f"{name} has a member that is no object")


def _resource(resource: Any) -> tuple[str, str]:
    attributes = resource.get("attributes") if isinstance(resource, dict) else None
    found = _found(attributes, _RESOURCE_NAMES) if isinstance(attributes, list) else {}
    service = found.get(names.SERVICE_NAME, UNKNOWN_SERVICE)
    return str(service), str(found.get(names.SERVICE_INSTANCE_ID, ""))


def _row(span: dict[str, Any], service: str, instance: str) -> tuple[Any, ...]:
    if "traceId" not in span and "trace_id" in span:
        span = {_camel(name): value for name, value in span.items()}
    start, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
    if not 0 <= start <= _INT64_MAX or not 0 < end <= _INT64_MAX:
        raise BadSpanError("its times are none")
    trace, own = _id(span["traceId"], 16), _id(span["spanId"], 8)
    if trace == _NO_TRACE or own == _NO_SPAN:
        raise BadSpanError("an id is all zero")
    parent = span.get("parentSpanId")
    above = _id(parent, 8) if parent else b""
    name, status = span.get("name", ""), span.get("status")
    if not isinstance(name, str):
        raise BadSpanError("its name is no text")
    attributes = span.get("attributes")
    named: NamedValues = named_values(_found(attributes, NAMED) if attributes else {})
    kind, code = span.get("kind", 0), (status.get("code", 0) if status else 0)
    return (
        trace,
        own,
        b"" if above == _NO_SPAN else above,
        service,
        instance,
        name,
        kind if kind in (0, 1, 2, 3, 4, 5) else _enumerated(kind, _KINDS),
        start,
        max(end - start, 0),
        code if code in (0, 1, 2) else _enumerated(code, _CODES),
        *named,
    )


def _found(attributes: list[Any], wanted: frozenset[str]) -> dict[str, str | int]:
    """Texts and whole numbers of the attributes that are wanted; the first of a name stands."""
    found: dict[str, str | int] = {}
    for one in attributes:
        name = one["key"]
        if name in wanted and name not in found:
            value = one.get("value") or {}
            text = value.get("stringValue")
            if text is None:
                text = value.get("string_value")
            if isinstance(text, str):
                found[name] = text
            elif (number := value.get("intValue", value.get("int_value"))) is not None:
                found[name] = int(number)
    return found


def _id(text: str, size: int) -> bytes:
    if len(text) == 2 * size:
        return bytes.fromhex(text)
    found = base64.b64decode(text, validate=True)
    if len(found) != size:
        raise BadSpanError(f"an id is not of {size} bytes")
    return found


def _enumerated(value: Any, known: dict[str, int]) -> int:
    """The number of a name such as ``SPAN_KIND_SERVER``; 0, unspecified, of what is unknown."""
    return known.get(value.rpartition("_")[2], 0) if isinstance(value, str) else 0


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(one.capitalize() for one in others)
