"""How fast recordings are replayed, by format: from files on the disk to what would have been cut.

A fleet of forty instances sends 10,000 spans a second (:mod:`payloads`): every 200 ms, four of them
their 512 spans of 64 requests. Reading, sorting, linking, detection, rules and breakers are timed;
writing the recordings is not. A second figure is a quiet platform, where each virtual second costs
its rounds and batches however few spans there are.
"""

import base64
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import figures
from figures import Report, Target
from heatshield_collector.backtest import Outcome, backtest
from heatshield_collector.recordings import SortedSpans, little_garbage, read_recordings
from heatshield_collector.settings import CollectorSettings
from payloads import SPANS, Template, zipf_users

__all__ = ["run"]

INSTANCES: Final = 40
SENT_A_STEP: Final = 4
STEP_NS: Final = 200_000_000
BEGAN_NS: Final = 1_700_000_000 * 10**9
STEPS: Final = 600
QUICK_STEPS: Final = 60
JSON_PART: Final = 6
"""JSON takes that much longer to make, so its recordings are that much shorter."""

GOAL: Final = Target("at least", 100_000)
"""Spans a second: a day of 1,000 spans/s takes a quarter of an hour."""

_ZIPKIN_KINDS: Final = {2: "SERVER", 3: "CLIENT"}


def _payloads(steps: int, sent_a_step: int, requests: int) -> Iterator[bytes]:
    users = zipf_users(3)
    templates = [Template(number, users, requests) for number in range(INSTANCES)]
    for step in range(steps):
        for place in range(sent_a_step):
            template = templates[(step * sent_a_step + place) % INSTANCES]
            yield template.payload(BEGAN_NS + (step + 1) * STEP_NS)


def _framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def _otlp_line(payload: bytes) -> bytes:
    request = ExportTraceServiceRequest.FromString(payload)
    document = MessageToDict(request, use_integers_for_enums=True)
    for of_resource in document["resourceSpans"]:
        for span in of_resource["scopeSpans"][0]["spans"]:
            for name in ("traceId", "spanId", "parentSpanId"):
                if name in span:
                    span[name] = base64.b64decode(span[name]).hex()
    return orjson.dumps(document) + b"\n"


def _zipkin_line(payload: bytes) -> bytes:
    spans: list[dict[str, Any]] = []
    for of_resource in ExportTraceServiceRequest.FromString(payload).resource_spans:
        said = {one.key: one.value.string_value for one in of_resource.resource.attributes}
        for span in of_resource.scope_spans[0].spans:
            start_us, end_us = (
                time_ns // 1_000 for time_ns in (span.start_time_unix_nano, span.end_time_unix_nano)
            )
            one = {
                "traceId": span.trace_id.hex(),
                "id": span.span_id.hex(),
                "parentId": span.parent_span_id.hex() or None,
                "name": span.name,
                "kind": _ZIPKIN_KINDS.get(span.kind),
                "timestamp": start_us,
                "duration": end_us - start_us,
                "localEndpoint": {"serviceName": said["service.name"]},
                "tags": {
                    tag.key: str(getattr(tag.value, tag.value.WhichOneof("value")))
                    for tag in span.attributes
                },
            }
            spans.append({name: value for name, value in one.items() if value is not None})
    return orjson.dumps(spans) + b"\n"


def _played(path: Path) -> tuple[Outcome, float, float]:
    """What came of a recording, and the seconds that reading it and playing it took."""
    began_s = time.perf_counter()
    with SortedSpans(path.parent) as spans, little_garbage():
        read_recordings([path], spans, print)
        read_s = time.perf_counter() - began_s
        outcome = backtest(spans, CollectorSettings(mode="protect", cold_start_s=0.0))
    return outcome, read_s, time.perf_counter() - began_s - read_s


def _measure(
    report: Report,
    name: str,
    write: Callable[[bytes], bytes],
    payloads: Iterator[bytes],
    target: Target | None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        with path.open("wb") as file:
            for payload in payloads:
                file.write(write(payload))
        outcome, read_s, played_s = _played(path)
        report.add(f"{name}: in all", outcome.spans / (read_s + played_s), "spans/s", target)
        report.add(f"{name}: reading and sorting", outcome.spans / read_s, "spans/s")
        report.add(f"{name}: detection and rules", outcome.spans / played_s, "spans/s")


def run(*, quick: bool = False) -> Report:
    """Replay a recording of each format, and a quiet one."""
    report = Report("recordings", "recordings through detection, rules and policy")
    steps = QUICK_STEPS if quick else STEPS
    whole = SPANS // 8
    _measure(report, "OTLP protobuf", _framed, _payloads(steps, SENT_A_STEP, whole), GOAL)
    for name, write in (("OTLP JSON", _otlp_line), ("Zipkin JSON", _zipkin_line)):
        part = max(1, steps // JSON_PART)
        _measure(report, name, write, _payloads(part, SENT_A_STEP, whole), None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quiet"
        path.write_bytes(b"".join(_framed(one) for one in _payloads(steps, 1, 1)))
        outcome, read_s, played_s = _played(path)
    speed = outcome.virtual_seconds / (read_s + played_s)
    report.add("a quiet platform, 40 spans/s", speed, "virtual s/s")
    report.notes.append("Wall time; decoding uses all processors where files are large.")
    return report


if __name__ == "__main__":
    figures.main(run)
