"""Traces that are not kept are left out by every service alike, and never what matters."""

import random

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from heatshield.export.records import Records
from heatshield.export.sampling import TraceSampling
from heatshield.names import COST_ELEMENTS, REJECTED
from heatshield.settings import ServiceSettings
from heatshield.tracing.span import Span
from heatshield.tracing.span_records import Scope

LEFT_OUT = 1 << 100  # its last 56 bits are zeros
KEPT = (1 << 100) + (1 << 56) - 1


def span(trace_id=LEFT_OUT, **attributes):
    return Span(
        "GET /", trace_id, 0, SpanKind.SERVER, attributes, Scope("test"), None, "", lambda _: None
    )


@pytest.fixture
def records():
    settings = ServiceSettings(trace_ratio=0.25)
    return Records(settings, dict, lambda: True)


def test_a_ratio_of_all_traces_is_kept():
    chance = random.Random(7)
    keeps = TraceSampling(0.25, lambda: True).keeps
    kept = sum(keeps(chance.getrandbits(128)) for _ in range(10_000))
    assert 2_350 < kept < 2_650


def test_a_larger_ratio_keeps_what_a_smaller_one_keeps():
    chance = random.Random(7)
    few, many = TraceSampling(0.1, bool).keeps, TraceSampling(0.6, bool).keeps
    ids = [chance.getrandbits(128) for _ in range(2_000)]
    assert all(many(one) for one in ids if few(one))
    assert not any(TraceSampling(0.0, bool).keeps(one) for one in ids)
    assert all(TraceSampling(1.0, bool).keeps(one) for one in [*ids, LEFT_OUT])


def test_spans_of_other_traces_are_not_queued(records):
    records.add_span(span())
    assert len(records) == 0
    records.add_span(span(KEPT))
    assert len(records) == 1


def test_failures_refusals_and_what_is_urgent_are_sent(records):
    failed = span()
    failed.set_status(StatusCode.ERROR)
    records.add_span(failed)
    records.add_span(span(**{REJECTED: True}))
    records.add_span(span(**{COST_ELEMENTS: 20_000}))
    assert len(records) == 3


def test_all_is_sent_while_the_collector_takes_no_reports():
    records = Records(ServiceSettings(trace_ratio=0.0), dict, lambda: False)
    records.add_span(span())
    assert len(records) == 1
