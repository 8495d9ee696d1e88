"""Zipkin v2 JSON -> the same columns as OTLP.

Source: zipkin-api, ``zipkin2-api.yaml`` (ListOfSpans), and OpenTelemetry's "Zipkin exporter", whose
mapping is undone here: a kind that is absent is internal, the tag ``error`` is a failure, times are
microseconds, an id of 64 bits is padded with zeros. A *shared* span has one id on both sides: its
server's half keeps that id, and linking tells both by kind and service.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from heatshield import names
from heatshield_collector.decode.errors import DecodeError
from heatshield_collector.decode.otlp_json import BadSpanError
from heatshield_collector.decode.records import UNKNOWN_SERVICE, Decoded, text_ids
from heatshield_collector.decode.span_columns import (
    DETECTED,
    NAMED,
    NUMBERS,
    UNSAID,
    named_values,
)
from heatshield_collector.model import DECODED_SPANS, ESCAPE, RESOURCES, SEPARATOR, escaped

__all__ = ["decode_zipkin", "zipkin_rows"]

_KINDS: Final = {"SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_INTERNAL: Final = 1
_CODES: Final = {"OK": 1, "ERROR": 2}
_ERROR: Final = 2

BACKENDS: Final = frozenset(
    {
        *("redis", "memcached", "mysql", "mariadb", "postgresql", "postgres", "mongodb"),
        *("cassandra", "elasticsearch", "oracle", "sqlserver", "mssql", "sqlite"),
    }
)
"""Names of remote services that are databases, as Brave and Spring name them where a client span
has no ``db.system``."""

_INT64_MAX: Final = 2**63 - 1
_MAX_US: Final = _INT64_MAX // 1_000
_TRACE_HEX: Final = 32
_SPAN_HEX: Final = 16
_DECIMAL_DIGITS: Final = 19


def decode_zipkin(payloads: Sequence[bytes], received_ns: int) -> Decoded:
    """Decode payloads, each a JSON list of spans, jointly; all that spans say is kept.

    Args:
        payloads: bodies of ``POST /api/v2/spans``.
        received_ns: when they were received, nanoseconds since the Unix epoch.

    Raises:
        DecodeError: when any payload is no list of objects.
    """
    spans: list[dict[str, Any]] = []
    rows: list[tuple[Any, ...]] = []
    rejected, bad = [], {}
    for index, payload in enumerate(payloads):
        try:
            document = orjson.loads(payload)
            found, reasons = _rows(document, spans)
        except (orjson.JSONDecodeError, BadSpanError) as error:
            bad[index] = str(error)
            continue
        rows += found
        rejected.append(len(reasons))
    if bad:
        raise DecodeError(next(iter(bad.values())), bad)
    table, resources = _whole(rows, spans, received_ns)
    return Decoded(table, resources, rejected, [0] * len(payloads))


def zipkin_rows(document: Any) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Take the spans of a document: a span, a list of spans, or a list of traces.

    Args:
        document: parsed JSON.

    Returns:
        Rows of :data:`~.span_columns.DETECTED`, and for each span that is left out why.

    Raises:
        BadSpanError: it is none of these.
    """
    return _rows(document, None)


def _rows(
    document: Any, kept: list[dict[str, Any]] | None
) -> tuple[list[tuple[Any, ...]], list[str]]:
    if isinstance(document, dict):
        document = [document]
    if not isinstance(document, list):
        raise BadSpanError("no Zipkin spans: neither an object nor a list")
    rows: list[tuple[Any, ...]] = []
    bad: list[str] = []
    for one in document:
        for span in one if isinstance(one, list) else (one,):
            try:
                rows.append(_row(span))
            except KeyError as error:
                bad.append(f"a span without {error.args[0]}")
            except (TypeError, ValueError, AttributeError) as error:
                bad.append(f"a span is damaged: {error}")
            else:
                if kept is not None:
                    kept.append(span)
    return rows, bad


def _row(span: dict[str, Any]) -> tuple[Any, ...]:
    local = span.get("localEndpoint") or {}
    tags = span.get("tags") or {}
    kind = _KINDS.get(span.get("kind") or "", _INTERNAL)
    start_us, duration_us = _times(span)
    found = {name: tags[name] for name in NAMED & tags.keys()}
    for name in NUMBERS & found.keys():
        found[name] = _number(found[name])
    values = named_values(found) if found else UNSAID
    if kind == _KINDS["CLIENT"]:
        remote = span.get("remoteEndpoint") or {}
        backend = values.backend or _backend(remote, tags)
        if backend is not None:
            values = values._replace(backend=backend, address=values.address or _address(remote))
    parent = span.get("parentId")
    name = span.get("name") or ""
    if not isinstance(name, str):
        raise BadSpanError("its name is no text")
    return (
        _id(span["traceId"], _TRACE_HEX),
        _id(span["id"], _SPAN_HEX),
        _id(parent, _SPAN_HEX) if parent and parent.strip("0") else b"",
        _text(local.get("serviceName")) or UNKNOWN_SERVICE,
        _text(local.get("ipv4")) or _text(local.get("ipv6")),
        name,
        kind,
        start_us * 1_000,
        duration_us * 1_000,
        _status(tags),
        *values,
    )


def _times(span: dict[str, Any]) -> tuple[int, int]:
    """Start and duration, µs; a span that says no start began with its first annotation."""
    start = span.get("timestamp")
    if not start:
        start = min(
            (one["timestamp"] for one in span.get("annotations") or () if one.get("timestamp")),
            default=0,
        )
    start, duration = int(start), int(span.get("duration") or 0)
    if not 0 < start <= _MAX_US or not 0 <= duration <= _MAX_US - start:
        raise BadSpanError("its times are none")
    return start, duration


def _id(text: str, digits: int) -> bytes:
    if len(text) > digits:
        if digits != _TRACE_HEX or len(text.lstrip("0")) > digits:
            raise BadSpanError(f"an id of more than {digits} digits")
        text = text.lstrip("0")
    found = bytes.fromhex(text.rjust(digits, "0"))
    if not any(found):
        raise BadSpanError("an id is all zero")
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _status(tags: dict[str, Any]) -> int:
    code = _CODES.get(tags.get("otel.status_code", ""))
    if code is not None:
        return code
    return _ERROR if "error" in tags and tags["error"] != "false" else 0


def _number(text: Any) -> Any:
    """The number that a tag says, as tags are texts; the text where it says none."""
    if isinstance(text, str) and text.isdecimal() and len(text) <= _DECIMAL_DIGITS:
        return int(text)
    return text


def _backend(remote: dict[str, Any], tags: dict[str, Any]) -> str | None:
    name = _text(remote.get("serviceName")).lower()
    if "sql.query" in tags:
        return name or "sql"
    return name if name in BACKENDS else None


def _address(remote: dict[str, Any]) -> str | None:
    host = _text(remote.get("ipv4")) or _text(remote.get("ipv6"))
    port = remote.get("port")
    if not host:
        return None
    return f"{host}:{port}" if isinstance(port, int) and port else host


def _whole(
    rows: list[tuple[Any, ...]], spans: list[dict[str, Any]], received_ns: int
) -> tuple[pa.Table, pa.Table]:
    """``model.DECODED_SPANS`` and ``model.RESOURCES``: with what only people read."""
    tags = [span.get("tags") or {} for span in spans]
    detected = dict(zip(DETECTED.names, zip(*rows, strict=True), strict=True)) if rows else {}
    services = detected.get("service", ())
    ids, resources = _resources(services)
    columns: dict[str, Any] = {
        **detected,
        "status_message": [_message(one) for one in tags],
        "attribute_keys": [SEPARATOR.join(f"s:{escaped(str(key))}" for key in one) for one in tags],
        "attribute_values": [
            SEPARATOR.join(escaped(str(value)) for value in one.values()) for one in tags
        ],
        "events": [_events(span) for span in spans],
        "links": [None] * len(rows),
        "scope": [""] * len(rows),
        "trace_state": [""] * len(rows),
        "flags": [int(bool(span.get("debug"))) for span in spans],
        "dropped": np.zeros(len(rows), np.int64),
        "resource_id": ids,
        "received_ns": np.full(len(rows), received_ns),
    }
    table = pa.table(
        [pa.array(columns.get(field.name, ()), field.type) for field in DECODED_SPANS],
        schema=DECODED_SPANS,
    )
    return table, resources


def _message(tags: dict[str, Any]) -> str:
    text = str(tags.get("error", ""))
    return "" if text in ("true", "false") else text


def _events(span: dict[str, Any]) -> str | None:
    said = [
        {"time_ns": int(one["timestamp"]) * 1_000, "name": str(one["value"]), "attributes": {}}
        for one in span.get("annotations") or ()
        if isinstance(one, dict) and {"timestamp", "value"} <= one.keys()
    ]
    return json.dumps(said) if said else None


def _resources(services: Sequence[str]) -> tuple[list[int], pa.Table]:
    """The id of each row's resource, and the resources: a service's name is all that is said."""
    distinct = list(dict.fromkeys(services))
    keys = f"s:{names.SERVICE_NAME}"
    texts = pa.array([f"{keys}{ESCAPE * 2}{escaped(one)}" for one in distinct], pa.string())
    ids = text_ids(texts)
    by_service = dict(zip(distinct, ids.to_pylist(), strict=True))
    table = pa.table(
        [ids, pa.array([keys] * len(distinct), pa.string()), [escaped(one) for one in distinct]]
        if distinct
        else [[], [], []],
        schema=RESOURCES,
    )
    return [by_service[one] for one in services], table
