"""The columnar decoder makes, row for row, what the slow and obvious reference decoder makes."""

from decoded_rows import exact, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from otlp_payloads import log_payloads, trace_payloads
from reference_decoder import reference_logs, reference_spans

from heatshield_collector.decode import decode_logs, decode_traces
from heatshield_collector.model import LOGS, SPANS

RECEIVED_NS = 1_700_000_000_000_000_000

thorough = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@thorough
@given(st.lists(trace_payloads, max_size=3))
def test_spans_decode_as_the_reference_says(payloads: list[bytes]) -> None:
    expected, rejected = reference_spans(payloads, RECEIVED_NS)
    decoded = decode_traces(payloads, RECEIVED_NS)
    assert decoded.table.schema == SPANS
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
