"""Breaker control and health share no thread with questions, and questions end."""

import asyncio
import contextlib
import inspect
import threading
import time

import anyio.to_thread
import httpx
import pytest

from heatshield_collector.api import queries
from heatshield_collector.api.app import AREAS
from heatshield_collector.api.queries import Queries
from heatshield_collector.store.interrupt import current_interrupt

WAIT_S = 10


def is_on_the_loop(call) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)


def dependencies_of(dependant):
    for one in dependant.dependencies:
        yield one.call
        yield from dependencies_of(one)


def test_no_route_runs_in_the_pool_of_the_framework(face) -> None:
    """One pool for everything was why breakers waited for searches, for up to 41 s."""
    found = []
    for area in AREAS:
        for route in area.router(face.ports).routes:
            found.append(route.path)
            assert is_on_the_loop(route.endpoint), route.path
            for call in dependencies_of(route.dependant):
                assert is_on_the_loop(call), (route.path, call)
    assert {"/v1/breakers", "/api/requests", "/metrics", "/healthz"} <= set(found)
    for handler in face.app.exception_handlers.values():
        assert is_on_the_loop(handler), handler


def test_no_request_asks_that_pool_for_a_thread(face, monkeypatch) -> None:
    monkeypatch.setattr(anyio.to_thread, "run_sync", pytest.fail)
    trip = {"user": "u", "service": "s", "call": "c"}
    report = {"service": "s", "instance": "i", "workers": 1}
    for expected, method, path, body in (
        (200, "GET", "/v1/breakers", None),
        (200, "GET", "/v1/breakers?service=s&instance=i", None),
        (201, "POST", "/v1/breakers", trip),
        (200, "DELETE", "/v1/breakers/b-1", None),
        (404, "DELETE", "/v1/breakers/none", None),
        (422, "POST", "/v1/breakers", {}),
        (200, "POST", "/v1/breakers/report", report),
        (400, "POST", "/v1/breakers/report", {}),
        (200, "PUT", "/api/mode", {"mode": "protect", "by": "me"}),
        (200, "GET", "/healthz", None),
        (200, "GET", "/readyz", None),
        (200, "GET", "/metrics", None),
        (200, "GET", "/api/requests", None),
        (404, "GET", "/nowhere", None),
        (405, "PUT", "/healthz", None),
    ):
        assert face.call(method, path, json=body).status_code == expected, (method, path)


class Stuck:
    """A question that is not answered until it is ended; it looks for that as the store does."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def __call__(self, *_: object) -> list:
        interrupt, stop = current_interrupt(), threading.Event()
        with interrupt.stops(stop.set):
            self.begun.release()
            stop.wait(WAIT_S)
        self.ended.release()
        interrupt.check()
        return []


@pytest.fixture
def stuck(face, monkeypatch):
    question = Stuck()
    monkeypatch.setattr(face.store, "requests", question)
    return question


def test_breakers_and_health_answer_while_every_question_is_stuck(live, stuck, admin) -> None:
    url, _ = live
    with httpx.Client(base_url=url, timeout=WAIT_S, headers=admin) as client:
        asking = [threading.Thread(target=ask_and_leave, args=(url, admin, 3.0)) for _ in range(80)]
        for one in asking:
            one.start()
        for _ in range(queries.QUERY_THREADS):
            assert stuck.begun.acquire(timeout=WAIT_S)
        began_s = time.monotonic()
        for path in ("/v1/breakers", "/healthz", "/readyz", "/metrics", "/api/mode", "/api/calls"):
            assert client.get(path).status_code == 200, path
        trip = {"user": "u", "service": "s", "call": "c"}
        assert client.post("/v1/breakers", json=trip).status_code == 201
        assert client.post("/v1/breakers", json={"user": 1}).status_code == 422
        assert time.monotonic() - began_s < 3
        for one in asking:
            one.join()
        # All have left, so their threads are free, long before the time limit.
        for _ in range(queries.QUERY_THREADS):
            assert stuck.ended.acquire(timeout=WAIT_S)
        assert client.get("/api/findings").status_code == 200


def test_health_answers_while_a_mode_waits_for_the_disk(live, face, admin, monkeypatch) -> None:
    url, _ = live
    waits, goes_on = threading.Event(), threading.Event()

    def slowly(*_: object) -> None:
        waits.set()
        assert goes_on.wait(WAIT_S)

    monkeypatch.setattr(face.ports.breakers, "set_mode", slowly)
    with httpx.Client(base_url=url, timeout=WAIT_S, headers=admin) as client:
        body = {"mode": "shadow", "by": "me"}
        setting = threading.Thread(target=lambda: client.put("/api/mode", json=body))
        setting.start()
        assert waits.wait(WAIT_S)
        try:
            assert httpx.get(f"{url}/healthz", timeout=3, headers=admin).status_code == 200
        finally:
            goes_on.set()
            setting.join()


def ask_and_leave(url: str, headers: dict, after_s: float) -> None:
    with contextlib.suppress(httpx.TimeoutException):
        httpx.get(f"{url}/api/requests", timeout=after_s, headers=headers)


class Request:
    """An asker that stays, or has left."""

    def __init__(self, *, left: bool = False) -> None:
        self._left = left

    async def receive(self) -> dict:
        if not self._left:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}


def test_an_answer_that_takes_too_long_is_ended_and_says_so() -> None:
    stuck = Stuck()

    async def scene() -> None:
        asked = Queries(1, "q", limit_s=0.05)
        with pytest.raises(queries.HTTPException) as raised:
            await asked.answer(Request(), stuck)
        assert raised.value.status_code == 503
        assert "more than 0.05 s" in raised.value.detail
        assert await asyncio.to_thread(stuck.ended.acquire, timeout=WAIT_S)

    asyncio.run(scene())


def test_more_than_may_wait_are_refused_until_one_is_answered() -> None:
    go_on = threading.Event()

    async def scene() -> None:
        asked = Queries(1, "q", most=2)
        waiting = [
            asyncio.create_task(asked.answer(Request(), lambda: go_on.wait(WAIT_S)))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(queries.HTTPException) as raised:
            await asked.answer(Request(), object)
        assert raised.value.status_code == 503
        go_on.set()
        assert await asyncio.gather(*waiting) == [True, True]
        await asyncio.sleep(0.01)  # the threads tell the loop that they are done
        assert await asked.answer(Request(), lambda: 7) == 7

    asyncio.run(scene())


def test_an_asker_that_has_left_while_it_waited_is_not_answered() -> None:
    asked_for = []

    async def scene() -> None:
        asked = Queries(1, "q")
        stuck = Stuck()
        first = asyncio.create_task(asked.answer(Request(), stuck))
        assert await asyncio.to_thread(stuck.begun.acquire, timeout=WAIT_S)
        answer = await asked.answer(Request(left=True), lambda: asked_for.append(1))
        assert answer.status_code == 499
        first.cancel()
        assert await asyncio.to_thread(stuck.ended.acquire, timeout=WAIT_S)
        assert await asked.answer(Request(), lambda: 7) == 7
        assert asked_for == []

    asyncio.run(scene())
