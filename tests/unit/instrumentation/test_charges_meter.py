"""What calls of this process cost, as its charge reports tell it: real frameworks, real clocks."""

import asyncio
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask
from opentelemetry.trace import SpanKind, get_tracer
from starlette.middleware.base import BaseHTTPMiddleware

import heatshield
from heatshield.charge_report import ProcessState
from heatshield.charges.backend import BLOCKING, backend_of
from heatshield.charges.meter import METER
from heatshield.charges.tally import Tally, Told
from heatshield.contract import BreakerMode
from heatshield_collector.detect.harm import span_columns

MS = 1_000_000
BURN_US = 20_000


def burn(us=BURN_US):
    """Compute for so long, by this thread's own clock."""
    until = time.thread_time_ns() + us * 1_000
    while time.thread_time_ns() < until:
        sum(range(100))


@pytest.fixture
def costs(service):
    """Call it for the costs by user and call since it was called last."""
    service(user_header="X-User-Id")
    METER.reset()
    METER.is_on = True
    tally = Tally(METER)

    def told():
        METER.loops.look()
        now_ns = time.perf_counter_ns()
        report = tally.report(Told("shop", "c0ffee", 1, now_ns, 0, 0.2, ProcessState()))
        told.report = report
        return {(pair.user, pair.call): pair for pair in report.pairs}

    yield told
    METER.is_on = False
    METER.reset()


def of_flask(view):
    shop = Flask("shop")
    shop.get("/export")(view)
    shop.test_client().get("/export", buffered=True)


def of_fastapi(handler, user="u-1", middleware=None, times=1):
    shop = FastAPI()
    shop.get("/export")(handler)
    if middleware is not None:
        shop.add_middleware(BaseHTTPMiddleware, dispatch=middleware)

    async def ask():
        transport = httpx.ASGITransport(app=shop)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await asyncio.gather(*(client.get("/export") for _ in range(times)))

    asyncio.run(ask())


def test_a_thread_that_computes_is_charged_by_its_own_clock(costs):
    def view():
        heatshield.user("u-1")
        burn()
        return "done"

    of_flask(view)
    (pair,) = costs().values()
    assert (pair.user, pair.call, pair.calls, pair.errors) == ("u-1", "GET /export", 1, 0)
    assert BURN_US <= pair.cpu_us < 3 * BURN_US
    assert len(pair.traces[0]) == 32
    assert costs() == {}


@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_a_handler_of_fastapi_is_charged_wherever_it_runs(costs, kind):
    def function():
        heatshield.user("u-1")
        burn()

    async def coroutine():
        function()

    of_fastapi(coroutine if kind == "coroutine" else function)
    pair = costs()["u-1", "GET /export"]
    assert BURN_US <= pair.cpu_us < 3 * BURN_US
    assert pair.calls == 1


def test_of_two_handlers_in_one_loop_each_pays_for_its_own_steps(costs):
    async def handler():
        user = "u-1" if not seen else "u-2"
        seen.append(user)
        heatshield.user(user)
        for _ in range(5):
            burn(BURN_US if user == "u-1" else 500)
            await asyncio.sleep(0)

    seen = []
    of_fastapi(handler, times=2)
    found = costs()
    assert found["u-1", "GET /export"].cpu_us >= 5 * BURN_US
    assert 2_500 <= found["u-2", "GET /export"].cpu_us < BURN_US


def test_a_handler_in_the_task_of_a_middleware_is_charged(costs):
    async def handler():
        heatshield.user("u-1")
        burn()

    async def middleware(request, call_next):
        return await call_next(request)

    of_fastapi(handler, middleware=middleware)
    assert costs()["u-1", "GET /export"].cpu_us >= BURN_US


def test_a_task_beside_the_handlers_is_found_by_looks_at_the_loop(costs):
    async def aside():
        burn()
        looks = threading.Thread(
            target=METER.loops.look,
        )
        contextvars.Context().run(looks.start)
        looks.join()

    async def handler():
        heatshield.user("u-1")
        METER.loops.look()
        await asyncio.gather(aside(), asyncio.sleep(0))

    of_fastapi(handler)
    assert costs()["u-1", "GET /export"].cpu_us >= BURN_US


def test_what_a_call_has_a_pool_do_is_its_own(costs):
    def view():
        heatshield.user("u-1")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(burn).result()
        return "done"

    of_flask(view)
    assert costs()["u-1", "GET /export"].cpu_us >= BURN_US


def test_work_that_goes_on_after_the_answer_is_charged_and_is_no_second_call(costs):
    goes_on, told = threading.Event(), threading.Event()

    def work():
        goes_on.set()
        told.wait(10)
        burn()

    def view():
        heatshield.user("u-1")
        threads.append(threading.Thread(target=work))
        threads[0].start()
        goes_on.wait(10)
        return "done"

    threads = []
    of_flask(view)
    first = costs()["u-1", "GET /export"]
    told.set()
    threads[0].join()
    second = costs()["u-1", "GET /export"]
    assert (first.calls, second.calls) == (1, 0)
    assert first.cpu_us < BURN_US <= second.cpu_us


def test_a_call_that_runs_is_told_while_it_runs_and_not_again(costs):
    def view():
        heatshield.user("u-1")
        burn()
        asked = ThreadPoolExecutor(1)
        contextvars.Context().run(lambda: found.append(asked.submit(costs).result()))
        found.append([row.open for row in costs.report.durations])
        return "done"

    found = []
    of_flask(view)
    running, is_open = found
    assert running["u-1", "GET /export"].cpu_us >= BURN_US
    assert running["u-1", "GET /export"].calls == 1
    assert is_open == [True]
    rest = costs()["u-1", "GET /export"]
    assert rest.cpu_us < BURN_US
    assert rest.calls == 0
    assert [row.open for row in costs.report.durations] == [False]


def test_a_user_who_is_named_late_pays_from_then_on(costs):
    def view():
        burn()
        contextvars.Context().run(lambda: found.append(costs()))
        burn()
        heatshield.user("u-1")
        return "done"

    found = []
    of_flask(view)
    assert found[0][None, "GET /export"].cpu_us >= BURN_US
    assert BURN_US <= costs()["u-1", "GET /export"].cpu_us < 2 * BURN_US


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_a_guard_is_a_call_of_its_own(costs, kind):
    def computes():
        heatshield.user("u-1")
        burn()
        with heatshield.guard("refresh"):
            burn(2 * BURN_US)
            with heatshield.guard("inner"):
                burn()

    def view():
        computes()
        return "done"

    async def handler():
        computes()

    of_flask(view) if kind == "thread" else of_fastapi(handler)
    found = costs()
    cpu = {call: pair.cpu_us for (_, call), pair in found.items()}
    assert BURN_US <= cpu["GET /export"] < 2 * BURN_US
    assert 2 * BURN_US <= cpu["refresh"] < 3 * BURN_US
    assert BURN_US <= cpu["inner"] < 2 * BURN_US
    assert {pair.calls for pair in found.values()} == {1}


def test_a_refused_call_costs_nothing_and_is_none(costs, service):
    service().trip("u-1", "GET /export")

    def view():
        heatshield.user("u-1")
        return "never"

    of_flask(view)
    assert costs() == {}


def test_an_operation_is_its_callers_and_its_backends(costs):
    def view():
        heatshield.user("u-1")
        where = {"db.system": "redis", "server.address": "cart", "server.port": 6379}
        with get_tracer("test").start_as_current_span(
            "SADD", kind=SpanKind.CLIENT, attributes=where
        ) as span:
            span.set_attribute("heatshield.cost.elements", 20_000)
        return "done"

    of_flask(view)
    pair = costs()["u-1", "GET /export"]
    assert pair.elements == 20_000
    (spent,) = costs.report.backend_us
    (operation,) = costs.report.operations
    assert (spent.backend, spent.operations) == ("redis cart:6379", 1)
    assert operation.backend == "redis cart:6379"
    assert operation.duration_us >= spent.us


def test_a_call_in_line_is_no_call_yet_and_its_wait_no_cost(costs, service):
    paced = service()
    paced.trip("u-1", "GET /export", mode=BreakerMode.PACE, budget=0.1, cost_per_call=0.1)
    shop = FastAPI()

    @shop.get("/export")
    async def export():
        pass

    async def ask():
        transport = httpx.ASGITransport(app=shop)
        headers = {"x-user-id": "u-1"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://shop", headers=headers
        ) as client:
            asked = [asyncio.ensure_future(client.get("/export")) for _ in range(2)]
            for _ in range(1_000):
                if any(call.request.in_line for call in METER.calls.values()):
                    break
                await asyncio.sleep(0)
            found.append(costs()["u-1", "GET /export"])
            paced.clock.advance(10)
            assert [(await one).status_code for one in asked] == [200, 200]
            found.append(costs()["u-1", "GET /export"])

    found = []
    asyncio.run(ask())
    in_line, after = found
    assert [in_line.calls, after.calls] == [1, 1]
    assert after.wait_us == 0


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"db.system.name": "redis", "server.address": "cart", "server.port": 1}, "redis cart:1"),
        ({"db.system": "mysql", "net.peer.name": "db", "net.peer.port": 3306}, "mysql db:3306"),
        ({"db.system": "redis", "network.peer.address": "::1"}, "redis ::1"),
        ({"db.system": "sqlite", "db.namespace": "a"}, "sqlite "),
        ({"server.address": "other-service"}, ""),
    ],
)
def test_a_backend_is_named_as_the_collector_names_it(attributes, name):
    assert backend_of(attributes) == name


def test_commands_that_wait_are_those_that_the_collector_takes_for_waiting():
    assert BLOCKING == span_columns.BLOCKING
