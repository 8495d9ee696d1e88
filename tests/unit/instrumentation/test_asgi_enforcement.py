"""A tripped user's call is answered before its handler runs; everybody else's runs."""

import asyncio

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI
from opentelemetry.trace import StatusCode, get_tracer
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

import heatshield
from heatshield.contract import BreakerMode
from heatshield.names import CALL, ENDUSER_ID, FLAGGED, REJECTED

BUY = "POST /purchases/{user}"


def ask(app, method="POST", path="/purchases/u-1", **more):
    async def once():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.request(method, path, **more)

    return asyncio.run(once())


def answer():
    return {}


def shop(body=None, **more):
    app = FastAPI(**more)
    app.state.ran = []

    @app.post("/purchases/{user}")
    async def buy(user: str):
        app.state.ran.append(user)
        return body(user) if body else {"bought": user}

    return app


def assert_rejected(response, entry_id):
    assert response.status_code == 503
    assert response.headers["heatshield-breaker"] == entry_id
    assert 1 <= int(response.headers["retry-after"]) <= 30


def test_a_tripped_user_is_refused_before_the_handler_and_others_are_not(service):
    shop_service = service(user_path_parameter="user")
    app, entry_id = shop(), shop_service.trip("u-1", BUY)
    assert_rejected(ask(app), entry_id)
    assert ask(app, path="/purchases/u-2").status_code == 200
    assert app.state.ran == ["u-2"]


def test_a_rejection_is_marked_on_the_span_and_is_no_error(service):
    shop_service = service(user_path_parameter="user")
    entry_id = shop_service.trip("u-1", BUY)
    ask(shop())
    span = shop_service.span(BUY)
    assert span.attributes[REJECTED] == entry_id
    assert span.attributes[ENDUSER_ID] == "u-1"
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["http.response.status_code"] == 503
    assert span.events == ()


def test_an_ordinary_503_stays_an_error(service):
    shop_service = service()
    app = FastAPI()
    app.add_api_route("/", lambda: PlainTextResponse("no", 503))
    ask(app, "GET", "/")
    assert shop_service.span("GET /").status.status_code is StatusCode.ERROR


def test_applications_made_before_instrumentation_are_covered(service):
    app = shop()
    shop_service = service(user_path_parameter="user")
    entry_id = shop_service.trip("u-1", BUY)
    assert_rejected(ask(app), entry_id)


def test_naming_a_tripped_user_inside_the_handler_refuses_the_rest(service):
    shop_service = service()
    entry_id = shop_service.trip("u-1", BUY)
    reached = []

    def body(user):
        heatshield.user(user)
        reached.append(user)

    app = shop(body)
    assert_rejected(ask(app), entry_id)
    assert ask(app, path="/purchases/u-2").status_code == 200
    assert reached == ["u-2"]


def test_a_user_named_in_a_sync_dependency_is_seen_by_the_handler(service):
    """FastAPI runs it in another thread, with a copy of the context."""
    shop_service = service()
    app = FastAPI()

    def authenticate():
        heatshield.user("u-7")

    @app.get("/", dependencies=[Depends(authenticate)])
    def handler():
        with get_tracer("test").start_as_current_span("inner"):
            return {}

    ask(app, "GET", "/")
    assert shop_service.span("inner").attributes[ENDUSER_ID] == "u-7"
    assert shop_service.span("GET /").attributes[ENDUSER_ID] == "u-7"


def test_a_user_named_in_the_services_own_middleware_is_refused_before_the_handler(service):
    shop_service = service()
    entry_id = shop_service.trip("u-1", BUY)
    app = shop()

    async def authenticate(request, call_next):
        heatshield.user(request.headers["x-who"])
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=authenticate)
    response = ask(app, headers={"x-who": "u-1"})
    assert_rejected(response, entry_id)
    assert app.state.ran == []
    assert shop_service.span(BUY).status.status_code is StatusCode.UNSET


def test_a_downstream_rejection_travels_on_with_its_id(service):
    shop_service = service()
    answer = httpx.Response(503, headers={"heatshield-breaker": "b-99", "retry-after": "7"})
    response = ask(shop(lambda _: heatshield.raise_for_rejection(answer)))
    assert_rejected(response, "b-99")
    assert response.headers["retry-after"] == "7"
    assert shop_service.span(BUY).attributes[REJECTED] == "b-99"


def test_a_rejection_that_the_service_answers_in_its_own_words_is_marked_too(service):
    shop_service = service()
    app = shop(lambda _: (_ for _ in ()).throw(heatshield.BreakerOpen("b-99")))

    @app.exception_handler(heatshield.BreakerOpen)
    async def refused(_, error):
        return PlainTextResponse("come back later", 503, error.headers)

    response = ask(app)
    assert (response.status_code, response.text) == (503, "come back later")
    span = shop_service.span(BUY)
    assert span.attributes[REJECTED] == "b-99"
    assert span.status.status_code is StatusCode.UNSET


def test_a_guard_that_refuses_in_a_task_group_is_answered_alike(service):
    shop_service = service(user_path_parameter="user")
    entry_id = shop_service.trip("u-1", "refresh")
    app = FastAPI()

    async def refresh():
        async with heatshield.guard("refresh"):
            raise AssertionError("refused before")

    @app.post("/purchases/{user}")
    async def buy(user: str):
        async with asyncio.TaskGroup() as group:
            group.create_task(refresh())

    assert_rejected(ask(app), entry_id)


def test_a_flagged_call_runs_and_says_so(service):
    shop_service = service(user_path_parameter="user")
    entry_id = shop_service.trip("u-1", BUY, mode=BreakerMode.FLAG)
    assert ask(shop()).status_code == 200
    assert shop_service.span(BUY).attributes[FLAGGED] == entry_id


def test_an_error_of_the_handler_is_its_own(service):
    shop_service = service(user_path_parameter="user")
    response = ask(shop(lambda _: 1 / 0))
    assert response.status_code == 500
    assert "heatshield-breaker" not in response.headers
    assert shop_service.span(BUY).status.status_code is StatusCode.ERROR


def test_without_instrumentation_nothing_is_refused_and_nothing_breaks():
    def body(user):
        heatshield.user(user)
        heatshield.cost(elements=1)
        with heatshield.guard("g"):
            return {}

    assert ask(shop(body)).status_code == 200


def test_after_shutdown_nothing_is_refused_any_more(service):
    shop_service = service(user_path_parameter="user")
    app = shop()
    shop_service.trip("u-1", BUY)
    assert ask(app).status_code == 503
    heatshield.shutdown()
    assert ask(app).status_code == 200


def test_background_tasks_are_charged_to_their_call(service):
    shop_service = service(user_path_parameter="user")
    app = FastAPI()

    def later():
        with get_tracer("test").start_as_current_span("later"):
            pass

    @app.post("/purchases/{user}")
    async def buy(user: str, tasks: BackgroundTasks):
        tasks.add_task(later)

    ask(app)
    assert shop_service.span("later").attributes[CALL] == BUY
    assert shop_service.span("later").attributes[ENDUSER_ID] == "u-1"


def test_excluded_paths_make_no_spans(service):
    shop_service = service(excluded_paths=("/healthz",))
    app = FastAPI()
    app.add_api_route("/healthz", answer)
    app.add_api_route("/other", answer)
    ask(app, "GET", "/healthz")
    ask(app, "GET", "/other")
    assert [span.name for span in shop_service.spans] == ["GET /other"]


def included():
    inner, outer, app = APIRouter(), APIRouter(prefix="/v1"), FastAPI()
    inner.add_api_route("/users/{user}", answer)
    outer.include_router(inner, prefix="/shop")
    app.include_router(outer, prefix="/api")
    return app


def mounted():
    app = FastAPI()
    inner = FastAPI()
    inner.add_api_route("/users/{user}", answer)
    app.mount("/api/v1/shop", inner)
    return app


def mounted_routes():
    routes = [Route("/users/{user}", lambda _: PlainTextResponse("ok"))]
    return Starlette(routes=[Mount("/api/v1/shop", routes=routes)])


@pytest.mark.parametrize("make", [included, mounted, mounted_routes])
def test_a_call_is_named_after_the_whole_template_of_its_route(service, make):
    shop_service = service(user_path_parameter="user")
    call = "GET /api/v1/shop/users/{user}"
    app = make()
    assert ask(app, "GET", "/api/v1/shop/users/u-1").status_code == 200
    assert shop_service.span(call).attributes[ENDUSER_ID] == "u-1"
    shop_service.trip("u-1", call)
    assert ask(app, "GET", "/api/v1/shop/users/u-1").status_code == 503


def test_paths_without_a_route_and_odd_methods_make_no_names(service):
    shop_service = service()
    ask(FastAPI(), "GET", "/wp-admin/1")
    ask(FastAPI(), "BREW", "/pot")
    assert [span.name for span in shop_service.spans] == ["GET", "HTTP"]


def test_a_websocket_is_closed_before_it_is_accepted(service):
    shop_service = service(user_header="x-user")
    shop_service.trip("u-1", "WS /live")

    async def live(socket):
        raise AssertionError("the handler must not run")

    sent = []

    async def run():
        scope = {
            "type": "websocket", "path": "/live", "headers": [(b"x-user", b"u-1")],
            "query_string": b"", "scheme": "ws", "subprotocols": [], "extensions": {},
        }  # fmt: skip

        async def send(message):
            sent.append(message)

        async def receive():
            return {"type": "websocket.connect"}

        await Starlette(routes=[WebSocketRoute("/live", live)])(scope, receive, send)

    asyncio.run(run())
    assert sent == [{"type": "websocket.close", "code": 1013}]
