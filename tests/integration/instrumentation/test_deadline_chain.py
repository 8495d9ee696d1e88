"""Deadlines through two real services: a gateway and the shop that it calls, over loopback."""

import asyncio
import contextlib
import json
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, FastAPI
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import heatshield
from heatshield import runtime
from heatshield.context.deadline import left_s
from heatshield.rejection import BreakerOpen
from heatshield.resilience.downstream import DOWNSTREAM
from heatshield.resilience.local_breaker import State
from heatshield.settings import ServiceSettings

TLS = ssl.create_default_context()  # none is spoken, but making one for each client takes long


def left():
    return left_s(time.monotonic())


def shop_application(seen):
    async def owns(_request):
        seen.append(left())
        await asyncio.sleep(0)
        return JSONResponse({"left_s": left()})

    return Starlette(routes=[Route("/owns/{user}", owns)])


def grpc_server(shop, seen):
    """A service in between that speaks gRPC and calls the shop over HTTP."""

    def owns(request, _context):
        seen.append(left())
        time.sleep(float(request))
        with httpx.Client(base_url=shop, verify=TLS) as client:
            there_s = client.get("/owns/u-1").json()["left_s"]
        return json.dumps({"talk_s": seen[-1], "there_s": there_s}).encode()

    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {"Owns": grpc.unary_unary_rpc_method_handler(owns)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("talk.Talk", handlers),))
    return server, server.add_insecure_port("127.0.0.1:0")


def gateway_application(shop, talk, seen):
    app = FastAPI()

    @app.get("/talk")
    async def by_grpc(wait_s: float = 0.0):
        async with grpc.aio.insecure_channel(talk) as channel:
            answer = await channel.unary_unary("/talk.Talk/Owns")(str(wait_s).encode())
        return {"here_s": left(), **json.loads(answer)}

    async def ask():
        async with httpx.AsyncClient(base_url=shop, verify=TLS) as client:
            response = await client.get("/owns/u-1")
        heatshield.raise_for_rejection(response)
        response.raise_for_status()
        return response.json()["left_s"]

    @app.get("/buy")
    async def buy(wait_s: float = 0.0):
        seen.append(left())
        await asyncio.sleep(wait_s)
        return {"here_s": left(), "there_s": await ask()}

    @app.get("/buy-in-a-thread")
    def buy_in_a_thread():
        with httpx.Client(base_url=shop, verify=TLS) as client:
            return {"here_s": left(), "there_s": client.get("/owns/u-1").json()["left_s"]}

    @app.get("/buy-quickly")
    async def buy_quickly():
        with heatshield.deadline(0.5):
            return {"here_s": left(), "there_s": await ask()}

    async def restock():
        await asyncio.sleep(0.4)
        seen.append(("afterwards", left(), await ask()))

    @app.get("/buy-and-restock")
    async def buy_and_restock(tasks: BackgroundTasks):
        tasks.add_task(restock)
        return {"here_s": left()}

    @app.get("/group")
    async def group(wait_s: float = 0.0):
        await asyncio.sleep(wait_s)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask())
            tasks.create_task(ask())
        return {}

    return app


@contextlib.contextmanager
def serving(app):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


class Platform:
    """Both services, and what each saw of its deadline when a handler of it began."""

    def __init__(self, stack):
        self.at_gateway, self.at_talk, self.at_shop = [], [], []
        shop = stack.enter_context(serving(shop_application(self.at_shop)))
        server, port = grpc_server(shop, self.at_talk)
        server.start()
        stack.callback(lambda: server.stop(0).wait())
        app = gateway_application(shop, f"127.0.0.1:{port}", self.at_gateway)
        gateway = stack.enter_context(serving(app))
        self.client = stack.enter_context(httpx.Client(base_url=gateway, verify=TLS, timeout=20))

    def get(self, path, milliseconds=None, header="heatshield-deadline"):
        headers = {} if milliseconds is None else {header: str(milliseconds)}
        return self.client.get(path, headers=headers)


@pytest.fixture
def platform():
    """Call it with settings, which both services share."""
    with contextlib.ExitStack() as stack:

        def begin(**settings):
            runtime.begin(ServiceSettings(service="all", endpoint="http://127.0.0.1:9", **settings))
            stack.callback(runtime.end)
            return Platform(stack)

        yield begin


@pytest.mark.parametrize("path", ["/buy", "/buy-in-a-thread"])
def test_each_hop_has_less_than_the_one_before(platform, path):
    answer = platform().get(path, 5_000).json()
    assert 4 < answer["here_s"] < 5
    assert 3 < answer["there_s"] < answer["here_s"] - 0.001


def test_a_deadline_goes_from_http_to_grpc_and_back(platform):
    answer = platform().get("/talk", 5_000).json()
    assert 3 < answer["there_s"] < answer["talk_s"] < 5.1  # gRPC rounds up
    assert platform().get("/talk").json() == dict.fromkeys(("here_s", "talk_s", "there_s"))


def test_what_is_over_within_a_grpc_service_goes_no_further(platform):
    made = platform()
    assert made.get("/talk?wait_s=0.5", 250).status_code == 500  # the gateway's own gRPC error
    time.sleep(0.5)
    assert len(made.at_talk) == 1
    assert made.at_shop == []


def test_a_request_that_says_nothing_has_all_the_time(platform):
    assert platform().get("/buy").json() == {"here_s": None, "there_s": None}


@pytest.mark.parametrize("garbage", ["", "soon", "-5", "1e9", "5,5", "\xb9"])
def test_garbage_says_nothing(platform, garbage):
    made = platform()
    headers = {"heatshield-deadline": garbage.encode("latin-1")}
    assert made.client.get("/buy", headers=headers).json()["here_s"] is None


def test_a_request_that_is_over_when_it_comes_is_not_started(platform):
    made = platform()
    answer = made.get("/buy", 0)
    assert answer.status_code == 504
    assert answer.headers["heatshield-deadline"] == "0"
    assert answer.json() == {"detail": "no time left for this request; it was not started"}
    assert made.at_gateway == []


def test_what_is_over_on_the_way_goes_no_further(platform):
    made = platform()
    answer = made.get("/buy?wait_s=0.3", 200)
    assert answer.status_code == 504
    assert answer.headers["heatshield-deadline"] == "0"
    assert len(made.at_gateway) == 1
    assert made.at_shop == []


def test_tasks_of_a_group_that_have_no_time_are_one_expiry(platform):
    made = platform()
    answer = made.get("/group?wait_s=0.3", 200)
    assert (answer.status_code, answer.headers["heatshield-deadline"]) == (504, "0")
    assert made.at_shop == []


def test_a_shorter_deadline_of_the_services_own_holds_within_it(platform):
    made = platform()
    answer = made.get("/buy-quickly", 60_000).json()
    assert 0 < answer["there_s"] < answer["here_s"] < 0.5
    answer = made.get("/buy-quickly", 300).json()
    assert answer["here_s"] < 0.3


def test_what_runs_on_after_the_answer_is_not_held_to_it(platform):
    made = platform()
    assert made.get("/buy-and-restock", 300).json()["here_s"] < 0.3
    deadline = time.monotonic() + 5
    while not made.at_gateway:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert made.at_gateway == [("afterwards", None, None)]


@pytest.mark.parametrize("settings", [{"deadlines": False}, {"edge": True}])
def test_where_it_is_switched_off_and_at_the_edge_nobody_is_believed(platform, settings):
    answer = platform(**settings).get("/buy", 0)
    assert answer.status_code == 200
    assert answer.json() == {"here_s": None, "there_s": None}


def test_another_header_is_understood_and_ours_goes_before_it(platform):
    made = platform(deadline_header="X-Envoy-Expected-RQ-Timeout-MS")
    other = "x-envoy-expected-rq-timeout-ms"
    assert 4 < made.get("/buy", 5_000, other).json()["here_s"] < 5
    both = {other: "15000", "heatshield-deadline": "5000"}
    assert 4 < made.client.get("/buy", headers=both).json()["here_s"] < 5


def test_requests_that_are_over_do_not_open_the_callers_breaker(platform):
    """The gateway is fine, it is its callers that have no time."""
    made = platform(local_breakers=True)
    for pause_s in (0.0, 1.05):
        time.sleep(pause_s)
        for _ in range(12):
            assert made.get("/buy", 0).status_code == 504
    states = [state for state in DOWNSTREAM.states() if state.call == "GET"]
    assert {(state.state, state.failures) for state in states} == {(State.CLOSED, 0)}


def test_an_open_local_breaker_travels_on_as_a_rejection(platform):
    """As another breaker's does: marked, so that the next caller neither retries nor counts it."""
    made = platform(local_breakers=True)
    made.get("/buy")
    breakers = [
        breaker for key, breaker in DOWNSTREAM._breakers._breakers.items() if key[2] == "GET /buy"
    ]
    (breaker,) = breakers
    breaker._move("tripped", time.monotonic())
    answer = made.get("/buy")
    assert answer.status_code == 503
    assert heatshield.is_rejection(answer)
    assert answer.headers["heatshield-breaker"].endswith(":GET in GET /buy")
    assert 1 <= int(answer.headers["retry-after"]) <= 13
    assert isinstance(json.loads(answer.text)["detail"], str)
    with pytest.raises(BreakerOpen):
        heatshield.raise_for_rejection(answer)
    assert made.get("/group").status_code == 200  # another operation, another breaker
