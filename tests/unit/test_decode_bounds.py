"""What a few compressed kilobytes may hold is refused before anything is made of it."""

import subprocess
import sys
from pathlib import Path

import pytest
from export_requests import traces
from google.protobuf.descriptor import Descriptor
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from wire import SPAN_ID, TRACE_ID, attribute, groups, nested, one_span, text, varint

from heatshield.clock import Instant
from heatshield_collector.decode import (
    DecodeError,
    bounds,
    decode_logs,
    decode_metrics,
    decode_traces,
)
from heatshield_collector.intake.formats import FORMATS
from heatshield_collector.intake.json import protobuf_from_json
from heatshield_collector.intake.payload import MalformedError, Payload
from heatshield_collector.pipeline import decode as stage
from heatshield_collector.pipeline.group import Waiting

TRACES: Descriptor = ExportTraceServiceRequest.DESCRIPTOR
METRICS: Descriptor = ExportMetricsServiceRequest.DESCRIPTOR
MANY = 2_000
SPAN = nested(2, nested(1, TRACE_ID), nested(2, SPAN_ID))

HOSTILE = {
    "spans": (decode_traces, nested(1, nested(2, nested(2) * MANY))),
    "spans whose tags have idle bytes": (
        decode_traces,
        nested(1, nested(2, b"\x92\x80\x00\x80\x00" * MANY)),
    ),
    "attributes": (decode_traces, one_span(nested(9) * MANY)),
    "attributes of a resource": (decode_traces, one_span(resource=nested(1, nested(1) * MANY))),
    "values of one attribute": (
        decode_traces,
        one_span(attribute(b"k", nested(5, nested(1) * MANY))),
    ),
    "events": (decode_traces, one_span(nested(11) * MANY)),
    "links": (decode_traces, one_span(nested(13) * MANY)),
    "records": (decode_logs, nested(1, nested(2, nested(2) * MANY))),
    "metrics": (decode_metrics, nested(1, nested(2, nested(2) * MANY))),
    "points": (decode_metrics, nested(1, nested(2, nested(2, nested(5, nested(1) * MANY))))),
    "exemplars": (
        decode_metrics,
        nested(1, nested(2, nested(2, nested(5, nested(1, nested(5) * MANY))))),
    ),
    "buckets of a byte each": (
        decode_metrics,
        nested(1, nested(2, nested(2, nested(10, nested(1, nested(8, nested(2, bytes(16_000)))))))),
    ),
}


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(bounds, "MAX_MEMBERS", 1_000)


@pytest.mark.parametrize(("decode", "payload"), HOSTILE.values(), ids=HOSTILE.keys())
def test_too_many_members_of_any_kind_make_that_payload_alone_bad(few, decode, payload) -> None:
    with pytest.raises(DecodeError, match="records, attributes and other members") as raised:
        decode([b"", payload, b""], 5)
    assert list(raised.value.bad) == [1]


def test_as_many_as_there_may_be_are_taken(few) -> None:
    taken = nested(1, nested(2, SPAN * 990))
    assert decode_traces([taken, taken], 5).table.num_rows == 1_980


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x0a" * 5_000,
        b"\xff" * 5_000,
        bytes(5_000),
        b"\x12\x00" * 2_500,
        varint(10 << 3 | 1) + b"123",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" * 400,
        groups(2_500),
        traces(range(100)),
    ],
)
def test_what_is_walked_ends_whatever_it_is(few, payload) -> None:
    """Malformed bytes are protobuf's to refuse."""
    bounds.has_too_many(TRACES, payload)
    bounds.has_too_many(METRICS, payload)


def test_an_honest_payload_is_not_walked(monkeypatch) -> None:
    """Of nearly all payloads, one pass over the bytes shows that they hold few members."""
    monkeypatch.setattr(bounds, "_exceeds", pytest.fail)
    payload = traces(range(20_000))
    monkeypatch.setattr(bounds, "MAX_MEMBERS", len(payload) // 3)
    assert not bounds.has_too_many(TRACES, payload)


def test_a_name_that_would_stand_in_very_many_rows_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(bounds, "MAX_REPEATED_BYTES", 50_000)
    name = nested(1, nested(1, nested(1, b"service.name"), nested(2, text(b"s" * 1_000))))
    scope = nested(1, nested(1, b"s" * 1_000))
    metric = nested(1, b"m" * 1_000) + nested(5, nested(1, b"\x31" + bytes(8)) * 100)
    good = nested(1, name, nested(2, scope, SPAN * 20))
    assert decode_traces([good], 5).table.num_rows == 20
    for decode, payload in (
        (decode_traces, nested(1, name, nested(2, SPAN * 100))),
        (decode_traces, nested(1, nested(2, scope, SPAN * 100))),
        (decode_logs, nested(1, name, nested(2, nested(2) * 100))),
        (decode_metrics, nested(1, nested(2, nested(2, metric)))),
    ):
        with pytest.raises(DecodeError, match="names take more than"):
            decode([payload], 5)


@pytest.mark.parametrize("value", [b"{}", b"1", b"null", b"[]"])
def test_too_many_values_in_json_are_malformed(monkeypatch, value) -> None:
    monkeypatch.setattr("heatshield_collector.intake.json.MAX_VALUES", 1_000)
    many = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + (value + b",") * 1_000 + b"{}]}]}]}"
    with pytest.raises(MalformedError, match="more than 1000 objects"):
        protobuf_from_json("traces", many)
    marks = b'{"resourceSpans":[{"schemaUrl":"' + b"{," * 2_000 + b'"}]}'
    assert protobuf_from_json("traces", marks).body


def test_many_small_payloads_are_decoded_in_parts(monkeypatch) -> None:
    """Together they must not take the memory that one may not."""
    monkeypatch.setattr(stage, "MAX_JOINT_MEMBERS", 1_000)

    class Charges:
        def charge(self, spans, _now):
            return spans.select([])

    (form,) = (one for one in FORMATS if one.signal == "traces")
    decoder = stage.GroupDecoder([form], Charges(), lambda _: None)
    hostile = nested(1, nested(2, nested(2) * 200))
    rows = [Waiting(Payload("traces", hostile), None, 0.0) for _ in range(20)]
    runs = list(stage._runs(rows))
    assert [one for run in runs for one in run] == rows
    assert 4 <= len(runs) <= 10
    group = decoder.decode(rows, Instant(0.0, 5))
    assert [answer.rejected for answer in group.answers] == [200] * 20


MEASURE = """
import resource, sys
from heatshield_collector.decode import DecodeError, decode_traces
payload = bytes.fromhex(sys.argv[1]) + b"\\x12\\x00" * int(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_traces([payload], 5)
except DecodeError:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_sixty_four_megabytes_of_empty_spans_take_no_memory() -> None:
    """They took 9.1 GiB; a process of its own, for memory is measured at its highest."""
    spans = 33_000_000
    inner = varint(2 << 3 | 2) + varint(2 * spans)
    head = varint(1 << 3 | 2) + varint(len(inner) + 2 * spans) + inner
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, head.hex(), str(spans)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    assert int(ran.stdout) < 200
