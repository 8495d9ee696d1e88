"""When a background thread does what; no test waits for time to pass."""

import pytest

from heatshield.clock import ManualClock
from heatshield.counters import COUNTERS
from heatshield.metrics.chores import Chore, Chores, ChoreThread


@pytest.fixture
def done():
    return []


def test_each_chore_is_done_when_it_is_due(done):
    chores = Chores(
        [Chore(lambda: done.append("a"), 10.0), Chore(lambda: done.append("b"), 4.0, 1.0)], 100.0
    )
    assert chores.wait_s(100.0) == 0
    chores.do_due(100.0)
    assert (done, chores.wait_s(100.0)) == (["a"], 1.0)
    chores.do_due(101.0)
    assert (done, chores.wait_s(101.0)) == (["a", "b"], 4.0)
    chores.do_due(104.9)
    assert done == ["a", "b"]


def test_what_was_missed_is_not_made_up_for(done):
    """After a machine slept, a burst of snapshots would say the same ten times."""
    chores = Chores([Chore(lambda: done.append("a"), 1.0)], 0.0)
    chores.do_due(1_000.0)
    chores.do_due(1_000.5)
    assert done == ["a"]
    assert chores.wait_s(1_000.5) == 0.5


def test_everything_may_be_wanted_early(done):
    chores = Chores([Chore(lambda: done.append("a"), 10.0, 10.0)], 0.0)
    chores.do_due(1.0, early=True)
    assert (done, chores.wait_s(1.0)) == (["a"], 19.0)


def test_a_chore_that_fails_is_counted_and_the_others_are_done(done):
    def fail():
        raise RuntimeError

    before = COUNTERS.errors.get("metrics", 0)
    Chores([Chore(fail, 1.0), Chore(lambda: done.append("b"), 1.0)], 0.0).do_due(0.0)
    assert done == ["b"]
    assert COUNTERS.errors["metrics"] == before + 1


def thread_of(done):
    chores = Chores([Chore(lambda: done.append("chore"), 1e9, 1e9)], 0.0)
    thread = ChoreThread(chores, lambda: done.append("finish"), ManualClock())
    thread.start()
    return thread


def test_a_thread_hurries_and_finishes_when_told(done):
    thread = thread_of(done)
    assert thread.hurry().wait(10.0)
    assert done == ["chore"]
    assert thread.end().wait(10.0)
    assert done == ["chore", "finish"]


def test_who_hurries_at_the_end_does_not_wait_for_ever(done):
    thread = thread_of(done)
    hurried, ended = thread.hurry(), thread.end()
    assert hurried.wait(10.0)
    assert ended.wait(10.0)
    assert done[-1] == "finish"


def test_a_pause_ends_the_thread_without_finishing(done):
    thread = thread_of(done)
    thread.pause(10.0)
    assert not thread._thread.is_alive()
    assert done == []
