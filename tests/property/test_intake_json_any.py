"""Whatever JSON comes in: protobuf bytes or a clear refusal, and never a change of meaning."""

import base64
import json
from contextlib import suppress

from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_payloads import trace_payloads

from heatshield_collector.intake.json import protobuf_from_json
from heatshield_collector.intake.payload import MalformedError

NAMES = (
    "resourceSpans",
    "scopeSpans",
    "spans",
    "resource",
    "attributes",
    "links",
    "events",
    "key",
    "value",
    "stringValue",
    "intValue",
    "arrayValue",
    "kvlistValue",
    "values",
    "traceId",
    "spanId",
    "name",
    "kind",
    "status",
    "startTimeUnixNano",
)
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.sampled_from(("", "ab", "00", "NaN", "-1", "é")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    ),
    max_leaves=20,
)


def placed(value: object) -> dict[str, object]:
    """The value where a span stands, so that it reaches the rules about spans."""
    return {"resourceSpans": [{"scopeSpans": [{"spans": [value]}]}]}


@settings(max_examples=300, deadline=None)
@given(json_values, st.sampled_from(("traces", "logs", "metrics")), st.booleans())
def test_any_json_is_taken_or_refused(value, signal, as_span) -> None:
    text = json.dumps(placed(value) if as_span else value).encode()
    with suppress(MalformedError):
        assert isinstance(protobuf_from_json(signal, text).body, bytes)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_taken_or_refused(text) -> None:
    with suppress(MalformedError):
        assert isinstance(protobuf_from_json("traces", text).body, bytes)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(trace_payloads, st.booleans())
def test_a_request_written_as_otlp_json_reads_back_the_same(payload, original_names) -> None:
    request = ExportTraceServiceRequest.FromString(payload)
    request.DiscardUnknownFields()
    document = json_format.MessageToDict(request, preserving_proto_field_name=original_names)
    for part in document.get("resourceSpans", document.get("resource_spans", [])):
        for scope in part.get("scopeSpans", part.get("scope_spans", [])):
            for span in scope.get("spans", []):
                to_hexadecimal(span)
                for link in span.get("links", []):
                    to_hexadecimal(link)
    body = protobuf_from_json("traces", json.dumps(document).encode()).body
    # Text is compared, because NaN differs from itself.
    assert str(ExportTraceServiceRequest.FromString(body)) == str(request)


def to_hexadecimal(record: dict) -> None:
    for name, value in record.items():
        if name.lower().replace("_", "") in ("traceid", "spanid", "parentspanid"):
            record[name] = base64.b64decode(value).hex()
