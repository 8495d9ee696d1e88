"""httpx and requests against a real server: local breakers, deadlines, retry budgets."""

import asyncio
import contextlib
import json
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import httpx
import pytest
import requests
import stamina
import tenacity

import heatshield
from heatshield.clock import ManualClock
from heatshield.context.deadline import parse
from heatshield.context.request import Request, with_guard, with_request
from heatshield.counters import COUNTERS
from heatshield.integrations.clients import downstream_httpx, downstream_requests
from heatshield.resilience.attempts import RETRIES, Retries
from heatshield.resilience.downstream import DOWNSTREAM
from heatshield.resilience.local_breaker import State
from heatshield.settings import ServiceSettings

TLS = ssl.create_default_context()  # none is spoken, but making one for each client takes long
REJECTED = {"heatshield-breaker": "b-1", "retry-after": "7"}


class Shop:
    """A real HTTP server that answers with ``status`` and ``headers``, after ``delay_s``."""

    def __init__(self):
        self.status, self.headers, self.delay_s = 200, {}, 0.0
        self.seen = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.seen.append(dict(self.headers.items()))
                time.sleep(outer.delay_s)
                body = json.dumps({"path": self.path}).encode()
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                with contextlib.suppress(OSError):  # the client may be gone
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.peer = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.peer}/owns"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def shop():
    made = Shop()
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch):
    stamina.instrumentation.set_on_retry_hooks([])
    fresh = Retries()
    for name, value in vars(fresh).items():
        monkeypatch.setattr(RETRIES, name, value)
    yield ManualClock()
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture
def install(clock):
    """Install both integrations with these settings, on a clock that stands still."""

    def installed(**settings):
        services = SimpleNamespace(settings=ServiceSettings(**settings))
        downstream_httpx.install(services)
        downstream_requests.install(services)
        DOWNSTREAM.monotonic = RETRIES.monotonic = clock.monotonic

    before = COUNTERS.errors
    yield installed
    downstream_httpx.remove()
    downstream_requests.remove()
    assert COUNTERS.errors == before


def by_httpx(url, timeout=5.0):
    with httpx.Client(timeout=timeout, verify=TLS) as client:
        return client.get(url)


def by_httpx_async(url, timeout=5.0):
    async def get():
        async with httpx.AsyncClient(timeout=timeout, verify=TLS) as client:
            return await client.get(url)

    return asyncio.run(get())


def by_requests(url, timeout=5.0):
    return requests.get(url, timeout=timeout)


CLIENTS = [by_httpx, by_httpx_async, by_requests]
TIMEOUTS = (httpx.TimeoutException, requests.Timeout)

every_client = pytest.mark.parametrize("get", CLIENTS)


def trip(get, shop, clock, status=500):
    shop.status = status
    for _ in range(10):
        assert get(shop.url).status_code == status
    clock.advance(1)
    assert get(shop.url).status_code == status


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


# -- deadlines -------------------------------------------------------------------------------------


def in_real_time():
    DOWNSTREAM.monotonic = RETRIES.monotonic = time.monotonic


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
        with heatshield.context.deadline.Within(0.02, clock.monotonic), pytest.raises(TIMEOUTS):
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


# -- retries ---------------------------------------------------------------------------------------


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
