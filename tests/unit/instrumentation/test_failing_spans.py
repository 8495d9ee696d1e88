"""What fails a span and what does not: any error does, a rejection never, whatever their texts."""

from contextlib import suppress

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode, use_span

from heatshield import BreakerOpen
from heatshield.names import REJECTED
from heatshield.tracing.failure import fail, fail_without_stack
from heatshield.tracing.provider import Provider
from heatshield.tracing.span import Span


def opened():
    return Provider().get_tracer("test").open("work", SpanKind.INTERNAL, {})


def standing_for_a_rejection():
    answer = httpx.Response(
        503, headers={"heatshield-breaker": "b-1"}, request=httpx.Request("GET", "http://shop/")
    )
    return httpx.HTTPStatusError("503", request=answer.request, response=answer)


def refuse():
    raise BreakerOpen("b-1")


class Mute(Exception):  # noqa: N818  # no error of ours
    """Can't be shown."""

    def __str__(self):
        raise RuntimeError


def test_an_error_sets_type_event_and_status():
    span = opened()
    fail(span, ValueError("no stock"))
    assert span.attributes["error.type"] == "ValueError"
    assert [event.name for event in span.events] == ["exception"]
    assert span.events[0].attributes["exception.message"] == "no stock"
    assert (span.status_code, span.status_description) == (StatusCode.ERROR, "ValueError: no stock")


def test_an_error_that_can_not_be_shown_fails_the_span_with_its_type():
    span = opened()
    fail(span, Mute())
    assert span.status_description == "Mute: <Mute>"


def test_an_error_without_its_stack_is_told_by_what_is_handed_over():
    span = opened()
    fail_without_stack(span, "psycopg.errors.UniqueViolation", "Key (?)")
    assert span.attributes["error.type"] == "psycopg.errors.UniqueViolation"
    assert span.status_description == "UniqueViolation: Key (?)"
    assert "exception.stacktrace" not in span.events[0].attributes


@pytest.mark.parametrize(
    "error",
    [
        BreakerOpen("b-1"),
        standing_for_a_rejection(),
        ExceptionGroup("both", [BreakerOpen("b-1"), standing_for_a_rejection()]),
    ],
)
def test_a_rejection_marks_the_span_and_is_no_error(error):
    span = opened()
    fail(span, error)
    assert span.attributes[REJECTED] == "b-1"
    assert "error.type" not in span.attributes
    assert not span.events
    assert span.status_code is StatusCode.UNSET


def test_an_error_that_only_reads_like_a_rejection_is_an_error():
    namesake = type("BreakerOpen", (Exception,), {})
    span = opened()
    with suppress(Exception), use_span(span, end_on_exit=True):
        raise namesake("refused by breaker b-1")
    assert span.status_code is StatusCode.ERROR
    assert span.status_description == "BreakerOpen: refused by breaker b-1"


@pytest.mark.parametrize("error", [BreakerOpen("b-1"), standing_for_a_rejection()])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_rejection_that_leaves_a_span_of_the_service_is_no_error(error, recorded):
    span = opened()
    with suppress(Exception), use_span(span, end_on_exit=True, record_exception=recorded):
        raise error
    assert span.status_code is StatusCode.UNSET
    assert not span.events


def test_a_rejection_that_leaves_a_span_of_the_sdk_is_no_error():
    span = TracerProvider().get_tracer("test").start_span("work")
    with suppress(BreakerOpen), use_span(span, end_on_exit=True):
        raise BreakerOpen("b-1")
    assert span.status.status_code is StatusCode.ERROR
    assert Span.read(span).status_code is StatusCode.UNSET


def test_a_span_of_the_sdk_that_failed_after_a_rejection_is_an_error():
    span = TracerProvider().get_tracer("test").start_span("work")
    with suppress(ValueError), use_span(span, end_on_exit=True):
        span.record_exception(BreakerOpen("b-1"))
        raise ValueError
    assert Span.read(span).status_code is StatusCode.ERROR


def test_what_fails_while_a_rejection_is_handled_is_an_error():
    span = opened()
    try:
        refuse()
    except BreakerOpen:
        span.set_status(StatusCode.ERROR, "no fallback either")
    assert span.status_code is StatusCode.ERROR
