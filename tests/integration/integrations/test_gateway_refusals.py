"""A gateway that passes an answer through: a refusal stays one, whatever it passes on of it."""

import asyncio

import aiohttp
import django_shop  # noqa: F401  # configures Django
import flask
import grpc
import httpx
import pytest
import requests
import urllib3
from aiohttp import web
from caller_behaviour import Peer
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from fastapi import FastAPI, Response
from grpc_peers import CALL, aio_server, sync_server
from opentelemetry.trace import SpanKind, StatusCode

from heatshield.names import REJECTED
from heatshield.rejection import BreakerOpen


@pytest.fixture
def peer():
    made = Peer()
    yield made
    made.close()


def by_httpx(url):
    return httpx.get(url).status_code


def by_requests(url):
    return requests.get(url, timeout=5).status_code


def by_urllib3(url):
    return urllib3.PoolManager().request("GET", url).status


async def by_httpx_async(url):
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).status_code


async def by_aiohttp(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status


def own_headers(retry_after):
    return {"x-own": "1"} | ({"retry-after": retry_after} if retry_after else {})


def fastapi_gateway(ask):
    app = FastAPI()

    @app.get("/gate")
    async def gate(url: str, more: str = ""):
        status = 200
        for one in url.split(","):
            status = await ask(one)
        return Response(
            "passed on", status, {"x-own": "1"} | ({"retry-after": more} if more else {})
        )

    return app


def flask_gateway(ask):
    app = flask.Flask("gateway")

    @app.get("/gate")
    def gate():
        status = 200
        for one in flask.request.args["url"].split(","):
            status = ask(one)
        return "passed on", status, own_headers(flask.request.args.get("more"))

    return app


def aiohttp_gateway(ask, *, raises):
    async def gate(request):
        status = 200
        for one in request.query["url"].split(","):
            status = await ask(one)
        headers = own_headers(request.query.get("more"))
        if raises and status == 503:
            raise web.HTTPServiceUnavailable(text="passed on", headers=headers)
        return web.Response(text="passed on", status=status, headers=headers)

    app = web.Application()
    app.router.add_get("/gate", gate)
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


def django_gate(ask):
    def gate(request):
        status = 200
        for one in request.GET["url"].split(","):
            status = ask(one)
        headers = own_headers(request.GET.get("more"))
        return HttpResponse("passed on", status=status, headers=headers)

    return gate


@pytest.fixture(
    params=[
        "fastapi, httpx", "fastapi, aiohttp", "flask, requests", "flask, urllib3", "django, httpx",
        "aiohttp, aiohttp", "aiohttp raising, httpx",
    ]
)  # fmt: skip
def gateway(request, serve_asgi, serve_wsgi, serve_aiohttp):
    """Starts a gateway; ``GET /gate?url=U,V`` asks each, and passes the last status on."""
    server, client = request.param.split(", ")

    def start():
        sync = {"httpx": by_httpx, "requests": by_requests, "urllib3": by_urllib3}
        asynchronous = {"httpx": by_httpx_async, "aiohttp": by_aiohttp}
        if server == "fastapi":
            return serve_asgi(fastapi_gateway(asynchronous[client]))
        if server.startswith("aiohttp"):
            return serve_aiohttp(aiohttp_gateway(asynchronous[client], raises="raising" in server))
        if server == "flask":
            return serve_wsgi(flask_gateway(sync[client]))
        urls = type("urls", (), {"urlpatterns": [path("gate", django_gate(sync[client]))]})
        settings.enable(ROOT_URLCONF=urls)
        return serve_wsgi(WSGIHandler())

    class Settings:
        def enable(self, **changed):
            self.override = override_settings(**changed)
            self.override.enable()

    settings = Settings()
    yield start
    if hasattr(settings, "override"):
        settings.override.disable()


def the_server_span(made, until):
    return until(lambda: [span for span in made.spans if span.name == "GET /gate"])[0]


def test_a_refusal_that_is_passed_on_by_its_status_is_one(service, gateway, peer, ask, until):
    made = service()
    answer = ask(f"{gateway()}/gate?url={peer.url}/rejected")
    assert (answer.status, answer.body) == (503, b"passed on")
    assert answer.headers["retry-after"] == "1"
    assert (answer.headers["heatshield-breaker"], answer.headers["x-own"]) == ("b-9", "1")
    span = the_server_span(made, until)
    assert span.attributes[REJECTED] == "b-9"
    assert span.status.status_code is StatusCode.UNSET


def test_what_the_gateway_says_of_it_itself_stays(service, gateway, peer, ask):
    service()
    answer = ask(f"{gateway()}/gate?url={peer.url}/rejected&more=77")
    assert answer.headers["retry-after"] == "77"


@pytest.mark.parametrize("asked", ["unavailable", "rejected,unavailable", "unavailable,missing"])
def test_a_failure_that_is_passed_on_is_one(service, gateway, peer, ask, until, asked):
    """Also after a refusal that the gateway got over."""
    made = service()
    urls = ",".join(f"{peer.url}/{one}" for one in asked.split(","))
    answer = ask(f"{gateway()}/gate?url={urls}")
    assert "heatshield-breaker" not in answer.headers
    assert "retry-after" not in answer.headers
    span = the_server_span(made, until)
    assert REJECTED not in span.attributes
    assert (span.status.status_code is StatusCode.ERROR) is (answer.status == 503)


def test_a_refusal_that_the_gateway_gets_over_is_nothing(service, gateway, peer, ask, until):
    made = service()
    answer = ask(f"{gateway()}/gate?url={peer.url}/rejected,{peer.url}/ok")
    assert answer.status == 200
    assert "heatshield-breaker" not in answer.headers
    assert REJECTED not in the_server_span(made, until).attributes


# -- gRPC ------------------------------------------------------------------------------------------


def refuse(_request, _context):
    raise BreakerOpen("b-9", 7)


async def refuse_async(_request, _context):
    raise BreakerOpen("b-9", 7)


def marks_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), dict(error.trailing_metadata() or ())
    raise AssertionError


def served_over_grpc(made, until):
    name = f"{CALL}Ugate"
    return until(lambda: [s for s in made.spans if s.name == name and s.kind is SpanKind.SERVER])[0]


@pytest.mark.parametrize("how", ["abort", "set_code", "over http"])
def test_a_refusal_that_is_passed_on_over_grpc_is_one(service, peer, until, how):
    made = service()
    with sync_server(Ushop=refuse) as shop:

        def gate(request, context):
            try:
                if how == "over http":
                    httpx.get(f"{peer.url}/rejected").raise_for_status()
                shop.unary_unary(f"/{CALL}Ushop")(request)
            except (grpc.RpcError, httpx.HTTPError):
                code = grpc.StatusCode.UNAVAILABLE
                if how == "set_code":
                    context.set_code(code)
                    return b""
                context.abort(code, "passed on")

        with sync_server(Ugate=gate) as gateway:
            code, marks = marks_of(lambda: gateway.unary_unary(f"/{CALL}Ugate")(b""))
        retry_after = "1" if how == "over http" else "7"
        assert (code, marks["retry-after"]) == (grpc.StatusCode.UNAVAILABLE, retry_after)
        assert marks["heatshield-breaker"] == "b-9"
        spans = until(
            lambda: [
                s for s in made.spans if s.name == f"{CALL}Ugate" and s.kind is SpanKind.SERVER
            ]
        )
    assert spans[0].attributes[REJECTED] == "b-9"
    assert spans[0].status.status_code is StatusCode.UNSET


def test_a_refusal_that_aios_server_passes_on_is_no_error_of_its_own(service, until):
    made = service()

    async def main():
        async with aio_server(Ushop=refuse_async) as shop:

            async def gate(request, context):
                try:
                    return await shop.unary_unary(f"/{CALL}Ushop")(request)
                except grpc.RpcError as error:
                    await context.abort(error.code(), "passed on")

            async with aio_server(Ugate=gate) as gateway:
                with pytest.raises(grpc.RpcError):
                    await gateway.unary_unary(f"/{CALL}Ugate")(b"")

    asyncio.run(main())
    spans = until(
        lambda: [s for s in made.spans if s.name == f"{CALL}Ugate" and s.kind is SpanKind.SERVER]
    )
    assert spans[0].attributes[REJECTED] == "b-9"
    assert spans[0].status.status_code is StatusCode.UNSET
