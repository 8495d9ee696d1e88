"""Any wire format: joint decoding, malformed payloads named, left-out records counted, stamps."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from export_requests import logs, metrics, traces
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from span_lines import SPAN_LINES, span_lines

from heatshield_collector import model
from heatshield_collector.decode import DecodeError
from heatshield_collector.intake.formats import FORMATS, Format

RECEIVED_NS = 1_700_000_123 * 10**9


def lines(numbers):
    return span_lines(
        *(
            {"trace": n, "span": n, "service": "shop", "name": "GET /", "start_ns": 1, "end_ns": 2}
            for n in numbers
        )
    )


def nameless(numbers):
    request = ExportMetricsServiceRequest.FromString(metrics(numbers))
    request.resource_metrics[0].scope_metrics[0].metrics[0].name = ""
    return request.SerializeToString()


@dataclass
class Case:
    """A format, how to write payloads in it, and the schema of its rows.

    ``mixed`` is a payload of some records that are left out, and how many those are.
    """

    form: Format
    write: Callable
    schema: object
    mixed: tuple[bytes, int]
    malformed: bytes = b"\x0a\xff\xff\xff\xff\x0f no request"

    def decode(self, *bodies):
        return self.form.decode(bodies, RECEIVED_NS)


TRACES, LOGS, METRICS = FORMATS
CASES = [
    Case(TRACES, traces, model.DECODED_SPANS, (traces([2, 0, 0]), 2)),
    Case(LOGS, logs, model.LOGS, (logs([2, 0]), 0)),
    Case(METRICS, metrics, model.SAMPLES, (nameless([1, 2]) + metrics([3]), 2)),
    Case(SPAN_LINES, lines, model.DECODED_SPANS, (lines([2, 0]), 1)),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case.form.name}-{case.form.signal}")
def case(request):
    return request.param


def test_many_payloads_are_decoded_at_once_in_their_order(case):
    decoded = case.decode(case.write([1, 2]), case.write([]), case.write([3]))
    assert decoded.table.schema == case.schema
    assert decoded.table.num_rows == 3
    assert decoded.rejected == [0, 0, 0]
    column, numbers = (
        ("value", [1, 2, 3])
        if case.form.signal == "metrics"
        else ("trace_id", [number.to_bytes(16, "big") for number in (1, 2, 3)])
    )
    assert decoded.table.column(column).to_pylist() == numbers


def test_resources_are_told_once(case):
    decoded = case.decode(case.write([1]), case.write([2]))
    assert decoded.resources.schema == model.RESOURCES
    assert decoded.resources.num_rows == 1


def test_every_row_is_stamped_with_the_time_of_receipt(case):
    table = case.decode(case.write([1, 2])).table
    assert table.column("received_ns").to_pylist() == [RECEIVED_NS] * 2


def test_malformed_payloads_alone_are_named(case):
    good = case.write([1])
    with pytest.raises(DecodeError) as refused:
        case.decode(good, case.malformed, good, case.malformed)
    assert refused.value.bad.keys() == {1, 3}
    assert all(refused.value.bad.values())


def test_records_that_are_left_out_are_counted_by_payload(case):
    mixed, left_out = case.mixed
    decoded = case.decode(case.write([1]), mixed)
    assert decoded.rejected == [0, left_out]
    alone = case.decode(mixed)
    assert (alone.rejected, alone.table.num_rows) == ([left_out], decoded.table.num_rows - 1)
    assert case.form.left_out


def test_no_two_formats_are_called_the_same():
    assert len({(form.name, form.signal) for form in FORMATS}) == len(FORMATS)
