"""Retry budgets of calls by httpx and requests, against a real server."""

import asyncio

import httpx
import pytest
import requests
import stamina
import tenacity
from failing_shop import (
    REJECTED,
    TIMEOUTS,
    TLS,
    Shop,
    by_httpx,
    by_requests,
    every_client,
    in_real_time,
    trip,
)

import heatshield
from heatshield.resilience.attempts import RETRIES
from heatshield.resilience.downstream import DOWNSTREAM


def with_stamina(get, shop):
    @stamina.retry(on=heatshield.retry.on(httpx.HTTPError, requests.RequestException), attempts=3)
    def call():
        response = get(shop.url)
        heatshield.raise_for_rejection(response)
        response.raise_for_status()
        return response

    with stamina.set_testing(True, attempts=3):
        return call()


def with_tenacity(get, shop):
    @tenacity.retry(
        retry=heatshield.retry.if_allowed(),
        stop=tenacity.stop_after_attempt(3),
        reraise=True,
    )
    def call():
        response = get(shop.url)
        response.raise_for_status()
        return response

    return call()


LIBRARIES = [with_stamina, with_tenacity]
every_library = pytest.mark.parametrize("call", LIBRARIES)
FAILED = (httpx.HTTPStatusError, requests.HTTPError)


@every_library
@every_client
def test_a_failure_is_retried(call, get, shop, install):
    install()
    shop.status = 500
    with pytest.raises(FAILED):
        call(get, shop)
    assert len(shop.seen) == 3


@every_library
@every_client
def test_a_rejection_is_never_retried(call, get, shop, install):
    install()
    shop.status, shop.headers = 503, REJECTED
    with pytest.raises((*FAILED, heatshield.BreakerOpen)):
        call(get, shop)
    assert len(shop.seen) == 1


@every_library
@every_client
def test_an_open_local_breaker_is_never_asked_again(call, get, shop, clock, install):
    install(local_breakers=True)
    trip(get, shop, clock)
    with pytest.raises(heatshield.BreakerOpen):
        call(get, shop)
    assert DOWNSTREAM.states()[0].refused == 1


@every_library
def test_a_request_without_time_is_never_retried(call, shop, install):
    install()
    in_real_time()
    with heatshield.deadline(-1.0), pytest.raises(heatshield.DeadlineExceeded):
        call(by_httpx, shop)
    shop.status, shop.delay_s = 500, 0.1
    with heatshield.deadline(0.15), pytest.raises((*FAILED, *TIMEOUTS)):
        call(by_httpx, shop)
    assert len(shop.seen) == 2  # the third would begin too late


LITTLE_MORE = 100 + 0.2 * 200
"""Retries that 200 first attempts at once may have. Last attempts are paid for as well: of three,
two are retries."""


def test_a_peer_that_fails_everything_is_asked_little_more_than_once_by_tasks(shop, clock, install):
    """Each attempt awaits its call in the task that the retry library runs in."""
    install()
    shop.status = 500
    client = httpx.AsyncClient(verify=TLS)

    @stamina.retry(on=heatshield.retry.on(httpx.HTTPError), attempts=3)
    async def by_stamina():
        (await client.get(shop.url)).raise_for_status()

    async def maybe(state):
        return state.outcome.failed

    @tenacity.retry(
        retry=heatshield.retry.if_allowed(maybe), stop=tenacity.stop_after_attempt(3), reraise=True
    )
    async def by_tenacity():
        (await client.get(shop.url)).raise_for_status()

    async def main():
        with stamina.set_testing(True, attempts=3):
            for _ in range(20):
                await asyncio.gather(*(by_stamina() for _ in range(5)), return_exceptions=True)
                await asyncio.gather(*(by_tenacity() for _ in range(5)), return_exceptions=True)
        await client.aclose()

    asyncio.run(main())
    assert LITTLE_MORE * 2 / 3 - 1 < len(shop.seen) - 200 <= LITTLE_MORE
    assert set(RETRIES.budgets.balances(clock.monotonic())) == {shop.peer}


@every_library
@pytest.mark.parametrize("get", [by_httpx, by_requests])
def test_a_peer_that_fails_everything_is_asked_little_more_than_once(
    call, get, shop, clock, install
):
    install()
    shop.status = 500
    heatshield.retry.on()  # from here on calls are counted
    for _ in range(200):
        with pytest.raises(FAILED):
            call(get, shop)
    assert LITTLE_MORE * 2 / 3 - 1 < len(shop.seen) - 200 <= LITTLE_MORE
    assert set(RETRIES.budgets.balances(clock.monotonic())) == {shop.peer}
    assert RETRIES.refused > 0


@every_library
def test_the_budget_of_one_peer_is_not_paid_by_another(call, shop, clock, install):
    install()
    shop.status = 500
    broken = Shop()
    broken.status = 500
    for _ in range(100):
        with pytest.raises(FAILED):
            call(by_httpx, broken)
    broken.close()
    with pytest.raises(FAILED):
        call(by_httpx, shop)
    assert len(shop.seen) == 3
