"""aiohttp's server, run by its own runner: one span a request, its user, refusal before it."""

import re

import pytest
from aiohttp import web
from opentelemetry.trace import get_tracer
from shop_behaviour import Shop, ShopBehaviour

import heatshield


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
