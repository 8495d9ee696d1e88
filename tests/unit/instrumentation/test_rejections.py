"""What is known as a rejection of another service: answers, and the errors that clients raise."""

import re

import httpx
import pytest
import requests

import heatshield
from heatshield.rejection import refusal_in

REFUSED = {"heatshield-breaker": "b-1", "retry-after": "7"}


def httpx_error(status, headers):
    answer = httpx.Response(status, headers=headers, request=httpx.Request("GET", "http://shop/"))
    with pytest.raises(httpx.HTTPStatusError) as raised:
        answer.raise_for_status()
    return raised.value


def requests_error(status, headers):
    answer = requests.Response()
    answer.status_code = status
    answer.headers.update(headers)
    with pytest.raises(requests.HTTPError) as raised:
        answer.raise_for_status()
    return raised.value


@pytest.mark.parametrize("error_of", [httpx_error, requests_error])
def test_an_error_that_has_the_answer_stands_for_it(error_of):
    refusal = refusal_in(error_of(503, REFUSED))
    assert (refusal.entry_id, refusal.retry_after_s) == ("b-1", 7.0)
    assert heatshield.is_rejection(error_of(503, REFUSED))
    assert refusal_in(error_of(503, {})) is None
    assert refusal_in(error_of(500, REFUSED)) is None


@pytest.mark.parametrize("error_of", [httpx_error, requests_error])
def test_so_does_one_of_a_limit_and_it_is_handed_on_with_what_the_limit_said(error_of):
    said = {"ratelimit": '"per-user";r=0;t=7', "ratelimit-policy": '"per-user";q=50;w=1'}
    refusal = refusal_in(error_of(429, REFUSED | said))
    assert (refusal.status, refusal.limit_headers) == (429, said)
    assert refusal.headers == REFUSED | said
    assert heatshield.is_rejection(error_of(429, REFUSED | said))
    assert not heatshield.is_rejection(error_of(429, said))  # another's limit


class Odd(Exception):  # noqa: N818  # no error of ours
    """Raises for whatever it is asked."""

    def __getattr__(self, name):
        raise RuntimeError(name)


class Endless(Exception):  # noqa: N818  # same
    """Is its own answer."""

    @property
    def response(self):
        return self


@pytest.mark.parametrize("kind", [Odd, Endless, ValueError, KeyboardInterrupt])
def test_any_other_error_is_none_whatever_it_does_when_it_is_looked_at(kind):
    assert refusal_in(kind()) is None


def test_an_error_says_which_rejection_it_stands_for():
    error = ValueError("in the words of some protocol")
    error.heatshield_rejection = heatshield.BreakerOpen("b-2", 3.0)
    assert refusal_in(error).entry_id == "b-2"
    with pytest.raises(heatshield.BreakerOpen) as raised:
        heatshield.raise_for_rejection(error)
    assert raised.value.retry_after_s == 3.0


def test_a_group_is_one_if_it_holds_nothing_else():
    refused, other = heatshield.BreakerOpen("b-1"), ValueError("no stock")
    assert refusal_in(ExceptionGroup("all", [refused, httpx_error(503, REFUSED)])) is refused
    assert refusal_in(ExceptionGroup("some", [refused, other])) is None


@pytest.mark.parametrize("entry_id", ["b\x00", "b\r\nx: y", "bé山", "b" * 100_000])
def test_the_headers_of_a_rejection_can_be_sent_whatever_it_is_called(entry_id):
    value = heatshield.BreakerOpen(entry_id).headers["heatshield-breaker"]
    assert re.fullmatch(r"b[ -~]{0,255}", value)
