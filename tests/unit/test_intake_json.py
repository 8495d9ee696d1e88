"""OTLP JSON becomes the protobuf it stands for."""

import json

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heatshield_collector.intake.json import protobuf_from_json
from heatshield_collector.intake.payload import MalformedError

TRACE_ID = "5B8EFFF798038103D269B633813FC60C"
SPAN_ID = "EEE19B7EC3C1B174"


def span_of(**fields):
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}
    body = protobuf_from_json("traces", json.dumps(document).encode())
    return ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0]


def record_of(**fields):
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [fields]}]}]}
    body = protobuf_from_json("logs", json.dumps(document).encode())
    return ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0].log_records[0]


@pytest.mark.parametrize("spell", [str.lower, str.upper])
def test_ids_are_hexadecimal_in_either_case(spell) -> None:
    span = span_of(
        traceId=spell(TRACE_ID),
        spanId=spell(SPAN_ID),
        parentSpanId=spell(SPAN_ID),
        links=[{"traceId": spell(TRACE_ID), "spanId": spell(SPAN_ID)}],
    )
    assert (span.trace_id, span.span_id, span.parent_span_id) == (
        bytes.fromhex(TRACE_ID),
        bytes.fromhex(SPAN_ID),
        bytes.fromhex(SPAN_ID),
    )
    assert span.links[0].trace_id == bytes.fromhex(TRACE_ID)
    assert span.links[0].span_id == bytes.fromhex(SPAN_ID)
    record = record_of(traceId=spell(TRACE_ID), spanId=spell(SPAN_ID))
    assert (record.trace_id, record.span_id) == (bytes.fromhex(TRACE_ID), bytes.fromhex(SPAN_ID))


def test_original_field_names_are_understood_too() -> None:
    text = json.dumps(
        {
            "resource_spans": [
                {"scope_spans": [{"spans": [{"trace_id": TRACE_ID, "start_time_unix_nano": 5}]}]}
            ]
        }
    )
    request = ExportTraceServiceRequest.FromString(protobuf_from_json("traces", text.encode()))
    span = request.resource_spans[0].scope_spans[0].spans[0]
    assert (span.trace_id, span.start_time_unix_nano) == (bytes.fromhex(TRACE_ID), 5)


@pytest.mark.parametrize("time", [1544712660000000001, "1544712660000000001"])
def test_64_bit_integers_are_numbers_or_text(time) -> None:
    span = span_of(startTimeUnixNano=time, attributes=[{"key": "k", "value": {"intValue": time}}])
    assert span.start_time_unix_nano == 1544712660000000001
    assert span.attributes[0].value.int_value == 1544712660000000001


def test_the_largest_unsigned_integer_is_exact() -> None:
    assert span_of(startTimeUnixNano=2**64 - 1).start_time_unix_nano == 2**64 - 1
    assert span_of(startTimeUnixNano=str(2**64 - 1)).start_time_unix_nano == 2**64 - 1


def test_enums_are_integers_also_unknown_ones() -> None:
    assert span_of(kind=2, status={"code": 2}).kind == 2
    assert span_of(kind=77).kind == 77


def test_unknown_fields_are_ignored_at_every_level() -> None:
    document = {
        "later": 1,
        "resourceSpans": [
            {
                "later": {"traceId": "not hexadecimal"},
                "resource": {"later": []},
                "scopeSpans": [{"later": None, "spans": [{"name": "n", "later": {"a": 1}}]}],
            }
        ],
    }
    body = protobuf_from_json("traces", json.dumps(document).encode())
    request = ExportTraceServiceRequest.FromString(body)
    assert request.resource_spans[0].scope_spans[0].spans[0].name == "n"


def test_every_kind_of_attribute() -> None:
    span = span_of(
        attributes=[
            {"key": "s", "value": {"stringValue": "traceId"}},
            {"key": "b", "value": {"boolValue": True}},
            {"key": "d", "value": {"doubleValue": 0.5}},
            {"key": "nan", "value": {"doubleValue": "NaN"}},
            {"key": "x", "value": {"bytesValue": "AQI="}},
            {"key": "a", "value": {"arrayValue": {"values": [{"intValue": "-1"}]}}},
            {
                "key": "m",
                "value": {
                    "kvlistValue": {"values": [{"key": "traceId", "value": {"stringValue": "z"}}]}
                },
            },
            {"key": "n", "value": {}},
        ]
    )
    values = {pair.key: pair.value for pair in span.attributes}
    assert values["s"].string_value == "traceId"
    assert values["b"].bool_value is True
    assert values["d"].double_value == 0.5
    assert values["nan"].double_value != values["nan"].double_value
    assert values["x"].bytes_value == b"\x01\x02"
    assert values["a"].array_value.values[0].int_value == -1
    assert values["m"].kvlist_value.values[0].value.string_value == "z"
    assert values["n"].WhichOneof("value") is None


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
@pytest.mark.parametrize("text", [b"{}", b' {"resourceSpans": [], "resourceLogs": []} '])
def test_an_empty_request_is_empty(signal, text) -> None:
    assert protobuf_from_json(signal, text) == b""


def test_null_is_as_good_as_absent() -> None:
    assert span_of(traceId=None, name=None, attributes=None).trace_id == b""


MALFORMED = {
    "no text": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"a": "\xff"}',
    "a lone surrogate": rb'{"resourceSpans": [{"schemaUrl": "\ud800"}]}',
    "a list": b"[]",
    "a number": b"1",
    "a string for a list": b'{"resourceSpans": "x"}',
    "null in a list": b'{"resourceSpans": [null]}',
    "a number for a span": b'{"resourceSpans": [{"scopeSpans": [{"spans": [1]}]}]}',
    "a name that is a number": b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 1}]}]}]}',
    "a number beyond doubles": (
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": 1e400}]}]}]}'
    ),
    "an enum beyond doubles": (
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": 1e400}]}]}]}'
    ),
    "more digits than Python converts": (
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "'
        + b"1" * 5000
        + b'"}]}]}]}'
    ),
    "nesting without end": b'{"resourceSpans":' + b"[" * 100_000,
    "two values in one": (
        b'{"resourceSpans": [{"resource": {"attributes": '
        b'[{"key": "k", "value": {"intValue": 1, "stringValue": "s"}}]}}]}'
    ),
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_anything_else_is_malformed_with_a_reason(text: bytes) -> None:
    with pytest.raises(MalformedError) as raised:
        protobuf_from_json("traces", text)
    assert 0 < len(str(raised.value)) <= 300


@pytest.mark.parametrize("bad", ["xyz", "5B8", "5B 8E", "é", 5, ["5B"], {}, True])
def test_an_id_that_is_not_hexadecimal_is_malformed(bad) -> None:
    with pytest.raises(MalformedError, match="traceId is not hexadecimal"):
        span_of(traceId=bad)


@pytest.mark.parametrize("bad", [-1, 2**64, "1e400", 0.5, "five", True, []])
def test_a_time_that_is_not_an_unsigned_integer_is_malformed(bad) -> None:
    with pytest.raises(MalformedError):
        span_of(startTimeUnixNano=bad)


@pytest.mark.parametrize(
    "resources",
    ["{}," * 10_000 + "{}", '{"scopeSpans":[' + "{}," * 10_000 + "{}]}"],
    ids=["resources", "scopes"],
)
def test_too_many_resources_or_scopes_are_malformed(resources) -> None:
    with pytest.raises(MalformedError, match="more than 10000 resources or scopes"):
        protobuf_from_json("traces", f'{{"resourceSpans":[{resources}]}}'.encode())


def test_as_many_resources_as_a_request_may_have_are_taken() -> None:
    text = '{"resourceSpans":[' + "{}," * 9_999 + "{}]}"
    body = protobuf_from_json("traces", text.encode())
    assert len(ExportTraceServiceRequest.FromString(body).resource_spans) == 10_000
