"""What decoding says of a batch depends on no hash's key, nor on what else is in the batch."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_payloads import trace_payloads

from heatshield_collector.decode import decode_traces, records
from heatshield_collector.decode.attributes import flatten


@given(st.lists(trace_payloads, max_size=3), st.binary(min_size=1, max_size=64))
def test_key_texts_are_the_same_under_any_key(payloads, key):
    spans = records.read(ExportTraceServiceRequest, payloads, "spans").fields
    attributes = flatten(spans.field("attributes"))
    assert attributes.keys_column(key).equals(attributes.keys_column(b"another"))


@given(st.lists(trace_payloads, max_size=3))
def test_a_batch_decodes_to_the_same_bytes_each_time(payloads):
    first, second = (decode_traces(payloads, 7) for _ in range(2))
    assert first.table.equals(second.table)
    assert first.resources.equals(second.resources)
