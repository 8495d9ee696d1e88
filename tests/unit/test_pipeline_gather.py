"""When a group starts: paced while little waits, at once for what can't wait."""

import pytest

from heatshield.clock import ManualClock
from heatshield_collector.intake.payload import Payload
from heatshield_collector.pipeline import commit
from heatshield_collector.pipeline.commit import CommitLoop


class Waits:
    """Stands for the condition: advances the clock by what is waited, and notes it."""

    def __init__(self, clock):
        self.clock = clock
        self.waited_s = 0.0

    def wait(self, seconds):
        self.waited_s += seconds
        self.clock.advance(seconds)


@pytest.fixture
def gather():
    """Gather with these payloads in the queue, some time after the last group began."""

    def run(payloads, since_last_s):
        clock = ManualClock()
        loop = CommitLoop(store=None, commits=None, clock=clock, queue_bytes=2**30)
        waits = loop._arrived = Waits(clock)
        loop._gather()
        waits.waited_s = 0.0
        clock.advance(since_last_s)
        loop._queue = [commit._Waiting(payload, None, None, 0.0) for payload in payloads]
        loop._bytes = sum(len(payload.body) for payload in payloads)
        loop._gather()
        return waits.waited_s

    return run


def test_after_a_pause_a_group_starts_at_once(gather):
    assert gather([Payload("traces", b"x")], since_last_s=1.0) == 0.0


def test_groups_of_little_start_at_least_an_interval_apart(gather):
    assert gather([Payload("traces", b"x")], 0.02) == pytest.approx(0.03)


def test_what_is_urgent_waits_a_fifth_of_that(gather):
    payloads = [Payload("traces", b"x"), Payload("traces", b"x", urgent=True)]
    assert gather(payloads, 0.004) == pytest.approx(0.006)
    assert gather(payloads, 0.02) == 0.0


def test_much_starts_at_once(gather):
    assert gather([Payload("traces", b"x" * commit.HURRY_BYTES)], 0.001) == 0.0
