"""When a group starts: paced while little waits, at once for what can't wait."""

import threading

import pytest

from heatshield.clock import ManualClock
from heatshield_collector.intake.payload import OverloadedError, Payload
from heatshield_collector.pipeline.gather import (
    GROUP_BYTES,
    GROUP_INTERVAL_S,
    HURRY_BYTES,
    IDLE_S,
    GatherQueue,
)

SPAN = Payload("traces", b"x")
URGENT = Payload("traces", b"x", urgent=True)


class Waits(ManualClock):
    """A wait moves it to the wait's end at once, or until something that ``meanwhile`` does."""

    def __init__(self):
        super().__init__()
        self.waited_s = 0.0
        self.meanwhile = lambda: None

    def wait_for(self, condition, holds, seconds=None):
        del condition
        began_s = self.monotonic()
        self.meanwhile()
        if not holds():
            self.advance(max(0.0, began_s + seconds - self.monotonic()))
        self.waited_s += self.monotonic() - began_s
        return holds()


@pytest.fixture
def clock():
    return Waits()


@pytest.fixture
def gathered(clock):
    """A queue whose last group has just begun."""
    queue = GatherQueue(clock, 2**30)
    queue.offer(SPAN, None)
    queue.release(queue.take())
    assert clock.waited_s == 0.0
    return queue


@pytest.fixture
def gather(clock, gathered):
    """Take these payloads, some time after the last group began; seconds that were waited."""

    def run(payloads, since_last_s):
        clock.advance(since_last_s)
        for payload in payloads:
            gathered.offer(payload, None)
        assert [one.payload for one in gathered.take()] == payloads
        return clock.waited_s

    return run


def test_after_a_pause_a_group_starts_at_once(gather):
    assert gather([SPAN], since_last_s=1.0) == 0.0


def test_groups_of_little_start_at_least_an_interval_apart(gather):
    assert gather([SPAN], 0.02) == pytest.approx(0.03)


def test_urgent_payloads_wait_a_fifth_of_that(gather):
    assert gather([SPAN, URGENT], 0.004) == pytest.approx(0.006)


def test_urgent_payloads_wait_no_more_than_that(gather):
    assert gather([SPAN, URGENT], 0.02) == 0.0


def test_much_starts_at_once(gather):
    assert gather([Payload("traces", b"x" * HURRY_BYTES)], 0.001) == 0.0


def test_an_urgent_payload_that_comes_during_the_wait_shortens_it(clock, gathered):
    def come():
        clock.meanwhile = lambda: None
        clock.advance(0.004)
        gathered.offer(URGENT, None)

    gathered.offer(SPAN, None)
    clock.meanwhile = come
    assert [one.payload for one in gathered.take()] == [SPAN, URGENT]
    assert clock.waited_s == pytest.approx(0.01)


def test_what_was_urgent_in_the_last_group_does_not_hurry_the_next(clock, gathered):
    clock.advance(1)
    gathered.offer(URGENT, None)
    gathered.take()
    gathered.offer(SPAN, None)
    gathered.take()
    assert clock.waited_s == pytest.approx(GROUP_INTERVAL_S)


def test_without_payloads_it_says_so_after_a_while(clock, gathered):
    assert gathered.take() == []
    assert clock.waited_s == pytest.approx(IDLE_S)


def test_more_than_a_group_may_have_is_left_for_the_next(clock, gathered):
    clock.advance(1)
    half = Payload("traces", b"x" * (GROUP_BYTES // 2))
    for _ in range(3):
        gathered.offer(half, None)
    assert [len(gathered.take()) for _ in range(2)] == [2, 1]
    assert gathered.held_bytes == 3 * len(half.body)


def test_a_closed_queue_gives_what_it_has_at_once_and_refuses_more(clock, gathered):
    gathered.offer(SPAN, None)
    gathered.close()
    with pytest.raises(OverloadedError, match="shutting down"):
        gathered.offer(SPAN, None)
    assert [one.payload for one in gathered.take()] == [SPAN]
    assert gathered.take() is None
    assert clock.waited_s == 0.0


def test_taking_now_waits_for_nothing(clock, gathered):
    gathered.offer(SPAN, None)
    assert [one.payload for one in gathered.take_now()] == [SPAN]
    assert gathered.take_now() == []
    assert clock.waited_s == 0.0


def test_a_thread_that_waits_is_woken_by_a_payload():
    """On a clock that stands still, only the payload can end the wait."""
    clock = ManualClock()
    queue = GatherQueue(clock, 2**30)
    taken = []
    thread = threading.Thread(target=lambda: taken.extend(queue.take()))
    thread.start()
    queue.offer(SPAN, None)
    thread.join(30)
    assert [one.payload for one in taken] == [SPAN]
