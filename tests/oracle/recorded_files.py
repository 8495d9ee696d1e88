"""Writes spans as recordings of every format that replay reads."""

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}
ERROR = 2


def otlp_document(payload: bytes) -> dict[str, Any]:
    """OTLP JSON of a request: protobuf's JSON, but ids are hexadecimal."""
    document = MessageToDict(
        ExportTraceServiceRequest.FromString(payload), use_integers_for_enums=True
    )
    for span in _spans_of(document):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64decode(span[name]).hex()
    return document


def _spans_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for of_resource in document.get("resourceSpans", ()):
        for of_scope in of_resource.get("scopeSpans", ()):
            yield from of_scope.get("spans", ())


def zipkin_spans(payload: bytes) -> list[dict[str, Any]]:
    """The same spans as Zipkin says them, as far as it can: whole microseconds, tags as texts.

    The instance's id is given as the address of its endpoint.
    """
    spans = []
    for of_resource in ExportTraceServiceRequest.FromString(payload).resource_spans:
        said = {one.key: one.value.string_value for one in of_resource.resource.attributes}
        for of_scope in of_resource.scope_spans:
            spans += [_zipkin(span, said) for span in of_scope.spans]
    return spans


def _zipkin(span: Any, resource: dict[str, str]) -> dict[str, Any]:
    start_us = span.start_time_unix_nano // 1_000
    said = {
        "traceId": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "name": span.name,
        "timestamp": start_us,
        "duration": span.end_time_unix_nano // 1_000 - start_us,
        "localEndpoint": {
            "serviceName": resource["service.name"],
            "ipv4": resource.get("service.instance.id", ""),
        },
        "tags": {one.key: _tag(one.value) for one in span.attributes},
    }
    if span.parent_span_id:
        said["parentId"] = span.parent_span_id.hex()
    if span.kind in KINDS:
        said["kind"] = KINDS[span.kind]
    if span.status.code == ERROR:
        said["tags"]["error"] = span.status.message or "true"
    return said


def _tag(value: Any) -> str:
    text = getattr(value, value.WhichOneof("value"))
    return text if isinstance(text, str) else json.dumps(text)


def json_lines(payloads: list[bytes]) -> bytes:
    return b"".join(json.dumps(otlp_document(one)).encode() + b"\n" for one in payloads)


def json_pretty(payloads: list[bytes]) -> bytes:
    return b"\n".join(json.dumps(otlp_document(one), indent=2).encode() for one in payloads)


def framed(payloads: list[bytes]) -> bytes:
    return b"".join(len(one).to_bytes(4, "big") + one for one in payloads)


def varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def delimited(payloads: list[bytes]) -> bytes:
    return b"".join(varint(len(one)) + one for one in payloads)


def single(payloads: list[bytes]) -> bytes:
    """All in one message without a length: protobuf's messages can be put after one another."""
    return b"".join(payloads)


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def each_compressed(payloads: list[bytes]) -> bytes:
    """As the file exporter writes JSON with ``compression: zstd``: each document by itself."""
    return framed([zstd(json.dumps(otlp_document(one)).encode()) for one in payloads])


def zipkin_array(payloads: list[bytes]) -> bytes:
    return json.dumps([span for one in payloads for span in zipkin_spans(one)]).encode()


def zipkin_pretty(payloads: list[bytes]) -> bytes:
    spans = [span for one in payloads for span in zipkin_spans(one)]
    return json.dumps(spans, indent=1).encode()


def zipkin_arrays(payloads: list[bytes]) -> bytes:
    return b"".join(json.dumps(zipkin_spans(one)).encode() + b"\n" for one in payloads)


def zipkin_lines(payloads: list[bytes]) -> bytes:
    spans = [span for one in payloads for span in zipkin_spans(one)]
    return b"".join(json.dumps(span).encode() + b"\n" for span in spans)


def zipkin_traces(payloads: list[bytes]) -> bytes:
    """As ``GET /api/v2/traces`` answers: a list of traces, each a list of spans."""
    traces: dict[str, list[Any]] = {}
    for one in payloads:
        for span in zipkin_spans(one):
            traces.setdefault(span["traceId"], []).append(span)
    return json.dumps(list(traces.values())).encode()


OTLP: dict[str, Callable[[list[bytes]], bytes]] = {
    "spans.jsonl": json_lines,
    "pretty.json": json_pretty,
    "spans.pb": framed,
    "varint.pb": delimited,
    "single.pb": single,
    "spans.jsonl.gz": lambda payloads: gzip.compress(json_lines(payloads)),
    "spans.pb.zst": lambda payloads: zstd(framed(payloads)),
    "each.zst": each_compressed,
}
ZIPKIN: dict[str, Callable[[list[bytes]], bytes]] = {
    "zipkin.json": zipkin_array,
    "pretty-zipkin.json": zipkin_pretty,
    "arrays.jsonl": zipkin_arrays,
    "zipkin.jsonl": zipkin_lines,
    "traces.json": zipkin_traces,
    "zipkin.json.gz": lambda payloads: gzip.compress(zipkin_array(payloads)),
}
WRITERS = {**OTLP, **ZIPKIN}


def write(folder: Path, name: str, payloads: list[bytes]) -> Path:
    """A recording of this name, which says its format."""
    path = folder / name
    path.write_bytes(WRITERS[name](payloads))
    return path
