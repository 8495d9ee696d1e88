"""When a background thread does what; no test waits for time to pass."""

import pytest

from heatshield.clock import ManualClock
from heatshield.counters import COUNTERS
from heatshield.metrics.periodic import PeriodicTask, PeriodicThread, Schedule


@pytest.fixture
def done():
    return []


def test_each_task_runs_when_it_is_due(done):
    schedule = Schedule(
        [
            PeriodicTask(lambda: done.append("a"), 10.0),
            PeriodicTask(lambda: done.append("b"), 4.0, 1.0),
        ],
        100.0,
    )
    assert schedule.wait_s(100.0) == 0
    schedule.run_due(100.0)
    assert (done, schedule.wait_s(100.0)) == (["a"], 1.0)
    schedule.run_due(101.0)
    assert (done, schedule.wait_s(101.0)) == (["a", "b"], 4.0)
    schedule.run_due(104.9)
    assert done == ["a", "b"]


def test_what_was_missed_is_not_made_up_for(done):
    """After a machine slept, a burst of snapshots would say the same ten times."""
    schedule = Schedule([PeriodicTask(lambda: done.append("a"), 1.0)], 0.0)
    schedule.run_due(1_000.0)
    schedule.run_due(1_000.5)
    assert done == ["a"]
    assert schedule.wait_s(1_000.5) == 0.5


def test_everything_may_be_wanted_early(done):
    schedule = Schedule([PeriodicTask(lambda: done.append("a"), 10.0, 10.0)], 0.0)
    schedule.run_due(1.0, early=True)
    assert (done, schedule.wait_s(1.0)) == (["a"], 19.0)


def test_a_task_that_fails_is_counted_and_the_others_run(done):
    def fail():
        raise RuntimeError

    before = COUNTERS.errors.get("metrics", 0)
    Schedule([PeriodicTask(fail, 1.0), PeriodicTask(lambda: done.append("b"), 1.0)], 0.0).run_due(
        0.0
    )
    assert done == ["b"]
    assert COUNTERS.errors["metrics"] == before + 1


def thread_of(done):
    schedule = Schedule([PeriodicTask(lambda: done.append("task"), 1e9, 1e9)], 0.0)
    thread = PeriodicThread(schedule, lambda: done.append("finish"), ManualClock())
    thread.start()
    return thread


def test_a_thread_runs_early_and_finishes_when_told(done):
    thread = thread_of(done)
    assert thread.run_now().wait(10.0)
    assert done == ["task"]
    assert thread.end().wait(10.0)
    assert done == ["task", "finish"]


def test_an_early_run_asked_for_at_the_end_does_not_wait_for_ever(done):
    thread = thread_of(done)
    early, ended = thread.run_now(), thread.end()
    assert early.wait(10.0)
    assert ended.wait(10.0)
    assert done[-1] == "finish"


def test_a_pause_ends_the_thread_without_finishing(done):
    thread = thread_of(done)
    thread.pause(10.0)
    assert not thread._thread.is_alive()
    assert done == []
