"""Deadlines: read from a header, carried in the context, told to the next hop, lifted at last."""

import asyncio
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import heatshield
from heatshield.breakers.deadline_exceeded import DeadlineExceeded, is_expiry
from heatshield.clock import ManualClock
from heatshield.context.deadline import (
    HOP_S,
    MAX_S,
    Deadline,
    DeadlineScope,
    deadline_in,
    from_header,
    left_s,
    milliseconds,
    parse,
    with_deadline,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1500", 1.5),
        (b"1500", 1.5),
        ("0", 0.0),
        ("007", 0.007),
        ("999999999999", MAX_S),
        (None, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1e3", None),
        ("5, 10", None),
        (" 5", None),
        ("1_000", None),
        ("\u0665", None),
        ("\xb2", None),
        (b"\xff", None),
        ("9" * 13, None),
        ("9" * 100_000, None),
    ],
)
def test_a_header_is_a_whole_number_of_milliseconds_or_nothing(text, seconds):
    assert parse(text) == seconds


@given(st.text() | st.binary())
def test_no_header_is_too_odd_to_be_read(text):
    seconds = parse(text)
    assert seconds is None or 0 <= seconds <= MAX_S


@given(st.floats(0.01, MAX_S), st.integers(1, 20))
def test_every_hop_has_less_than_the_one_before(seconds, hops):
    for _ in range(hops):
        after = parse(milliseconds(seconds))
        assert after < seconds or after == 0
        assert after > seconds - HOP_S - 0.0011 or after == 0
        seconds = after


@pytest.mark.parametrize("seconds", [0.0, HOP_S, -5.0])
def test_nothing_left_is_said_as_nothing(seconds):
    assert milliseconds(seconds) == "0"


def test_infinity_is_a_day():
    assert parse(milliseconds(math.inf)) == pytest.approx(MAX_S, abs=0.01)


def test_a_request_that_arrives_has_what_its_header_says():
    assert from_header("1500", 100.0).at == 101.5
    assert from_header("0", 100.0).at == 100.0
    assert from_header("soon", 100.0) is None


def test_without_a_deadline_nothing_is_left_to_say():
    assert left_s(0.0) is None
    assert deadline_in() is None


def within(clock, seconds):
    return DeadlineScope(seconds, clock.monotonic)


def test_a_block_has_its_time():
    clock = ManualClock()
    with within(clock, 2.0) as deadline:
        clock.advance(0.5)
        assert left_s(clock.monotonic()) == pytest.approx(1.5)
        clock.advance(2.0)
        assert left_s(clock.monotonic()) == pytest.approx(-0.5)
    assert left_s(clock.monotonic()) is None
    assert deadline.at == math.inf


@pytest.mark.parametrize(("outer", "inner", "left"), [(1.0, 2.0, 1.0), (2.0, 1.0, 1.0)])
def test_the_nearer_of_two_deadlines_holds(outer, inner, left):
    clock = ManualClock()
    with within(clock, outer):
        with within(clock, inner):
            assert left_s(clock.monotonic()) == pytest.approx(left)
        assert left_s(clock.monotonic()) == pytest.approx(outer)


def test_a_block_within_a_nearer_deadline_does_not_lift_it():
    clock = ManualClock()
    outer = Deadline(clock.monotonic() + 1)
    with within(clock, 1.0) as mine:
        with within(clock, 5.0) as found:
            assert found is mine
        assert mine.at == outer.at


def test_what_has_to_be_done_in_any_case_has_all_the_time():
    clock = ManualClock()
    with within(clock, -1.0):
        with within(clock, None):
            assert left_s(clock.monotonic()) is None
            with within(clock, 2.0):
                assert left_s(clock.monotonic()) == pytest.approx(2.0)
        assert left_s(clock.monotonic()) == pytest.approx(-1.0)


def test_a_block_can_be_entered_again():
    clock = ManualClock()
    block = within(clock, 1.0)
    for _ in range(2):
        with block:
            clock.advance(0.25)
            assert left_s(clock.monotonic()) == pytest.approx(0.75)
        assert left_s(clock.monotonic()) is None


def test_tasks_and_threads_of_a_block_have_its_deadline_until_it_ends():
    """What outlives the request that began it is not held to the request's time."""
    clock = ManualClock()
    seen = []

    async def outlive(ended):
        seen.append(left_s(clock.monotonic()))
        await ended.wait()
        seen.append(left_s(clock.monotonic()))

    async def request():
        ended = asyncio.Event()
        with within(clock, 1.0):
            task = asyncio.create_task(outlive(ended))
            seen.append(await asyncio.to_thread(lambda: left_s(clock.monotonic())))
        ended.set()
        await task

    asyncio.run(request())
    assert seen == [pytest.approx(1.0), pytest.approx(1.0), None]


def test_requests_side_by_side_have_deadlines_of_their_own():
    clock = ManualClock()

    async def request(seconds):
        with within(clock, seconds):
            await asyncio.sleep(0)
            return left_s(clock.monotonic())

    async def both():
        return await asyncio.gather(request(1.0), request(2.0))

    assert asyncio.run(both()) == [pytest.approx(1.0), pytest.approx(2.0)]


def test_a_context_can_be_given_one():
    deadline = Deadline(5.0)
    assert deadline_in(with_deadline(deadline)) is deadline


def test_the_public_function_counts_in_real_time():
    import time

    with heatshield.deadline(60.0):
        assert 59 < left_s(time.monotonic()) <= 60


def test_the_exception_says_which_call_and_survives_pickling():
    error = pickle.loads(pickle.dumps(DeadlineExceeded("GET at shop:8000")))  # noqa: S301  # ours
    assert error.call == "GET at shop:8000"
    assert str(error) == "no time left for GET at shop:8000; it was not started"
    assert "this request" in str(DeadlineExceeded())


@pytest.mark.parametrize(
    ("status", "headers", "expired"),
    [
        (504, {"heatshield-deadline": "0"}, True),
        (504, {}, False),
        (503, {"heatshield-deadline": "0"}, False),
        (200, {"heatshield-deadline": "0"}, False),
    ],
)
def test_an_answer_is_an_expiry_by_its_status_and_its_mark(status, headers, expired):
    import httpx

    assert is_expiry(httpx.Response(status, headers=headers)) is expired
