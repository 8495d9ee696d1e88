"""OTLP JSON becomes the protobuf it stands for."""

import json

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heatshield.names import TEXT_MENDED
from heatshield_collector.intake.json import protobuf_from_json
from heatshield_collector.intake.payload import MalformedError

TRACE_ID = "5B8EFFF798038103D269B633813FC60C"
SPAN_ID = "EEE19B7EC3C1B174"


def span_of(**fields):
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}
    body = protobuf_from_json("traces", json.dumps(document).encode()).body
    return ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0]


def record_of(**fields):
    document = {"resourceLogs": [{"scopeLogs": [{"logRecords": [fields]}]}]}
    body = protobuf_from_json("logs", json.dumps(document).encode()).body
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
    request = ExportTraceServiceRequest.FromString(protobuf_from_json("traces", text.encode()).body)
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
    body = protobuf_from_json("traces", json.dumps(document).encode()).body
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
    assert protobuf_from_json(signal, text).body == b""


def test_null_is_as_good_as_absent() -> None:
    assert span_of(traceId=None, name=None, attributes=None).trace_id == b""


MALFORMED = {
    "no text": b"",
    "no JSON": b"{",
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


SPAN = f'{{"traceId": "{TRACE_ID}", "spanId": "{SPAN_ID}"}}'.encode()


def request_of(*spans: bytes) -> bytes:
    return b'{"resourceSpans": [{"scopeSpans": [{"spans": [' + b", ".join(spans) + b"]}]}]}"


def spans_of(body: bytes):
    return ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans


@pytest.mark.parametrize(
    ("name", "mended"),
    [
        (b"a\xffb", "a\ufffdb"),
        (rb"a\ud800b", "a\ufffdb"),
        (rb"a\udc00\ud800", "a\ufffd\ufffd"),
        (rb"\\ud800 \ud83d\ude00 \udfff", "\\ud800 \U0001f600 \ufffd"),
    ],
    ids=["no UTF-8", "a lone surrogate", "a pair the wrong way round", "a pair beside a lone one"],
)
def test_a_text_that_is_no_unicode_is_mended_and_marked(name, mended) -> None:
    converted = protobuf_from_json("traces", request_of(SPAN, b'{"name": "' + name + b'"}', SPAN))
    assert (converted.left_out, converted.mended) == (0, 1)
    spans = spans_of(converted.body)
    assert [span.name for span in spans] == ["", mended, ""]
    assert [[one.key for one in span.attributes] for span in spans] == [[], [TEXT_MENDED], []]
    assert spans[2].trace_id == bytes.fromhex(TRACE_ID)


@pytest.mark.parametrize(
    "bad",
    [b"null", b"5", b'{"traceId": "xyz"}', b'{"kind": 1e400}', b'{"startTimeUnixNano": -1}'],
)
def test_a_record_that_is_no_record_alone_is_left_out(bad) -> None:
    converted = protobuf_from_json("traces", request_of(SPAN, bad, SPAN))
    assert (converted.left_out, converted.mended) == (1, 0)
    assert [span.span_id.hex().upper() for span in spans_of(converted.body)] == [SPAN_ID] * 2


def test_very_many_damaged_records_are_malformed(monkeypatch) -> None:
    monkeypatch.setattr("heatshield_collector.intake.json_mending.MAX_MENDED", 5)
    bad = [b'{"name": "\xff"}', b"null", b'{"kind": "x"}']
    assert protobuf_from_json("traces", request_of(SPAN, *bad, SPAN)).mended == 1
    with pytest.raises(MalformedError, match="more than 5 records are damaged"):
        protobuf_from_json("traces", request_of(SPAN, *bad * 3, SPAN))


def test_nulls_in_lists_are_left_out_but_in_array_values() -> None:
    array = b'{"key": "k", "value": {"arrayValue": {"values": [{"intValue": 1}, null]}}}'
    span = b'{"attributes": [null, ' + array + b'], "events": [null], "links": [null]}'
    converted = protobuf_from_json("traces", request_of(SPAN, span))
    assert (converted.left_out, converted.mended) == (0, 1)
    (attribute, mark), events = (
        getattr(spans_of(converted.body)[1], name) for name in ("attributes", "events")
    )
    assert (len(attribute.value.array_value.values), mark.key, len(events)) == (2, TEXT_MENDED, 0)


def test_a_null_among_bucket_counts_costs_that_metric_alone() -> None:
    """Without it every further count would be that of another bucket."""
    point = '{"count": 1, "explicitBounds": [1], "bucketCounts": [0, null, 1]}'
    document = (
        '{"resourceMetrics": [null, {"scopeMetrics": [{"metrics": [{"name": "a"}, '
        f'{{"name": "b", "histogram": {{"dataPoints": [{point}]}}}}]}}]}}]}}'
    )
    converted = protobuf_from_json("metrics", document.encode())
    assert (converted.left_out, converted.mended) == (2, 0)


def test_a_resource_that_is_none_costs_its_records_alone() -> None:
    bad = '{"resource": 5, "scopeSpans": [{"spans": [{}, {}]}, {"spans": [{}]}]}'
    good = '{"scopeSpans": [{"spans": [{"name": "n"}]}]}'
    text = f'{{"resourceSpans": [{bad}, {good}]}}'
    converted = protobuf_from_json("traces", text.encode())
    assert converted.left_out == 3
    assert [
        span.name
        for span in ExportTraceServiceRequest.FromString(converted.body)
        .resource_spans[1]
        .scope_spans[0]
        .spans
    ] == ["n"]


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
    body = protobuf_from_json("traces", text.encode()).body
    assert len(ExportTraceServiceRequest.FromString(body).resource_spans) == 10_000
