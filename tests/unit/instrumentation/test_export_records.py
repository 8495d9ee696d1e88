"""Spans that wait: an urgent one stays urgent, whichever thread is at it."""

import sys
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import SpanKind

from heatshield.export.records import Records
from heatshield.names import COST_ELEMENTS
from heatshield.settings import ServiceSettings
from heatshield.tracing.span import Span
from heatshield.tracing.span_records import Scope

SCOPE = Scope("test")


@pytest.fixture
def switching():
    """Threads change places at almost every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def span(name, elements=0):
    attributes = {COST_ELEMENTS: elements} if elements else {}
    made = Span(name, 1, 0, SpanKind.CLIENT, attributes, SCOPE, None, "", bool)
    made.end_time = made.start_time
    return made


def urgent(number):
    return span(f"urgent {number % 1_000}", 50_000)


def told(records):
    sent = []
    records.encode(lambda payload, is_urgent: sent.append((names(payload), is_urgent)))
    return sent


def names(payload):
    read = ExportTraceServiceRequest.FromString(payload.body)
    return [
        one.name
        for resource in read.resource_spans
        for scope in resource.scope_spans
        for one in scope.spans
    ]


def test_only_what_has_an_urgent_span_and_what_comes_after_it_is_urgent():
    records = Records(ServiceSettings(batch_records=2, queue_records=8), dict)
    assert [records.add_span(one) for one in (span("a"), span("b"))] == [False, True]
    assert records.add_span(urgent(1))
    assert told(records) == [(["a", "b"], False), (["urgent 1"], True)]
    records.add_span(span("c"))
    assert told(records) == [(["c"], False)]


def test_an_urgent_span_that_was_dropped_hurries_nothing():
    records = Records(ServiceSettings(batch_records=2, queue_records=2), dict)
    for one in (urgent(1), span("a"), span("b")):
        records.add_span(one)
    assert told(records) == [(["a", "b"], False)]


@pytest.mark.usefixtures("switching")
def test_no_urgent_span_is_lost_between_the_threads():
    records = Records(ServiceSettings(batch_records=4, queue_records=100_000), dict)
    done, sent = threading.Event(), []

    def serve():
        for number in range(3_000):
            records.add_span(urgent(number))
        done.set()

    thread = threading.Thread(target=serve)
    thread.start()
    while not done.is_set() or len(records):
        sent += told(records)
    thread.join()
    assert sum(len(spans) for spans, _ in sent) == 3_000
    assert all(is_urgent for _, is_urgent in sent)
