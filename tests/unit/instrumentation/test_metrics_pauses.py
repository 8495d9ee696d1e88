"""Garbage collection and event loops, measured."""

import asyncio
import gc
import time
import weakref
from contextvars import ContextVar

import pytest

from heatshield.clock import ManualClock, SystemClock
from heatshield.metrics.gc_pauses import GcPauses
from heatshield.metrics.loop_lag import INTERVAL_S, LoopLag


@pytest.fixture
def pauses():
    made = GcPauses()
    made.install()
    yield made
    made.remove()


def observed(pauses, generation="2"):
    found = pauses.counts().get(generation)
    return sum(found.counts) if found else 0


def test_a_collection_is_one_pause_of_its_generation(pauses):
    before = observed(pauses)
    gc.collect()
    assert observed(pauses) == before + 1
    assert pauses.counts()["2"].total > 0


def test_installing_twice_measures_once_and_removing_ends_it(pauses):
    pauses.install()
    gc.collect()
    assert observed(pauses) == 1
    pauses.remove()
    gc.collect()
    assert observed(pauses) == 1


def test_a_child_process_forgets_the_parents_pauses(pauses):
    gc.collect()
    pauses.after_fork()
    assert observed(pauses) == 0


class Loop:
    """Stands for an event loop: keeps what is to be called later."""

    def __init__(self):
        self.timers = []

    def is_running(self):
        return True

    def call_later(self, delay_s, function, *arguments, context):
        assert not list(context.items()), "a request's context would live for ever"
        self.timers.append((delay_s, function, arguments))

    def turn(self):
        ((delay_s, function, arguments),) = self.timers
        self.timers = []
        function(*arguments)
        return delay_s


OF_A_REQUEST = ContextVar("of_a_request")


@pytest.fixture
def lag(monkeypatch):
    OF_A_REQUEST.set("large")
    clock, loop = ManualClock(), Loop()
    monkeypatch.setattr("heatshield.metrics.loop_lag._get_running_loop", lambda: loop)
    return LoopLag(clock), clock, loop


def test_a_lag_is_by_how_much_a_timer_was_late(lag):
    lags, clock, loop = lag
    lags.follow()
    for late_s in (0.0, 0.3):
        clock.advance(INTERVAL_S + late_s)
        assert loop.turn() == INTERVAL_S
    counted = lags.counts()
    assert sum(counted.counts) == 2
    assert counted.total == pytest.approx(0.3)


def test_the_longest_lag_is_told_once_and_one_that_lasts_with_it(lag):
    lags, clock, loop = lag
    lags.follow()
    for late_s in (0.3, 0.1):
        clock.advance(INTERVAL_S + late_s)
        loop.turn()
    assert lags.take_longest_s() == pytest.approx(0.3)
    assert lags.take_longest_s() == 0
    clock.advance(INTERVAL_S + 0.2)
    assert lags.take_longest_s() == pytest.approx(0.2)
    clock.advance(1)
    assert lags.take_longest_s() == pytest.approx(1.2)


def test_a_loop_is_followed_once(lag):
    lags, _, loop = lag
    for _ in range(3):
        lags.follow()
    assert len(loop.timers) == 1


def test_after_a_reset_the_old_timer_ends_and_a_new_one_may_begin(lag):
    lags, clock, loop = lag
    lags.follow()
    lags.reset()
    clock.advance(1)
    loop.turn()
    assert (loop.timers, sum(lags.counts().counts)) == ([], 0)
    lags.follow()
    assert len(loop.timers) == 1


def test_a_blocked_loop_shows_up_and_an_ended_one_is_let_go(monkeypatch):
    monkeypatch.setattr("heatshield.metrics.loop_lag.INTERVAL_S", 0.001)
    lags = LoopLag(SystemClock())

    async def serve():
        lags.follow()
        end_s = time.monotonic() + 0.05
        while time.monotonic() < end_s:
            pass  # what blocks a loop
        await asyncio.sleep(0)
        return weakref.ref(asyncio.get_running_loop())

    ended = asyncio.run(serve())
    assert lags.counts().total >= 0.04
    gc.collect()
    assert ended() is None


def test_outside_of_a_loop_nothing_is_followed():
    lags = LoopLag(SystemClock())
    lags.follow()
    assert sum(lags.counts().counts) == 0
