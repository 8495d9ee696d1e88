"""What is urgent, what is retried, what is encoded: the pure parts of the export."""

import logging
import random

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from heatshield.counters import COUNTERS
from heatshield.export.answer import Answer
from heatshield.export.logs import LogEvent
from heatshield.export.payloads import encode
from heatshield.export.retry_policy import (
    HOLD_S,
    MAX_ATTEMPTS,
    MAX_BACKOFF_S,
    MIN_BACKOFF_S,
    Delivered,
    Drop,
    Retry,
    after_answer,
    after_silence,
    backoff_s,
)
from heatshield.export.urgency import MAX_CALLS, Urgency

RESOURCE = {"service.name": "shop", "service.instance.id": "i-1", "heatshield.workers": 2}


def test_a_whole_collection_refresh_is_urgent_and_stays_so():
    urgency = Urgency()
    assert not any(urgency.judge("SADD", 0.001, 10) for _ in range(100))
    assert all(urgency.judge("SADD", 0.050, 20_000) for _ in range(4))


def test_a_slow_call_among_fast_ones_is_urgent():
    urgency = Urgency()
    rng = random.Random(7)
    ordinary = [urgency.judge("GET /", rng.uniform(0.004, 0.006), 0) for _ in range(200)]
    assert not any(ordinary)
    assert urgency.judge("GET /", 0.2, 0)


def test_the_usual_of_an_expensive_call_is_not_urgent():
    urgency = Urgency()
    judged = [urgency.judge("nightly", 3.0, 50_000) for _ in range(300)]
    assert not any(judged[200:])


def test_a_span_of_microseconds_is_never_urgent():
    urgency = Urgency()
    judged = [urgency.judge("tiny", 0.000_001, 0) for _ in range(50)]
    assert not any([*judged, urgency.judge("tiny", 0.001, 0)])


def test_names_beyond_the_bound_are_not_remembered():
    urgency = Urgency()
    for i in range(3 * MAX_CALLS):
        urgency.judge(f"user {i}", 9.0, 9_000)
    assert len(urgency._usual) == MAX_CALLS


@pytest.mark.parametrize("status", [200, 202])
def test_success_is_delivered(status):
    assert after_answer(Answer(status, {}, b""), 1) == Delivered()


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 500, 501])
def test_a_final_refusal_is_not_retried(status):
    assert after_answer(Answer(status, {"retry-after": "1"}, b""), 1) == Drop("refused")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_overload_is_retried_after_what_it_asks_and_not_for_ever(status):
    answer = Answer(status, {"retry-after": "3"}, b"")
    assert after_answer(answer, 1, lambda: 0.0) == Retry(3.0)
    assert after_answer(answer, MAX_ATTEMPTS) == Drop("overloaded")


def test_an_unreasonable_retry_after_is_cut():
    waiting = after_answer(Answer(503, {"retry-after": "86400"}, b""), 1)
    assert isinstance(waiting, Retry)
    assert waiting.after_s <= 30


def test_a_silent_collector_is_tried_for_a_while_only():
    assert isinstance(after_silence(1, 0.0), Retry)
    assert after_silence(50, HOLD_S) == Drop("unreachable")


def test_backoff_has_full_jitter_within_its_bounds():
    for attempt in range(1, 2_000, 7):
        assert backoff_s(attempt, lambda: 0.0) == MIN_BACKOFF_S
        assert backoff_s(attempt, lambda: 0.999) <= MAX_BACKOFF_S


def spans(*attributes):
    made = []
    provider = TracerProvider(
        resource=Resource({"service.name": "other", "cloud.zone": "z"}), shutdown_on_exit=False
    )
    for given in attributes:
        span = provider.get_tracer("t").start_span("s")
        span._attributes = given
        span._name = given.get("name", "s")
        span.end = None
        made.append(span._readable_span())
    return made


def test_payloads_say_which_process_they_come_from():
    (payload,) = encode(spans({"a": 1}), [], RESOURCE)
    (of_resource,) = ExportTraceServiceRequest.FromString(payload.body).resource_spans
    found = {a.key: a.value for a in of_resource.resource.attributes}
    assert found["service.name"].string_value == "shop"
    assert found["service.instance.id"].string_value == "i-1"
    assert found["heatshield.workers"].int_value == 2
    assert found["cloud.zone"].string_value == "z"
    assert (payload.path, payload.records) == ("/v1/traces", 1)


def test_one_span_that_cannot_be_encoded_costs_itself_only():
    before = COUNTERS.dropped.get("not_encodable", 0)
    first, last = spans({"a": 1}, {"a": 2})
    payloads = encode([first, object(), last], [], RESOURCE)
    assert sum(payload.records for payload in payloads) == 2
    assert COUNTERS.dropped["not_encodable"] == before + 1


def test_a_log_record_keeps_what_was_said():
    event = LogEvent.here(
        123, logging.WARNING, "bought \udc80", {"n": 3, "ok": True, "o": [1]}, "shop"
    )
    (payload,) = encode([], [event], RESOURCE)
    (of_resource,) = ExportLogsServiceRequest.FromString(payload.body).resource_logs
    (scope,) = of_resource.scope_logs
    (record,) = scope.log_records
    assert scope.scope.name == "shop"
    assert (record.time_unix_nano, record.severity_number, record.severity_text) == (
        123,
        13,
        "WARN",
    )
    assert record.body.string_value == "bought ?"
    found = {a.key: a.value for a in record.attributes}
    assert (found["n"].int_value, found["ok"].bool_value) == (3, True)
    assert [item.int_value for item in found["o"].array_value.values] == [1]
