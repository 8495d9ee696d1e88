"""Local breakers of httpx and requests, against a real server."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import requests
from failing_shop import (
    REJECTED,
    TLS,
    Shop,
    by_httpx,
    every_client,
    trip,
)

import heatshield
from heatshield.context.request import Request, with_guard, with_request
from heatshield.integrations.clients import downstream_httpx, downstream_requests
from heatshield.resilience.downstream import DOWNSTREAM
from heatshield.resilience.local_breaker import State


@every_client
def test_a_peer_that_fails_is_left_alone_tried_and_taken_back(get, shop, clock, install):
    install(local_breakers=True)
    trip(get, shop, clock)
    calls = len(shop.seen)
    with pytest.raises(heatshield.BreakerOpen) as refusal:
        get(shop.url)
    assert len(shop.seen) == calls  # refused: no call is made
    assert refusal.value.entry_id == f"local:{shop.peer}:GET"
    assert 0 < refusal.value.retry_after_s <= 12
    clock.advance(12)
    assert get(shop.url).status_code == 500  # the trial fails
    with pytest.raises(heatshield.BreakerOpen):
        get(shop.url)
    clock.advance(24)
    shop.status = 200
    for _ in range(20):
        assert get(shop.url).status_code == 200
    (state,) = DOWNSTREAM.states()
    assert (state.peer, state.call, state.state) == (shop.peer, "GET", State.CLOSED)
    assert (state.refused, state.opened) == (2, 2)


@every_client
def test_a_peer_that_is_not_there_is_a_failure(get, clock, install):
    install(local_breakers=True)
    shop = Shop()
    shop.close()
    for again in (10, 1):
        for _ in range(again):
            with pytest.raises((httpx.ConnectError, requests.ConnectionError)):
                get(shop.url)
        clock.advance(1)
    with pytest.raises(heatshield.BreakerOpen):
        get(shop.url)


@every_client
@pytest.mark.parametrize(
    ("status", "headers"),
    [(503, REJECTED), (504, {"heatshield-deadline": "0"}), (404, {}), (429, {})],
)
def test_rejections_expiries_and_the_callers_own_mistakes_are_no_failures(
    get, shop, clock, install, status, headers
):
    install(local_breakers=True)
    shop.headers = headers
    trip(get, shop, clock, status)
    assert get(shop.url).status_code == status
    assert DOWNSTREAM.states()[0].state is State.CLOSED


@every_client
def test_without_the_setting_nothing_is_refused(get, shop, clock, install):
    install()
    trip(get, shop, clock)
    assert get(shop.url).status_code == 500
    assert DOWNSTREAM.states() == ()


@every_client
def test_the_kill_switch_lets_everything_through(get, shop, clock, install):
    install(local_breakers=True, enforce=False)
    trip(get, shop, clock)
    assert DOWNSTREAM.states()[0].state is State.OPEN
    assert get(shop.url).status_code == 500


def test_what_is_switched_off_patches_nothing(install):
    before = (httpx.HTTPTransport.handle_request, requests.adapters.HTTPAdapter.send)
    install(deadlines=False)
    assert (httpx.HTTPTransport.handle_request, requests.adapters.HTTPAdapter.send) == before


def test_removing_puts_everything_back(install):
    before = (
        httpx.HTTPTransport.handle_request,
        httpx.AsyncHTTPTransport.handle_async_request,
        requests.adapters.HTTPAdapter.send,
    )
    install(local_breakers=True)
    assert httpx.HTTPTransport.handle_request is not before[0]
    downstream_httpx.remove()
    downstream_requests.remove()
    assert before == (
        httpx.HTTPTransport.handle_request,
        httpx.AsyncHTTPTransport.handle_async_request,
        requests.adapters.HTTPAdapter.send,
    )


def test_operations_of_the_service_have_breakers_of_their_own(shop, clock, install):
    """One endpoint that fails must not cut the others of its peer: the caller tells them apart."""
    from opentelemetry.context import attach, detach

    install(local_breakers=True)
    token = attach(with_request(Request(call="POST /purchases")))
    try:
        trip(by_httpx, shop, clock)
        with pytest.raises(heatshield.BreakerOpen) as refusal:
            by_httpx(shop.url)
        inner = attach(with_guard("prices"))
        assert by_httpx(shop.url).status_code == 500
        detach(inner)
    finally:
        detach(token)
    assert refusal.value.entry_id == f"local:{shop.peer}:GET in POST /purchases"
    assert {state.caller for state in DOWNSTREAM.states()} == {"POST /purchases", "prices"}


def test_threads_side_by_side_get_one_trial(shop, clock, install):
    install(local_breakers=True)
    trip(by_httpx, shop, clock)
    clock.advance(12)
    shop.delay_s = 0.3

    def attempt(_):
        try:
            return by_httpx(shop.url).status_code
        except heatshield.BreakerOpen:
            return None

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, range(8)))
    assert sorted(answers, key=str) == [500, *[None] * 7]


def test_tasks_side_by_side_get_one_trial(shop, clock, install):
    install(local_breakers=True)
    trip(by_httpx, shop, clock)
    clock.advance(12)
    shop.status, shop.delay_s = 200, 0.3

    async def several():
        async with httpx.AsyncClient(verify=TLS) as client:
            return await asyncio.gather(
                *(client.get(shop.url) for _ in range(8)), return_exceptions=True
            )

    answers = asyncio.run(several())
    assert sum(isinstance(one, heatshield.BreakerOpen) for one in answers) == 7
    assert by_httpx(shop.url).status_code == 200
