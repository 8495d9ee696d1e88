"""Other instrumentations of the same application: nothing doubles, nothing of theirs is lost."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, get_tracer
from starlette.middleware.gzip import GZipMiddleware

import heatshield

CALL = "GET /items/{item}"


def ask(app, path="/items/1", method="GET", headers=()):
    async def once():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.request(method, path, headers=list(headers))

    return asyncio.run(once())


def shop():
    app = FastAPI()

    @app.get("/items/{item}")
    async def item(item: int):
        return {"item": item}

    return app


def nothing():
    return {}


def servers(spans):
    return [span.name for span in spans if span.kind is SpanKind.SERVER]


def test_contribs_middleware_around_the_application_makes_the_one_span_and_enforcement_holds(
    service,
):
    shop_service = service(user_header="x-user")
    entry_id = shop_service.trip("u-1", CALL)
    app = OpenTelemetryMiddleware(shop())
    answer = ask(app, headers=[("x-user", "u-1")])
    assert (answer.status_code, answer.headers["heatshield-breaker"]) == (503, entry_id)
    assert servers(shop_service.spans) == [CALL]


def test_contribs_own_instrumentation_of_the_application_makes_the_one_span(service):
    shop_service = service(user_header="x-user")
    app = shop()
    FastAPIInstrumentor.instrument_app(app)
    assert ask(app, headers=[("x-user", "u-1")]).status_code == 200
    assert servers(shop_service.spans) == [CALL]
    shop_service.trip("u-1", CALL)
    assert ask(app, headers=[("x-user", "u-1")]).status_code == 503


def test_an_applications_own_telemetry_goes_on(service):
    service()
    theirs = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    app = FastAPI(telemetry={"tracer_provider": provider})
    app.add_api_route("/", nothing)
    assert ask(app, "/").status_code == 200
    assert "GET /" in [span.name for span in theirs.get_finished_spans()]


def test_a_user_named_twice_in_headers_is_the_first(service):
    shop_service = service(user_header="x-user")
    shop_service.trip("u-1", CALL)
    twice = [("x-user", "u-1"), ("x-user", "u-1")]
    assert ask(shop(), headers=twice).status_code == 503


def test_head_is_refused_where_get_is(service):
    shop_service = service(user_header="x-user")
    shop_service.trip("u-1", CALL)
    app = FastAPI()
    app.add_api_route("/items/{item}", nothing, methods=["GET", "HEAD"])
    assert ask(app, method="HEAD", headers=[("x-user", "u-1")]).status_code == 503


def test_a_mounted_application_within_a_middleware_is_enforced_by_its_own_routes(service):
    shop_service = service(user_path_parameter="item")
    shop_service.trip("7", "GET /sub/items/{item}")
    app = FastAPI()
    app.mount("/sub", GZipMiddleware(shop()))
    assert ask(app, "/sub/items/7").status_code == 503
    assert ask(app, "/sub/items/8").status_code == 200


def test_a_call_within_the_process_acts_for_the_same_user(service):
    shop_service = service(user_header="x-user")
    shop_service.trip("u-1", CALL)
    inner, outer = shop(), FastAPI()

    @outer.get("/")
    async def relay():
        transport = httpx.ASGITransport(app=inner)
        async with httpx.AsyncClient(transport=transport, base_url="http://inner") as client:
            with heatshield.guard("relayed"):
                return {"status": (await client.get("/items/1")).status_code}

    assert ask(outer, "/", headers=[("x-user", "u-1")]).json() == {"status": 503}
    assert ask(outer, "/", headers=[("x-user", "u-2")]).json() == {"status": 200}
    assert {shop_service.spans[-3].call, shop_service.spans[-2].call} == {CALL, "relayed"}


def test_a_server_that_was_started_in_a_span_serves_requests_of_their_own(service):
    shop_service = service()
    with get_tracer("main").start_as_current_span("main") as main:
        ask(shop())
        ask(shop())
    traces = {span.trace_id for span in shop_service.spans if span.kind is SpanKind.SERVER}
    assert len(traces) == 2
    assert main.trace_id not in traces


@pytest.mark.parametrize("state", ["a=\x01", "ü=1", "x" * 513])
def test_a_trace_state_that_no_client_would_send_is_not_handed_on(service, state):
    made = service()
    header = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-00", "tracestate": state}
    inbound = made.runtime.propagator.read(header.get)
    sent = made.runtime.propagator.headers(inbound.context(inbound.request()))
    assert "tracestate" not in sent
    assert sent["traceparent"].endswith("-00"), "what is to be stored is the caller's wish"


@pytest.mark.parametrize(
    "headers",
    [
        {"b3": "463ac35c9f6413ad-a2fb4a1d1a96d312-0"},
        {
            "x-b3-traceid": "463ac35c9f6413ad",
            "x-b3-spanid": "a2fb4a1d1a96d312",
            "x-b3-sampled": "0",
        },
    ],
)
def test_what_a_zipkin_shop_does_not_store_it_is_not_told_to(service, headers):
    made = service()
    inbound = made.runtime.propagator.read(headers.get)
    assert inbound.trace_id == 0x463AC35C9F6413AD
    sent = made.runtime.propagator.headers(inbound.context(inbound.request()))
    assert sent["x-b3-sampled"] == "0"


def test_a_downstream_rejection_that_an_error_stands_for_is_answered_as_one(service):
    service()
    app = FastAPI()

    @app.get("/")
    async def relay():
        request = httpx.Request("GET", "http://shop")
        answer = httpx.Response(503, headers={"heatshield-breaker": "b-7"}, request=request)
        answer.raise_for_status()

    found = ask(app, "/")
    assert (found.status_code, found.headers["heatshield-breaker"]) == (503, "b-7")
