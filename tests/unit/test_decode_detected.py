"""What detection reads of spans is decoded alone, and is the same as when all is decoded."""

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from recording import recording

from heatshield_collector.decode import DecodeError, decode_detected, decode_traces
from heatshield_collector.decode.detected_request import DetectedRequest
from heatshield_collector.decode.span_columns import DETECTED, completed
from heatshield_collector.model import DECODED_SPANS


def odd_values():
    """Spans whose attributes have values of every kind, also where texts are expected."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number in range(1, 4):
        span = spans.add(
            trace_id=bytes([number]) * 16,
            span_id=bytes([number]) * 8,
            name=f"op {number}",
            end_time_unix_nano=5,
        )
        members = span.attributes.add(key="enduser.id").value.array_value.values
        members.add().string_value = "u"
        nested = span.attributes.add(key="user.id").value.kvlist_value.values
        nested.add(key="k").value.int_value = 3
        span.attributes.add(key="db.system").value.bool_value = True
        span.attributes.add(key="heatshield.cost.elements").value.double_value = 1.5
        span.attributes.add(key="heatshield.call")
        span.attributes.add(key="enduser.pseudo.id").value.int_value = number
        span.events.add(name="event")
        span.links.add(trace_id=bytes(16))
    return request.SerializeToString()


@pytest.mark.parametrize(
    "payload",
    [
        odd_values(),
        odd_values().replace(b"op 2", b"op\xff2"),  # mended
        b"",
        *(sent.payload for sent in recording()[:10]),
    ],
)
def test_it_is_the_same_as_when_all_is_decoded(payload):
    whole = decode_traces([payload], 0).table
    detected, left_out = decode_detected([payload])
    assert detected.equals(whole.select(DETECTED.names))
    assert left_out == [0]


def test_a_payload_that_is_none_is_named():
    with pytest.raises(DecodeError) as caught:
        decode_detected([odd_values(), b"\x0a\x7f\xff"])
    assert set(caught.value.bad) == {1}


def test_spans_without_an_end_are_left_out():
    request = ExportTraceServiceRequest.FromString(odd_values())
    request.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano = 0
    detected, left_out = decode_detected([request.SerializeToString()])
    assert (detected.num_rows, left_out) == (2, [1])


def test_the_fields_are_otlps():
    mine = DetectedRequest.DESCRIPTOR.file.message_types_by_name["Span"].fields_by_name
    for name, field in mine.items():
        theirs = Span.DESCRIPTOR.fields_by_name[name]
        assert (field.number, field.is_repeated) == (theirs.number, theirs.is_repeated)


def test_what_is_not_read_is_empty():
    whole = completed(decode_detected([odd_values()])[0])
    assert whole.schema.equals(DECODED_SPANS)
    assert set(whole["attribute_keys"].to_pylist()) == {""}
    assert whole["events"].null_count == 3
