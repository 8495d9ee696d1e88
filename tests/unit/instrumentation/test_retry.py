"""Whether a retry may be made: what is final, whose budget pays, and what libraries hand in."""

import asyncio

import aiohttp
import grpc
import httpx
import pytest
import requests
import stamina
import tenacity

import heatshield
from heatshield.clock import ManualClock
from heatshield.context.deadline import DeadlineScope
from heatshield.counters import COUNTERS
from heatshield.resilience import attempts, retry
from heatshield.resilience.attempts import RETRIES, Retries

MARK = {"heatshield-breaker": "b-1"}
EXPIRED = {"heatshield-deadline": "0"}
REFUSED = heatshield.BreakerOpen("b-1")


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    for name, value in vars(Retries()).items():
        monkeypatch.setattr(RETRIES, name, value)
    for mark in (attempts._FAILED, attempts._REPEATED):  # of tests before
        mark.set("")
    made = ManualClock()
    RETRIES.monotonic = made.monotonic
    return made


def balance(name=""):
    return RETRIES.budgets.of(name).balance(RETRIES.monotonic())


def status_error(status, headers):
    request = httpx.Request("GET", "http://shop/")
    response = httpx.Response(status, headers=headers, request=request)
    return httpx.HTTPStatusError("no", request=request, response=response)


def requests_error(status, headers):
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    assert not response  # a Response of an error is false, and must be looked at all the same
    return requests.HTTPError("no", response=response)


def aiohttp_error(status, headers):
    return aiohttp.ClientResponseError(None, (), status=status, headers=headers)


def grpc_error(code, headers):
    metadata = grpc.aio.Metadata(*headers.items())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata)


def caused_by(error):
    made = RuntimeError("the shop is closed")
    made.__cause__ = error
    return made


FINAL = [
    REFUSED,
    heatshield.DeadlineExceeded(),
    status_error(503, MARK),
    status_error(504, EXPIRED),
    httpx.Response(503, headers=MARK),
    requests_error(503, MARK),
    requests_error(504, EXPIRED),
    aiohttp_error(503, MARK),
    grpc_error(grpc.StatusCode.UNAVAILABLE, MARK),
    grpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, EXPIRED),
    caused_by(REFUSED),
    caused_by(caused_by(status_error(503, MARK))),
    ExceptionGroup("both", [ValueError(), REFUSED]),
    caused_by(ExceptionGroup("both", [caused_by(heatshield.DeadlineExceeded()), ValueError()])),
]

NOT_FINAL = [
    None,
    ValueError(),
    status_error(503, {}),
    status_error(500, MARK),
    httpx.Response(503),
    httpx.ConnectError("no"),
    requests_error(503, {}),
    requests.ConnectionError(),
    aiohttp_error(503, {}),
    aiohttp_error(503, None),
    grpc_error(grpc.StatusCode.UNAVAILABLE, {}),
    grpc.RpcError(),
    caused_by(ValueError()),
    ExceptionGroup("both", [ValueError(), OSError()]),
]


@pytest.mark.parametrize("found", FINAL, ids=repr)
def test_rejections_and_expiries_are_final_however_they_are_wrapped(found):
    assert retry.is_final(found)
    if isinstance(found, Exception):
        assert not retry.on()(found)
    assert balance() == 100


@pytest.mark.parametrize("found", NOT_FINAL, ids=repr)
def test_failures_are_not(found):
    assert not retry.is_final(found)


def test_a_chain_of_causes_that_is_a_ring_ends():
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert not retry.is_final(one)


def test_an_odd_error_is_not_final_and_is_counted():
    class OddError(Exception):
        @property
        def response(self):
            raise RuntimeError

    before = COUNTERS.errors.get("retry", 0)
    assert not retry.is_final(OddError())
    assert COUNTERS.errors["retry"] == before + 1


def test_only_what_was_named_is_retried():
    assert retry.on(ValueError, KeyError)(KeyError())
    assert not retry.on(ValueError)(KeyError())
    assert not retry.on(lambda error: error.args == ("again",))(KeyError())
    assert retry.on(lambda error: error.args == ("again",), OSError)(KeyError("again"))
    assert retry.on()(KeyError())
    assert balance() == 97


def test_what_was_used_up_comes_back():
    again = retry.on()
    assert sum(again(ValueError()) for _ in range(200)) == 100
    assert (RETRIES.allowed, RETRIES.refused) == (100, 100)
    RETRIES.monotonic = lambda: 2_000.0
    assert again(ValueError())


def test_a_name_has_a_budget_of_its_own():
    again = retry.on(name="db")
    assert sum(again(ValueError()) for _ in range(200)) == 100
    assert balance() == 100


def test_a_request_without_time_is_not_retried(clock):
    with DeadlineScope(1.0, clock.monotonic):
        assert retry.on()(ValueError())
        clock.advance(1.0)
        assert not retry.on()(ValueError())


def test_an_error_within_leaves_the_decision_to_the_service(monkeypatch):
    def broken(*_):
        raise RuntimeError

    monkeypatch.setattr(RETRIES, "may_retry", broken)
    before = COUNTERS.errors.get("retry", 0)
    assert retry.on(ValueError)(ValueError())
    assert not retry.on(ValueError)(KeyError())
    assert COUNTERS.errors["retry"] == before + 1


def tries(retrying, outcomes):
    """How often a function is tried that ends as these say, one after another."""
    left, tried = list(outcomes), 0

    @retrying
    def function():
        nonlocal tried
        tried += 1
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    try:
        function()
    except Exception:  # noqa: BLE001  # how often it was tried is asked
        return tried
    return tried


def by_tenacity(*args, **kwargs):
    return tenacity.retry(
        retry=retry.if_allowed(*args, **kwargs), stop=tenacity.stop_after_attempt(3), reraise=True
    )


def test_tenacity_retries_any_exception_unless_told_otherwise():
    assert tries(by_tenacity(), [ValueError(), KeyError(), 1]) == 3
    only = by_tenacity(tenacity.retry_if_exception_type(ValueError))
    assert tries(only, [ValueError(), KeyError(), 1]) == 2
    assert tries(by_tenacity(), [ValueError(), REFUSED, 1]) == 2


def test_tenacity_retries_results_but_not_refused_ones():
    def unavailable(response):
        return response.status_code == 503

    again = by_tenacity(tenacity.retry_if_result(unavailable))
    fine, failed, refused = (
        httpx.Response(200),
        httpx.Response(503),
        httpx.Response(503, headers=MARK),
    )
    assert tries(again, [failed, fine]) == 2
    assert tries(again, [failed, refused, fine]) == 2


def test_tenacitys_conditions_can_be_joined_with_it():
    joined = tenacity.retry_if_exception_type(ValueError) & retry.if_allowed()
    again = tenacity.retry(retry=joined, stop=tenacity.stop_after_attempt(3), reraise=True)
    assert tries(again, [ValueError(), REFUSED]) == 2
    assert tries(again, [KeyError(), 1]) == 1


@pytest.mark.parametrize("kind", ["function", "object"])
def test_tenacitys_async_conditions_are_awaited(kind):
    async def never(_state):
        return False

    condition = never if kind == "function" else tenacity.asyncio.retry_if_exception(never)
    attempts = 0

    @tenacity.retry(retry=retry.if_allowed(condition), stop=tenacity.stop_after_attempt(3))
    async def function():
        nonlocal attempts
        attempts += 1
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # ours, with nothing to say
        asyncio.run(function())
    assert attempts == 1


def test_tenacity_tells_a_named_budget_of_first_attempts():
    again = by_tenacity(name="db")
    for _ in range(10):
        assert tries(again, [ValueError(), 1]) == 2
    assert balance("db") == 100 + 2 - 10
    for _ in range(200):
        tries(again, [ValueError(), ValueError(), ValueError()])
    assert balance("db") == 0


def test_stamina_takes_it():
    with stamina.set_testing(True, attempts=3):
        again = stamina.retry(on=retry.on(ValueError))
        assert tries(again, [ValueError(), ValueError(), 1]) == 3
        assert tries(again, [KeyError(), 1]) == 1
        assert tries(again, [ValueError(), caused_by(REFUSED), 1]) == 2


def test_an_error_that_is_handled_otherwise_after_a_refusal_may_be_retried():
    """What the first peer refused is history, if it is the second that failed."""
    error = httpx.ConnectError("the second peer is not there")
    error.__context__ = REFUSED
    assert retry.on()(error)


def test_calls_are_counted_only_once_somebody_asks():
    assert not RETRIES.wanted
    retry.if_allowed()
    assert RETRIES.wanted
