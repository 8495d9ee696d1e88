"""Hypothesis strategies for OTLP export requests: every attribute type, and what senders break."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

MEANINGFUL_KEYS = (
    "enduser.id",
    "user.id",
    "enduser.pseudo.id",
    "heatshield.call",
    "heatshield.rejected",
    "heatshield.cost.elements",
    "heatshield.cost.rows",
    "heatshield.cost.bytes",
    "db.redis.args_length",
    "db.operation.batch.size",
    "heatshield.redis.key_pattern",
    "heatshield.paced.waited_us",
    "db.system",
    "db.system.name",
    "service.name",
    "service.instance.id",
)

UNKNOWN_FIELDS = st.sampled_from(
    (
        b"",
        b"\xc0\x3e\x07",  # field 1000, varint
        b"\xc2\x3e\x03abc",  # field 1000, bytes
        b"\xc5\x3e\x01\x02\x03\x04",  # field 1000, fixed32
        b"\xc1\x3e\x01\x02\x03\x04\x05\x06\x07\x08",  # field 1000, fixed64
        b"\xc3\x3e\x08\x01\xc4\x3e",  # field 1000, a group
    )
)

texts = st.one_of(
    st.text(max_size=6),
    st.text(st.sampled_from("a\x1e\x1f01\x1d\0ä𝄞"), max_size=6),  # separators and their escapes
)
keys = st.one_of(st.sampled_from(MEANINGFUL_KEYS), texts)
int64s = st.one_of(
    st.integers(-3, 5), st.integers(-(2**63), 2**63 - 1), st.sampled_from((-(2**63), 2**63 - 1))
)
times = st.one_of(
    st.integers(0, 3), st.integers(0, 2**64 - 1), st.sampled_from((2**63 - 1, 2**63, 2**64 - 1))
)
uint32s = st.one_of(st.integers(0, 2), st.integers(0, 2**32 - 1))
enums = st.one_of(st.integers(-1, 26), st.sampled_from((-(2**31), 255, 256, 2**31 - 1)))


def ids(size: int) -> st.SearchStrategy[bytes]:
    good = st.binary(min_size=size - 1, max_size=size - 1).map(lambda rest: b"\x01" + rest)
    bad = st.one_of(st.just(bytes(size)), st.binary(max_size=size + 2))
    return st.one_of(*[good] * 9, bad)


def with_unknown(
    message: st.SearchStrategy[Any], kind: Callable[..., Any]
) -> st.SearchStrategy[Any]:
    """Messages that carry, on the wire, a field their definition doesn't have."""
    return st.builds(
        lambda made, extra: kind.FromString(made.SerializeToString() + extra),
        message,
        UNKNOWN_FIELDS,
    )


scalars = st.one_of(
    st.just(AnyValue()),
    st.builds(AnyValue, string_value=texts),
    st.builds(AnyValue, string_value=texts),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, int_value=int64s),
    st.builds(AnyValue, double_value=st.floats()),
    st.builds(AnyValue, bytes_value=st.binary(max_size=6)),
    st.builds(AnyValue, string_value_strindex=st.integers(0, 3)),
)


def _deeper(inner: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[AnyValue]:
    pairs = st.builds(KeyValue, key=texts, value=inner)
    return st.one_of(
        inner,
        st.builds(
            lambda values: AnyValue(array_value=ArrayValue(values=values)),
            st.lists(inner, max_size=3),
        ),
        st.builds(
            lambda values: AnyValue(kvlist_value=KeyValueList(values=values)),
            st.lists(pairs, max_size=3),
        ),
    )


values = _deeper(_deeper(_deeper(scalars)))
attribute = with_unknown(
    st.one_of(
        st.builds(KeyValue, key=keys, value=with_unknown(values, AnyValue)),
        st.builds(KeyValue, key=st.sampled_from(MEANINGFUL_KEYS), value=scalars),
        st.builds(KeyValue, key=keys),
    ),
    KeyValue,
)
attributes = st.lists(attribute, max_size=5)
resources = with_unknown(st.builds(Resource, attributes=attributes), Resource)
scopes = st.builds(InstrumentationScope, name=texts, version=texts, attributes=attributes)
events = st.builds(Span.Event, time_unix_nano=times, name=texts, attributes=attributes)
links = st.builds(Span.Link, trace_id=ids(16), span_id=ids(8), attributes=attributes)

spans = with_unknown(
    st.builds(
        Span,
        trace_id=ids(16),
        span_id=ids(8),
        parent_span_id=ids(8),
        trace_state=texts,
        flags=uint32s,
        name=texts,
        kind=enums,
        start_time_unix_nano=times,
        end_time_unix_nano=times,
        attributes=attributes,
        events=st.lists(events, max_size=2),
        links=st.lists(links, max_size=2),
        dropped_attributes_count=uint32s,
        dropped_events_count=uint32s,
        dropped_links_count=uint32s,
        status=st.one_of(st.none(), st.builds(Status, code=enums, message=texts)),
    ),
    Span,
)
log_records = with_unknown(
    st.builds(
        LogRecord,
        trace_id=ids(16),
        span_id=ids(8),
        time_unix_nano=times,
        observed_time_unix_nano=times,
        severity_number=enums,
        severity_text=texts,
        body=st.one_of(st.none(), values),
        event_name=texts,
        attributes=attributes,
        flags=uint32s,
        dropped_attributes_count=uint32s,
    ),
    LogRecord,
)

trace_requests = with_unknown(
    st.builds(
        ExportTraceServiceRequest,
        resource_spans=st.lists(
            st.builds(
                ResourceSpans,
                resource=st.one_of(st.none(), resources),
                scope_spans=st.lists(
                    st.builds(
                        ScopeSpans,
                        scope=st.one_of(st.none(), scopes),
                        spans=st.lists(spans, max_size=5),
                    ),
                    max_size=2,
                ),
            ),
            max_size=2,
        ),
    ),
    ExportTraceServiceRequest,
)
log_requests = with_unknown(
    st.builds(
        ExportLogsServiceRequest,
        resource_logs=st.lists(
            st.builds(
                ResourceLogs,
                resource=st.one_of(st.none(), resources),
                scope_logs=st.lists(
                    st.builds(
                        ScopeLogs,
                        scope=st.one_of(st.none(), scopes),
                        log_records=st.lists(log_records, max_size=5),
                    ),
                    max_size=2,
                ),
            ),
            max_size=2,
        ),
    ),
    ExportLogsServiceRequest,
)
trace_payloads = trace_requests.map(lambda request: request.SerializeToString())
log_payloads = log_requests.map(lambda request: request.SerializeToString())
