"""aiohttp's server, run by its own runner: one span a request, its user, refusal before it."""

import asyncio
import re
import socket
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, WSServerHandshakeError, web
from aiohttp.test_utils import make_mocked_request
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_urldispatcher import UrlMappingMatchInfo
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor
from opentelemetry.trace import SpanKind, StatusCode, get_tracer
from shop_behaviour import Shop, ShopBehaviour

import heatshield
from heatshield.context.request import request_in
from heatshield.names import CALL, ENDUSER_ID, REJECTED


class Rejection:
    """A downstream's."""

    status_code = 503
    headers = {"heatshield-breaker": "b-99", "retry-after": "7"}  # noqa: RUF012


@web.middleware
async def sessions(request, handler):
    if "x-session" in request.headers:
        heatshield.user(request.headers["x-session"])
    return await handler(request)


def routes(ran):  # noqa: C901  # one shop
    table = web.RouteTableDef()

    @table.post("/purchases/{user}")
    async def buy(request):
        ran.append(request.match_info["user"])
        return web.json_response({"bought": request.match_info["user"]})

    @table.post("/echo")
    async def echo(request):
        return web.Response(body=await request.read())

    @table.get("/stream")
    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(3):
            with get_tracer("test").start_as_current_span("chunk"):
                await response.write(b"x" * 1_000)
        return response

    @table.get("/fails")
    async def fails(request):
        return web.Response(text=str(1 / 0))

    @table.get("/named/{user}")
    async def named(request):
        heatshield.user(request.match_info["user"])
        ran.append(request.match_info["user"])
        return web.json_response({})

    @table.get("/guarded/{user}")
    async def guarded(request):
        async with heatshield.guard("refresh"):
            return web.json_response({})

    @table.get("/handed-on")
    async def handed_on(request):
        heatshield.raise_for_rejection(Rejection())

    @table.get("/own-words")
    async def own_words(request):
        raise web.HTTPServiceUnavailable(
            text="come back later", headers={"heatshield-breaker": "b-98"}
        )

    @table.get("/healthz")
    async def healthz(request):
        return web.json_response({})

    return table


def shop_app(ran, **more):
    app = web.Application(middlewares=(sessions,), **more)
    app.add_routes(routes(ran))
    return app


@pytest.fixture
def serve_aiohttp(in_loop):
    runners = []

    async def start(app):
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield lambda app: in_loop(start(app))
    for runner in runners:
        in_loop(runner.cleanup())


@pytest.fixture
def open_shop(serve_aiohttp):
    def start():
        shop = Shop()
        shop.url = serve_aiohttp(shop_app(shop.ran))
        return shop

    return start


class TestAiohttp(ShopBehaviour):
    template = staticmethod(lambda path: re.sub("USER", "{user}", path))


async def answered(request):
    return web.Response(text=request.match_info.get("user", ""))


def small_app(handler=answered, **more):
    app = web.Application(**more)
    app.router.add_get("/view/{user}", handler)
    return app


def test_an_application_in_another_makes_one_span(service, serve_aiohttp, ask, until):
    shop_service = service(user_path_parameter="user")
    inner, outer = small_app(middlewares=[sessions]), small_app(middlewares=[sessions])
    outer.add_subapp("/inner", inner)
    url = serve_aiohttp(outer)
    shop_service.trip("u-1", "GET /inner/view/{user}")
    assert ask(f"{url}/inner/view/u-1").status == 503
    assert ask(f"{url}/view/u-1").status == 200
    until(lambda: len(shop_service.spans) == 2)
    assert {span.name for span in shop_service.spans} == {
        "GET /inner/view/{user}", "GET /view/{user}"
    }  # fmt: skip


def test_class_based_views_are_refused_too(service, serve_aiohttp, ask):
    shop_service = service(user_path_parameter="user")
    ran = []

    class Buying(web.View):
        async def get(self):
            ran.append(self.request.match_info["user"])
            return web.Response()

    app = web.Application(middlewares=[sessions])
    app.router.add_view("/view/{user}", Buying)
    url = serve_aiohttp(app)
    shop_service.trip("u-1", "GET /view/{user}")
    assert ask(f"{url}/view/u-1").status == 503
    assert ask(f"{url}/view/u-2").status == 200
    assert ask(f"{url}/view/u-2", "POST").status == 405
    assert ran == ["u-2"]


def test_the_service_sees_its_own_handlers(service, serve_aiohttp, ask):
    """Middlewares compare them, and look at what decorators have written on them."""
    service()
    seen = []
    answered.permission = "view"

    @web.middleware
    async def looking(request, handler):
        seen.append((request.match_info.handler is answered, handler.permission))
        return await handler(request)

    url = serve_aiohttp(small_app(middlewares=[looking]))
    assert ask(f"{url}/view/u-1").status == 200
    assert seen == [(True, "view")]


def test_a_middleware_for_every_error_does_not_swallow_a_refusal(service, serve_aiohttp, ask):
    service()

    async def refused(request):
        raise heatshield.BreakerOpen("b-1")

    @web.middleware
    async def catching(request, handler):
        try:
            return await handler(request)
        except Exception:  # noqa: BLE001
            return web.Response(status=500)

    url = serve_aiohttp(small_app(refused, middlewares=[catching]))
    assert ask(f"{url}/view/u-1").headers["heatshield-breaker"] == "b-1"


def test_a_refusal_that_leaves_a_middleware_is_answered_alike(service, serve_aiohttp, ask, until):
    shop_service = service()

    @web.middleware
    async def refusing(request, handler):
        raise heatshield.BreakerOpen("b-1")

    url = serve_aiohttp(small_app(middlewares=[refusing]))
    assert ask(f"{url}/view/u-1").headers["heatshield-breaker"] == "b-1"
    (span,) = until(lambda: list(shop_service.spans))
    assert span.attributes[REJECTED] == "b-1"
    assert span.status.status_code is StatusCode.UNSET


def test_of_a_header_that_comes_twice_the_first_counts(service, serve_aiohttp, until):
    """As it does for the service."""
    shop_service = service(user_header="x-user")
    url = urlsplit(serve_aiohttp(small_app()))
    with socket.create_connection((url.hostname, url.port), timeout=10) as connection:
        connection.sendall(
            b"GET /view/u HTTP/1.1\r\nhost: shop\r\nx-user: u-1\r\nx-user: u-2\r\n"
            b"connection: close\r\n\r\n"
        )
        while connection.recv(65_536):
            pass
    (span,) = until(lambda: list(shop_service.spans))
    assert span.attributes[ENDUSER_ID] == "u-1"


def test_what_a_service_raises_as_an_answer_is_no_error(service, serve_aiohttp, ask, until):
    shop_service = service()

    async def moved(request):
        raise web.HTTPFound("/elsewhere")

    url = serve_aiohttp(small_app(moved))
    assert ask(f"{url}/view/u-1").status == 302
    (span,) = until(lambda: list(shop_service.spans))
    assert span.attributes["http.response.status_code"] == 302
    assert (span.status.status_code, list(span.events)) == (StatusCode.UNSET, [])


def test_a_websocket_is_one_span_and_refused_before_it_opens(
    service, serve_aiohttp, in_loop, until
):
    shop_service = service(user_path_parameter="user", disabled=("aiohttp_client",))

    async def live(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    url = serve_aiohttp(small_app(live))
    shop_service.trip("u-1", "GET /view/{user}")

    async def talk(user):
        async with ClientSession() as session, session.ws_connect(f"{url}/view/{user}") as socket:
            await socket.send_str("hello")
            return await socket.receive_str()

    assert in_loop(talk("u-2")) == "HELLO"
    with pytest.raises(WSServerHandshakeError) as refused:
        in_loop(talk("u-1"))
    assert refused.value.status == 503
    until(lambda: len(shop_service.spans) == 2)
    assert {span.name for span in shop_service.spans} == {"GET /view/{user}"}


def test_a_request_whose_client_went_away_ends(service, in_loop, until):
    shop_service = service()

    async def gone():
        started = asyncio.Event()

        async def waiting(request):
            started.set()
            await asyncio.Event().wait()

        runner = web.AppRunner(small_app(waiting), handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        _, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
        writer.write(b"GET /view/u-1 HTTP/1.1\r\nhost: shop\r\n\r\n")
        await started.wait()
        writer.close()
        await asyncio.to_thread(until, lambda: list(shop_service.spans))
        await runner.cleanup()

    in_loop(gone())
    assert [span.name for span in shop_service.spans] == ["GET /view/{user}"]


def test_beside_opentelemetrys_own_middleware_nothing_doubles(service, serve_aiohttp, ask, until):
    shop_service = service(user_path_parameter="user")
    instrumentor = AioHttpServerInstrumentor()
    instrumentor.instrument(skip_dep_check=True)

    async def inner(request):
        with get_tracer("test").start_as_current_span("inner"):
            return web.Response()

    try:
        url = serve_aiohttp(small_app(inner, middlewares=[sessions]))
    finally:
        instrumentor.uninstrument()
    assert ask(f"{url}/view/u-1").status == 200
    child, span = until(lambda: len(shop_service.spans) == 2 and shop_service.spans)
    assert (span.name, span.kind) == ("GET /view/{user}", SpanKind.SERVER)
    assert span.attributes[ENDUSER_ID] == child.attributes[ENDUSER_ID] == "u-1"
    assert child.attributes[CALL] == span.name
    shop_service.trip("u-1", span.name)
    assert ask(f"{url}/view/u-1").status == 503
    refused = until(lambda: shop_service.spans[2:])[0]
    assert refused.status.status_code is StatusCode.UNSET
    assert refused.attributes[REJECTED]


def test_under_somebody_elses_patch_it_can_only_stay_out_of_the_way(
    service, serve_aiohttp, ask, monkeypatch
):
    service()
    ours = RequestHandler._handle_request

    async def theirs(*args):
        return await ours(*args)

    monkeypatch.setattr(RequestHandler, "_handle_request", theirs)
    seen = []

    async def handler(request):
        seen.append(request_in())
        return web.Response()

    url = serve_aiohttp(small_app(handler))
    ask(f"{url}/view/u-1")
    heatshield.shutdown()
    ask(f"{url}/view/u-1")
    assert [request is not None for request in seen] == [True, False]


def test_an_application_that_ends_sends_what_is_queued(run_python, collector):
    done = run_python(
        """
import asyncio, os
import heatshield
heatshield.instrument(service="shop", disabled=["aiohttp_client"])
from aiohttp import ClientSession, web

async def main():
    app = web.Application()
    app.router.add_get("/", lambda request: asyncio.sleep(0, web.Response()))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as session:
        await (await session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/")).read()
    await runner.cleanup()

asyncio.run(main())
os._exit(0)  # no exit handler runs
""",
        HEATSHIELD_FLUSH_INTERVAL_S="600",
    )
    assert [span.name for _, span in collector.spans] == ["GET /"], done.stderr


def test_removed_it_leaves_aiohttp_as_it_was(service):
    owners = (web.Application, web.View, RequestHandler, UrlMappingMatchInfo)
    before = [dict(vars(owner)) for owner in owners]
    service()
    assert [dict(vars(owner)) for owner in owners] != before
    heatshield.shutdown()
    assert [dict(vars(owner)) for owner in owners] == before


def test_users_in_raw_baggage_stay_apart_whatever_their_letters():
    """aiohttp reads headers as UTF-8; what is looked at is the bytes that came."""
    from heatshield.integrations.servers.aiohttp_server import _headers_of

    found = {
        _headers_of(
            make_mocked_request("GET", "/", {"baggage": f"enduser.id={user}"}), [b"baggage"]
        )[b"baggage"]
        for user in ("Ж", "Я")
    }
    assert len(found) == 2
