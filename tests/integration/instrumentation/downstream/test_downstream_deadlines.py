"""Deadlines of httpx and requests, against a real server."""

import asyncio
import time

import httpx
import pytest
import requests
from failing_shop import (
    TIMEOUTS,
    TLS,
    by_httpx,
    every_client,
    in_real_time,
)

import heatshield
from heatshield.context.deadline import parse
from heatshield.resilience.downstream import DOWNSTREAM
from heatshield.resilience.local_breaker import State


def deadline_in_header(shop):
    (value,) = [v for k, v in shop.seen[-1].items() if k.lower() == "heatshield-deadline"]
    return parse(value)


@every_client
def test_the_time_left_travels(get, shop, install):
    install()
    in_real_time()
    with heatshield.deadline(30.0):
        get(shop.url)
    assert 29 < deadline_in_header(shop) < 30
    get(shop.url)
    assert not any(name.lower() == "heatshield-deadline" for name in shop.seen[-1])


def test_the_request_that_the_service_sends_is_not_changed(shop, install):
    """It may send the same one again, with another deadline or none."""
    install()
    in_real_time()
    with requests.Session() as session, httpx.Client() as client:
        prepared = session.prepare_request(requests.Request("GET", shop.url))
        built = client.build_request("GET", shop.url)
        before = dict(prepared.headers), list(built.headers.raw), dict(built.extensions)
        for send in (lambda: session.send(prepared), lambda: client.send(built)):
            with heatshield.deadline(30.0):
                send()
            assert 29 < deadline_in_header(shop) < 30
            send()
            assert not any(name.lower() == "heatshield-deadline" for name in shop.seen[-1])
        assert (dict(prepared.headers), built.headers.raw, built.extensions) == before


@every_client
def test_an_expired_request_is_not_started(get, shop, install):
    install()
    in_real_time()
    expired = DOWNSTREAM.expired
    with (
        heatshield.deadline(-1.0),
        pytest.raises(heatshield.DeadlineExceeded, match=f"GET at {shop.peer}"),
    ):
        get(shop.url)
    assert shop.seen == []
    assert DOWNSTREAM.expired == expired + 1


@every_client
@pytest.mark.parametrize("own", [5.0, None])
def test_a_call_waits_no_longer_than_its_request_has(get, shop, install, own):
    install(local_breakers=True)
    in_real_time()
    shop.delay_s = 5.0
    began = time.monotonic()
    with heatshield.deadline(0.2), pytest.raises(TIMEOUTS):
        get(shop.url, own)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("own", [(5.0, 5.0), __import__("urllib3").Timeout(5.0)])
def test_requests_other_kinds_of_timeouts_are_cut_too(shop, install, own):
    install()
    in_real_time()
    shop.delay_s = 5.0
    began = time.monotonic()
    with heatshield.deadline(0.2), pytest.raises(requests.Timeout):
        requests.get(shop.url, timeout=own)
    assert time.monotonic() - began < 2


@every_client
def test_short_deadlines_of_one_caller_do_not_break_the_peer_for_all(get, shop, clock, install):
    """Whoever sends deadlines that no peer can keep must not open its breaker."""
    install(local_breakers=True)
    shop.delay_s = 0.3
    for _ in range(12):
        clock.advance(0.1)
        with (
            heatshield.context.deadline.DeadlineScope(0.02, clock.monotonic),
            pytest.raises(TIMEOUTS),
        ):
            get(shop.url)
    (state,) = DOWNSTREAM.states()
    assert (state.state, state.requests) == (State.CLOSED, 0)


@every_client
def test_the_clients_own_timeout_is_a_failure(get, shop, clock, install):
    install(local_breakers=True)
    shop.delay_s = 0.3
    for again in (10, 1):
        for _ in range(again):
            with pytest.raises(TIMEOUTS):
                get(shop.url, 0.02)
        clock.advance(1)
    assert DOWNSTREAM.states()[0].state is State.OPEN


def test_a_task_that_is_cancelled_says_nothing(shop, clock, install):
    install(local_breakers=True)
    shop.delay_s = 0.5

    async def cancelled():
        async with httpx.AsyncClient(verify=TLS) as client:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.get(shop.url), 0.02)

    asyncio.run(cancelled())
    clock.advance(1)
    shop.delay_s = 0.0
    by_httpx(shop.url)
    assert DOWNSTREAM.states()[0].requests == 0
