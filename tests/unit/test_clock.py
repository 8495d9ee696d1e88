"""Waiting on a clock: a manual one ends a wait when it is moved, and never by itself."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from heatshield.clock import POLL_S, Clock, Instant, ManualClock, SystemClock


def moved(clock: ManualClock, seconds: float) -> Callable[[], None]:
    """Move a clock once a thread waits on it."""

    def move() -> None:
        while not clock.waiting:
            threading.Event().wait(POLL_S)
        clock.advance(seconds)

    return move


def ended(waiting: Callable[[], bool], then: Callable[[], None]) -> bool:
    """What a wait on another thread answers once ``then`` has happened; fails if it never ends."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(waiting()), daemon=True)
    thread.start()
    then()
    thread.join(10)
    assert not thread.is_alive(), "the wait did not end"
    return answers[0]


def test_an_instant_has_both_axes() -> None:
    clock = ManualClock(monotonic_s=5.0, epoch_ns=7)
    clock.advance(1.5)
    assert clock.now() == Instant(6.5, 7 + 1_500_000_000)


@pytest.mark.parametrize("clock", [ManualClock(), SystemClock()], ids=["manual", "system"])
def test_an_event_ends_a_wait(clock: Clock) -> None:
    event = threading.Event()
    assert ended(lambda: clock.wait(event, 3_600.0), event.set)


def test_moving_the_clock_ends_a_wait() -> None:
    clock = ManualClock()
    event = threading.Event()
    assert not ended(lambda: clock.wait(event, 10.0), moved(clock, 10.0 + 1e-6))


def test_a_wait_goes_on_until_its_last_moment() -> None:
    clock = ManualClock()
    event = threading.Event()
    thread = threading.Thread(target=lambda: clock.wait(event, 10.0), daemon=True)
    thread.start()
    moved(clock, 9.0)()
    thread.join(0.05)
    assert thread.is_alive()
    event.set()
    thread.join(10)
    assert not thread.is_alive()


def test_nothing_is_waited_for_that_has_passed() -> None:
    clock = ManualClock()
    assert not clock.wait(threading.Event(), 0.0)
    assert not clock.wait(threading.Event(), -1.0)


@pytest.mark.parametrize("clock", [ManualClock(), SystemClock()], ids=["manual", "system"])
def test_a_condition_is_waited_for(clock: Clock) -> None:
    condition = threading.Condition()
    come: list[int] = []

    def waiting() -> bool:
        with condition:
            return clock.wait_for(condition, lambda: bool(come), 3_600.0)

    def then() -> None:
        with condition:
            come.append(1)
            condition.notify()

    assert ended(waiting, then)


def test_moving_the_clock_ends_the_wait_for_a_condition() -> None:
    clock = ManualClock()
    condition = threading.Condition()

    def waiting() -> bool:
        with condition:
            return clock.wait_for(condition, lambda: False, 2.0)

    assert not ended(waiting, moved(clock, 2.5))


def test_tasks_wait_on_a_clock_too() -> None:
    async def play() -> tuple[bool, bool, bool]:
        clock = ManualClock()
        event = asyncio.Event()
        waiting = asyncio.ensure_future(clock.wait_async(event, 60.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        clock.advance(61.0)
        passed = await waiting
        waiting = asyncio.ensure_future(clock.wait_async(event, 60.0))
        await asyncio.sleep(0)
        event.set()
        return passed, await waiting, await SystemClock().wait_async(asyncio.Event(), 0.0)

    assert asyncio.run(play()) == (False, True, False)
