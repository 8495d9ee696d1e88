"""Waits for our threads, and calls that they hand on, where threads are threads."""

import threading

import pytest

from heatshield.native import NativeThread
from heatshield.process.completion import Completion
from heatshield.process.green_calls import GreenCalls


def test_all_that_wait_for_a_completion_go_on():
    done, woken = Completion(), []
    waiting = [threading.Thread(target=lambda: woken.append(done.wait(10))) for _ in range(3)]
    for one in waiting:
        one.start()
    done.set()
    for one in waiting:
        one.join(10)
    assert woken == [True, True, True]
    assert done.wait(0)


def test_a_completion_that_is_not_set_is_waited_for_in_vain():
    assert not Completion().wait(0)


def test_a_thread_of_ours_knows_itself_and_ends():
    seen = []
    thread = NativeThread(lambda: seen.append(thread.is_current()), "heatshield-test")
    assert not thread.is_alive()
    thread.start()
    thread.join()
    assert seen == [True]
    assert not thread.is_alive()
    assert not thread.is_current()


def test_a_call_runs_at_once_and_what_it_raises_is_the_callers():
    calls, ran = GreenCalls(), []
    calls.start()
    assert calls.run(threading.get_ident, 0.0) == threading.get_ident()
    calls.post(lambda: ran.append(1))
    assert ran == [1]
    with pytest.raises(ZeroDivisionError):
        calls.run(lambda: 1 // 0, 0.0)
    calls.post(lambda: 1 // 0)  # is counted
