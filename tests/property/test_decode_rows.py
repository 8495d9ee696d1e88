"""The columnar decoder makes, row for row, what the slow and obvious reference decoder makes."""

from decoded_rows import exact, rows_of
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from otlp_payloads import MEANINGFUL_KEYS, log_payloads, trace_payloads
from reference_decoder import reference_logs, reference_spans

from heatshield_collector.decode import decode_logs, decode_traces
from heatshield_collector.model import DECODED_SPANS, LOGS

RECEIVED_NS = 1_700_000_000_000_000_000

INF = float("inf")
EXTREME_VALUES = (
    AnyValue(),
    *[
        AnyValue(string_value=text)
        for text in ("", "u-1", "0", "\x1f", "\x1e", "\x1e0\x1f1", "ä\0")
    ],
    *[AnyValue(int_value=number) for number in (0, 1, 2, 3, -1, 2**63 - 1, -(2**63))],
    *[AnyValue(double_value=number) for number in (0.0, -0.0, 0.1, 5e-324, INF, -INF, INF - INF)],
    AnyValue(bool_value=False),
    AnyValue(bool_value=True),
    *[AnyValue(bytes_value=raw) for raw in (b"", b"\x1f\xff")],
    AnyValue(array_value=ArrayValue()),
    AnyValue(array_value=ArrayValue(values=[AnyValue(), AnyValue(double_value=INF)])),
    AnyValue(kvlist_value=KeyValueList()),
    AnyValue(
        kvlist_value=KeyValueList(
            values=[
                KeyValue(key="\x1f", value=AnyValue(bytes_value=b"\x1e")),
                KeyValue(key="twice", value=AnyValue(int_value=1)),
                KeyValue(key="twice", value=AnyValue(array_value=ArrayValue(values=[AnyValue()]))),
                KeyValue(key="nothing"),
            ]
        )
    ),
)

thorough = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@thorough
@given(st.lists(trace_payloads, max_size=3))
def test_spans_decode_as_the_reference_says(payloads: list[bytes]) -> None:
    expected, rejected = reference_spans(payloads, RECEIVED_NS)
    decoded = decode_traces(payloads, RECEIVED_NS)
    assert decoded.table.schema == DECODED_SPANS
    assert exact(rows_of(decoded.table, decoded.resources)) == exact(expected)
    assert decoded.rejected == rejected


@thorough
@given(st.lists(log_payloads, max_size=3))
def test_logs_decode_as_the_reference_says(payloads: list[bytes]) -> None:
    expected, rejected = reference_logs(payloads, RECEIVED_NS)
    decoded = decode_logs(payloads, RECEIVED_NS)
    assert decoded.table.schema == LOGS
    assert exact(rows_of(decoded.table, decoded.resources)) == exact(expected)
    assert decoded.rejected == rejected


def test_every_meaningful_key_with_every_extreme_value() -> None:
    """Each pair alone, then before and after a usual value of the same key, in one payload."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for key in MEANINGFUL_KEYS:
        for value in EXTREME_VALUES:
            odd = KeyValue(key=key, value=value)
            for usual in (AnyValue(string_value="usual"), AnyValue(int_value=7)):
                same = KeyValue(key=key, value=usual)
                for attributes in ([odd], [odd, same], [same, odd]):
                    spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, attributes=attributes)
    judge_traces(request)


def test_every_extreme_value_in_events_and_links() -> None:
    """What JSON can't say (infinities, bytes) still reads back as JSON."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id = b"t" * 16, b"s" * 8
    attributes = [KeyValue(key=f"k{i}", value=value) for i, value in enumerate(EXTREME_VALUES)]
    span.events.add(attributes=attributes, time_unix_nano=2**64 - 1)
    span.links.add(attributes=attributes)
    judge_traces(request)


def test_every_extreme_value_as_the_body_of_a_record() -> None:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for body in EXTREME_VALUES:
        records.add(body=body)
    records.add()
    payload = request.SerializeToString()
    expected, _ = reference_logs([payload], RECEIVED_NS)
    decoded = decode_logs([payload], RECEIVED_NS)
    assert exact(rows_of(decoded.table, decoded.resources)) == exact(expected)


def test_resources_that_differ_have_different_ids_and_equal_ones_share_theirs() -> None:
    """Also where a separator of another layer stands in a key or value."""
    payloads = []
    for key, value in (
        ("a", "b\x1dc"),
        ("a\x1db", "c"),
        ("a", "b\x1dc"),
        ("a", "\x1e\x1ec"),
        ("", ""),
    ):
        request = ExportTraceServiceRequest()
        part = request.resource_spans.add()
        part.resource.attributes.add(key=key).value.string_value = value
        part.scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
        payloads.append(request.SerializeToString())
    expected, _ = reference_spans(payloads, RECEIVED_NS)
    decoded = decode_traces(payloads, RECEIVED_NS)
    assert exact(rows_of(decoded.table, decoded.resources)) == exact(expected)
    assert len(decoded.resources) == 4


def judge_traces(request: Message) -> None:
    payload = request.SerializeToString()
    expected, _ = reference_spans([payload], RECEIVED_NS)
    decoded = decode_traces([payload], RECEIVED_NS)
    assert exact(rows_of(decoded.table, decoded.resources)) == exact(expected)
