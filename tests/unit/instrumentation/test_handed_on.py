"""Work that a request hands on to other threads is its own; the threads are not."""

import asyncio
import gc
import io
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from flask import Flask
from opentelemetry.context import get_current
from opentelemetry.trace import get_tracer
from starlette.concurrency import run_in_threadpool

import heatshield
from heatshield.context.handed_on import DAEMON_S, WORK_S, HandedOn
from heatshield.context.request import latest, request_in
from heatshield.names import CALL, ENDUSER_ID, GUARD


def work():
    with get_tracer("test").start_as_current_span("work"):
        logging.getLogger("shop.work").warning("working")


@pytest.fixture
def app():
    """A shop whose view, set by a test, is run for the user u-1."""
    shop = Flask("shop")
    shop.run_view = lambda: None

    @shop.get("/export")
    def export():
        heatshield.user("u-1")
        shop.run_view()
        return "done"

    shop.ask = lambda: shop.test_client().get("/export", buffered=True).text
    return shop


@pytest.fixture(autouse=True)
def _written():
    handler = logging.StreamHandler(io.StringIO())
    logging.getLogger("shop.work").addHandler(handler)
    yield
    logging.getLogger("shop.work").removeHandler(handler)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as made:
        yield made


def in_pool(pool):
    pool.submit(work).result()


def mapped(pool):
    list(pool.map(lambda _: work(), [1]))


def in_executor(pool):
    async def main():
        await asyncio.get_running_loop().run_in_executor(pool, work)

    asyncio.run(main())


def in_default_executor(pool):
    async def main():
        await asyncio.get_running_loop().run_in_executor(None, work)

    asyncio.run(main())


def joined(thread):
    thread.start()
    thread.join()


class Worker(threading.Thread):
    """A class of the service's that does not call what it overrides."""

    def run(self):
        work()


WAYS = {
    "submit": in_pool,
    "map": mapped,
    "run_in_executor": in_executor,
    "default executor": in_default_executor,
    "thread": lambda _: joined(threading.Thread(target=work)),
    "daemon": lambda _: joined(threading.Thread(target=partial(work), daemon=True)),
    "subclass": lambda _: joined(Worker()),
    "timer": lambda _: joined(threading.Timer(0, work)),
    "loop in a thread": lambda _: joined(
        threading.Thread(target=asyncio.run, args=(asyncio.to_thread(work),))
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_work_handed_on_belongs_to_the_request(service, app, pool, way):
    made = service()
    app.run_view = lambda: way(pool)
    assert app.ask() == "done"
    span, server = made.span("work"), made.span("GET /export")
    assert span.attributes[ENDUSER_ID] == "u-1"
    assert span.attributes[CALL] == "GET /export"
    assert span.trace_id == server.trace_id
    (event,) = [event for event in made.logs if event.body == "working"]
    assert (event.trace_id, event.user) == (server.trace_id, "u-1")


def test_a_guard_goes_with_the_work(service, app, pool):
    made = service()

    def view():
        with heatshield.guard("export.rows"):
            in_pool(pool)

    app.run_view = view
    app.ask()
    assert made.span("export.rows").attributes[GUARD]
    assert made.span("work").attributes[CALL] == "export.rows"


def test_a_user_who_is_named_after_the_handing_on_is_on_the_work(service, app):
    made, named = service(), threading.Event()

    def late():
        named.wait(10)
        work()

    def view():
        thread = threading.Thread(target=late)
        thread.start()
        heatshield.user("u-2")
        named.set()
        thread.join()

    app.run_view = view
    app.ask()
    assert made.span("work").attributes[ENDUSER_ID] == "u-2"


def test_the_threads_of_a_pool_belong_to_nobody(service, app, pool):
    """They are started by the first request that submits, and live on."""
    service()
    app.run_view = lambda: in_pool(pool)
    app.ask()
    assert pool.submit(request_in).result() is None
    assert pool.submit(get_current).result() == {}


def test_a_request_is_released_with_its_work(service, app, pool):
    service(user_key="k" * 32)

    def failing():
        heatshield.user("u-1")
        raise LookupError

    def view():
        for way in WAYS.values():
            way(pool)
        app.failure = pool.submit(failing).exception()

    app.run_view = view
    app.ask()
    pool.submit(int).result()
    gc.collect()
    assert isinstance(app.failure, LookupError)
    assert not [one for one in gc.get_objects() if type(one) is HandedOn]
    assert pool.submit(latest).result() is None


def waiting_loop(steps):
    """A thread that works whenever it is told to, and says for whom."""

    def loop():
        while steps.get():
            request = request_in()
            steps.answer(None if request is None else request.user)

    return loop


class Steps:
    """Steps one thread through its loop."""

    def __init__(self):
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._more, self._answer = True, None

    def get(self):
        self._go.acquire(timeout=10)
        return self._more

    def answer(self, answer):
        self._answer = answer
        self._done.release()

    def acts(self):
        self._go.release()
        self._done.acquire(timeout=10)
        return self._answer

    def end(self):
        self._more = False
        self._go.release()


@pytest.mark.parametrize(("daemon", "seconds"), [(False, WORK_S), (True, DAEMON_S)])
def test_a_loop_that_a_request_has_started_is_not_charged_for_ever(service, app, daemon, seconds):
    made, steps = service(), Steps()
    thread = threading.Thread(target=waiting_loop(steps), daemon=daemon)

    def view():
        thread.start()
        assert steps.acts() == "u-1"

    app.run_view = view
    app.ask()
    made.clock.advance(seconds - 1)
    assert steps.acts() == "u-1"
    made.clock.advance(1)
    assert steps.acts() is None
    steps.end()
    thread.join()


def test_as_long_as_the_request_runs_its_work_is_its_own(service, app, pool):
    made, steps = service(), Steps()

    def view():
        looping = pool.submit(waiting_loop(steps))
        made.clock.advance(WORK_S + 1)
        assert steps.acts() == "u-1"
        steps.end()
        looping.result()

    app.run_view = view
    assert app.ask() == "done"


def test_a_timer_that_starts_the_next_has_no_more_time_for_that(service, app):
    made, acted = service(), []

    def tick():
        request = request_in()
        acted.append(None if request is None else request.user)
        if len(acted) < 4:
            made.clock.advance(WORK_S / 2)
            joined(threading.Timer(0, tick))

    app.run_view = lambda: setattr(app, "later", threading.Timer(0.05, tick)) or app.later.start()
    app.ask()
    app.later.join()
    assert acted == ["u-1", "u-1", None, None]


def test_a_library_s_own_daemon_gets_no_request(service, app):
    service()
    found = []
    source = "def loop(): found.append(context())"
    scope = {"found": found, "context": get_current, "__name__": "theirs"}
    exec(compile(source, "/x/site-packages/theirs.py", "exec"), scope)  # noqa: S102
    app.run_view = lambda: joined(threading.Thread(target=scope["loop"], daemon=True))
    app.ask()
    assert found == [{}]


def test_a_worker_of_anyio_gets_no_request(service, app):
    """It lives as long as its loop; what runs in it has the context of the task that asked."""
    made = service()
    kept = []

    def worked():
        work()
        gc.collect()
        kept.extend(one for one in gc.get_objects() if type(one) is HandedOn)

    app.run_view = lambda: asyncio.run(run_in_threadpool(worked))
    assert app.ask() == "done"
    assert made.span("work").attributes[ENDUSER_ID] == "u-1"
    assert not kept


def test_outside_of_any_request_nothing_is_handed_on(service, pool):
    service()
    found = []
    thread = threading.Thread(target=lambda: found.append(get_current()))
    thread.start()
    assert "run" not in vars(thread)
    thread.join()
    assert found == [{}]
