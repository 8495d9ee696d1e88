"""The simplest wire format: a JSON object a line, each a span; on top of OTLP's own decoder.

``{"trace": 1, "span": 2, "service": "shop", "name": "GET /", "start_ns": 0, "end_ns": 5}``
"""

import json
from collections.abc import Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heatshield_collector.decode import Decoded, DecodeError, decode_traces
from heatshield_collector.intake.formats import Format

__all__ = ["SPAN_LINES", "span_lines"]


def span_lines(*spans: dict[str, Any]) -> bytes:
    """Spans as this format has them."""
    return b"".join(json.dumps(span).encode() + b"\n" for span in spans)


def _decode(bodies: Sequence[bytes], received_ns: int) -> Decoded:
    requests, bad = [], {}
    for index, body in enumerate(bodies):
        try:
            requests.append(_request(body))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            bad[index] = f"no line of spans: {error!r}"
    if bad:
        raise DecodeError(next(iter(bad.values())), bad)
    return decode_traces(requests, received_ns)


def _request(body: bytes) -> bytes:
    request = ExportTraceServiceRequest()
    for line in body.splitlines():
        said = json.loads(line)
        of = request.resource_spans.add()
        service = of.resource.attributes.add(key="service.name")
        service.value.string_value = said["service"]
        of.scope_spans.add().spans.add(
            trace_id=said["trace"].to_bytes(16, "big"),
            span_id=said["span"].to_bytes(8, "big"),
            name=said["name"],
            start_time_unix_nano=said["start_ns"],
            end_time_unix_nano=said["end_ns"],
        )
    serialized: bytes = request.SerializeToString()
    return serialized


SPAN_LINES = Format("span-lines", "traces", _decode, "left out: an id is zero")
