"""Breakable calls inside a service."""

import asyncio

import pytest
from opentelemetry.trace import SpanKind, StatusCode, get_tracer

import heatshield
from heatshield.names import CALL, ENDUSER_ID, GUARD, REJECTED


def test_a_guard_is_a_span_and_the_call_of_all_within_it(service):
    shop_service = service()
    heatshield.user("u-1")
    with heatshield.guard("refresh"), get_tracer("test").start_as_current_span("inner"):
        pass
    guard, inner = shop_service.span("refresh"), shop_service.span("inner")
    assert guard.attributes[GUARD] is True
    assert guard.kind is SpanKind.INTERNAL
    assert guard.attributes[CALL] == inner.attributes[CALL] == "refresh"
    assert guard.attributes[ENDUSER_ID] == inner.attributes[ENDUSER_ID] == "u-1"
    assert inner.parent.span_id == guard.context.span_id


def test_a_user_named_within_a_guard_outside_of_a_server_is_that_guards(service):
    shop_service = service()
    with heatshield.guard("refresh"):
        heatshield.user("u-1")
    assert shop_service.span("refresh").attributes[ENDUSER_ID] == "u-1"


def test_nested_guards_name_the_innermost_call_and_give_it_back(service):
    shop_service = service()
    with heatshield.guard("outer"):
        with heatshield.guard("inner"), get_tracer("test").start_as_current_span("a"):
            pass
        with get_tracer("test").start_as_current_span("b"):
            pass
    assert shop_service.span("a").attributes[CALL] == "inner"
    assert shop_service.span("b").attributes[CALL] == "outer"


def test_an_open_breaker_raises_before_the_body_and_marks_the_span(service):
    shop_service = service()
    entry_id = shop_service.trip("u-1", "refresh")
    heatshield.user("u-1")
    with pytest.raises(heatshield.BreakerOpen) as raised, heatshield.guard("refresh"):
        pytest.fail("the body ran")
    assert raised.value.entry_id == entry_id
    assert raised.value.retry_after_s > 0
    span = shop_service.span("refresh")
    assert span.attributes[REJECTED] == entry_id
    assert span.status.status_code is StatusCode.UNSET


def test_a_rejection_from_within_is_no_error_of_any_span_it_leaves(service):
    shop_service = service()
    shop_service.trip("u-1", "inner")
    heatshield.user("u-1")
    own = get_tracer("test").start_as_current_span
    with pytest.raises(heatshield.BreakerOpen), heatshield.guard("outer"), own("own"):
        heatshield.guard("inner").__enter__()
    assert {span.status.status_code for span in shop_service.spans} == {StatusCode.UNSET}


def test_an_error_within_is_one(service):
    shop_service = service()
    with pytest.raises(KeyError), heatshield.guard("refresh"):
        raise KeyError("x")
    span = shop_service.span("refresh")
    assert span.status.status_code is StatusCode.ERROR
    assert span.events[0].name == "exception"


def test_naming_a_tripped_user_within_a_guard_raises(service):
    shop_service = service()
    shop_service.trip("u-1", "refresh")
    with pytest.raises(heatshield.BreakerOpen), heatshield.guard("refresh"):
        heatshield.user("u-1")


def test_a_decorated_function_runs_or_falls_back(service):
    shop_service = service()

    @heatshield.breaker("refresh", fallback=lambda n: ("fallback", n))
    def refresh(n):
        return ("ran", n)

    heatshield.user("u-1")
    assert refresh(1) == ("ran", 1)
    shop_service.trip("u-1", "refresh")
    assert refresh(n=2) == ("fallback", 2)
    assert refresh.__name__ == "refresh"


def test_a_decorated_function_without_fallback_raises(service):
    shop_service = service()

    @heatshield.breaker("refresh")
    def refresh():
        pytest.fail("the body ran")

    heatshield.user("u-1")
    shop_service.trip("u-1", "refresh")
    with pytest.raises(heatshield.BreakerOpen):
        refresh()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_async_function_falls_back_to_either_kind(service, kind):
    shop_service = service()

    async def later(n):
        return ("fallback", n)

    @heatshield.breaker("refresh", fallback=later if kind == "async" else lambda n: ("fallback", n))
    async def refresh(n):
        return ("ran", n)

    async def main():
        heatshield.user("u-1")
        before = await refresh(1)
        shop_service.trip("u-1", "refresh")
        return before, await refresh(2)

    assert asyncio.run(main()) == (("ran", 1), ("fallback", 2))


def test_concurrent_tasks_have_their_own_users(service):
    shop_service = service()
    shop_service.trip("u-1", "refresh")

    async def act(user):
        heatshield.user(user)
        await asyncio.sleep(0)
        try:
            async with heatshield.guard("refresh"):
                await asyncio.sleep(0)
        except heatshield.BreakerOpen:
            return "refused"
        return "ran"

    async def main():
        return await asyncio.gather(*(act(f"u-{i}") for i in range(4)))

    assert asyncio.run(main()) == ["ran", "refused", "ran", "ran"]


def test_a_lapsed_grant_opens_without_a_collector(service):
    shop_service = service()
    shop_service.trip("u-1", "refresh")
    heatshield.user("u-1")
    shop_service.clock.advance(30 + 10)
    with heatshield.guard("refresh"):
        pass


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (503, {"heatshield-breaker": "b"}, True),
        (503, {}, False),
        (200, {"heatshield-breaker": "b"}, False),
    ],
)
def test_a_rejection_on_the_wire_is_a_marked_503(status, headers, expected):
    class Response:
        status_code = status

    Response.headers = headers
    assert heatshield.is_rejection(Response()) is expected
    if not expected:
        heatshield.raise_for_rejection(Response())
