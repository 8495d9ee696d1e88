"""Whatever spans say: Zipkin's form and OTLP's form of them are decoded to equal columns."""

import json

import numpy as np
import orjson
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from recorded_files import otlp_document, zipkin_spans

from heatshield import names
from heatshield_collector.decode import decode_detected, decode_traces, decode_zipkin
from heatshield_collector.decode.otlp_json import otlp_json_rows
from heatshield_collector.decode.span_columns import DETECTED, RECORDED_USERS, detected_table
from heatshield_collector.decode.zipkin import zipkin_rows
from heatshield_collector.recordings import SortedSpans
from heatshield_collector.recordings.framing import items

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        [
            *RECORDED_USERS,
            *(names.CALL, names.REJECTED, names.REDIS_KEY_PATTERN, "db.system", "server.address"),
            *("server.port", "http.route"),
        ]
    ),
    TEXTS,
)
COUNTS = st.dictionaries(
    st.sampled_from(
        [
            *(names.COST_ELEMENTS, names.COST_ROWS, names.COST_BYTES, names.BATCH_SIZE),
            *(names.WAITED_US, names.REDIS_ARGS_LENGTH),
        ]
    ),
    st.integers(0, 2**62),
)
IDS = st.binary(min_size=8, max_size=8).filter(any)


@st.composite
def payloads(draw):
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    for key, value in {
        "service.name": draw(TEXTS.filter(bool)),
        "service.instance.id": draw(TEXTS),
    }.items():
        of_resource.resource.attributes.add(key=key).value.string_value = value
    spans = of_resource.scope_spans.add().spans
    for _ in range(draw(st.integers(0, 4))):
        start_us = draw(st.integers(1, 2**50))
        span = spans.add(
            trace_id=draw(IDS) + draw(IDS),
            span_id=draw(IDS),
            parent_span_id=draw(st.one_of(st.just(b""), IDS)),
            name=draw(TEXTS),
            kind=draw(st.integers(1, 5)),
            start_time_unix_nano=start_us * 1_000,
            end_time_unix_nano=(start_us + draw(st.integers(0, 2**40))) * 1_000,
        )
        span.status.code = draw(st.sampled_from([0, 2]))
        for key, value in draw(ATTRIBUTES).items():
            span.attributes.add(key=key).value.string_value = value
        for key, number in draw(COUNTS).items():
            span.attributes.add(key=key).value.int_value = number
    return request.SerializeToString()


@given(payloads())
def test_all_forms_of_the_same_spans_are_equal(payload):
    expected, left_out = decode_detected([payload])
    assert left_out == [0]
    as_json, bad = otlp_json_rows(orjson.loads(json.dumps(otlp_document(payload))))
    assert bad == []
    assert detected_table(as_json).equals(expected)
    as_zipkin, bad = zipkin_rows(zipkin_spans(payload))
    assert bad == []
    assert detected_table(as_zipkin).equals(expected)


@given(payloads())
def test_zipkin_as_a_wire_format_has_the_same_columns_and_all_tags(payload):
    spans = zipkin_spans(payload)
    decoded = decode_zipkin([json.dumps(spans).encode(), b"[]"], 7)
    expected, _ = decode_detected([payload])
    assert decoded.table.select(DETECTED.names).equals(expected)
    assert decoded.rejected == [0, 0]
    assert decoded.table["received_ns"].to_pylist() == [7] * len(spans)
    for keys, span in zip(decoded.table["attribute_keys"].to_pylist(), spans, strict=True):
        assert keys.count("s:") >= len(span["tags"])


@given(payloads())
def test_what_detection_reads_is_what_the_collector_decodes(payload):
    whole = decode_traces([payload], 0).table.select(DETECTED.names)
    found, _ = decode_detected([payload])
    named = [name for name in DETECTED.names if name != "user"]
    assert found.select(named).equals(whole.select(named))


JSON = st.recursive(
    st.one_of(
        st.none(), st.integers(), st.text(max_size=6), st.sampled_from(['"', "\\", "{[", "]}"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), max_size=5)


@given(OBJECTS, st.integers(1, 9), st.sampled_from([None, 1]), st.booleans(), st.booleans())
@settings(max_examples=300)
def test_members_of_a_list_are_found_however_it_is_written(
    documents, step, indent, ascii_, as_list
):
    if as_list:
        text = json.dumps(documents, indent=indent, ensure_ascii=ascii_)
    else:
        text = "\n".join(json.dumps(one, indent=indent, ensure_ascii=ascii_) for one in documents)
    content = text.encode("utf-8", "surrogatepass")
    blocks = iter([content[at : at + step] for at in range(0, len(content), step)])
    found = [json.loads(piece) for _, piece in items(lambda: next(blocks, b""), depth=int(as_list))]
    assert found == documents


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=60), st.integers(1, 20))
def test_spans_come_by_their_end_whatever_fits_into_memory(times, run_spans):
    schema = pa.schema([("start_ns", pa.int64()), ("duration_ns", pa.int64()), ("n", pa.int64())])
    with SortedSpans(run_spans=run_spans) as spans:
        for n, (start, duration) in enumerate(times):
            spans.add(pa.table([[start], [duration], [n]], schema=schema))
        found = [row for _, table in spans.chunks() for row in table.to_pylist()]
    ends = np.array([row["start_ns"] + row["duration_ns"] for row in found])
    assert (np.diff(ends) >= 0).all() if len(ends) else True
    assert sorted(row["n"] for row in found) == list(range(len(times)))
