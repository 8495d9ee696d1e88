"""A pool whose threads are few, and hold up no end of a process."""

import asyncio
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from starlette.requests import Request
from starlette.responses import Response

from heatshield_collector.api.queries import Queries
from heatshield_collector.workers import Workers

WAIT_S = 10


def test_work_is_done_and_errors_come_back() -> None:
    workers = Workers(2, "w")
    assert workers.submit(int, "7").result(WAIT_S) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        workers.submit(int, "x").result(WAIT_S)
    assert list(workers.map(abs, [-1, -2, -3], timeout=WAIT_S)) == [1, 2, 3]


def test_no_more_threads_than_it_may_have_and_none_that_are_not_needed() -> None:
    workers = Workers(2, "few")
    seen, begun, go_on = set(), threading.Semaphore(0), threading.Event()

    def work() -> None:
        seen.add(threading.current_thread().name)
        begun.release()
        go_on.wait(WAIT_S)

    futures = [workers.submit(work) for _ in range(5)]
    assert begun.acquire(timeout=WAIT_S)
    assert begun.acquire(timeout=WAIT_S)
    assert not begun.acquire(blocking=False)
    go_on.set()
    for future in futures:
        future.result(WAIT_S)
    assert seen == {"few-1", "few-2"}


def test_a_thread_that_does_not_start_leaves_its_place_to_a_later_one(monkeypatch) -> None:
    workers, done = Workers(2, "w"), []
    with no_threads(monkeypatch), pytest.raises(RuntimeError, match="can't start new thread"):
        workers.submit(done.append, "refused")
    barrier = threading.Barrier(2)
    first = workers.submit(barrier.wait, WAIT_S)
    with no_threads(monkeypatch):
        second = workers.submit(done.append, "waits for the first")
    third = workers.submit(barrier.wait, WAIT_S)  # by the second thread
    for future in (first, second, third):
        future.result(WAIT_S)
    assert done == ["waits for the first"]


@contextmanager
def no_threads(monkeypatch):
    """Where the system gives no more."""

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def test_a_question_that_got_no_thread_is_counted_out(monkeypatch) -> None:
    async def ask():
        queries = Queries(1, "q", most=1)

        async def receive():
            await asyncio.Event().wait()

        request = Request({"type": "http"}, receive)
        for _ in range(3):
            with no_threads(monkeypatch), pytest.raises(RuntimeError):
                await queries.answer(request, Response)
        assert (await queries.answer(request, Response)).status_code == 200

    asyncio.run(ask())


def test_cancelled_before_it_began_it_is_not_done() -> None:
    workers = Workers(1, "w")
    go_on, done = threading.Event(), []
    first = workers.submit(go_on.wait, WAIT_S)
    second = workers.submit(done.append, 2)
    assert second.cancel()
    go_on.set()
    assert first.result(WAIT_S)
    workers.submit(done.append, 3).result(WAIT_S)
    assert done == [3]


def test_work_without_end_does_not_keep_the_process() -> None:
    script = (
        "import threading; from heatshield_collector.workers import Workers;"
        "Workers(1, 'w').submit(threading.Event().wait)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
