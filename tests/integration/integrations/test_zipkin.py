"""py-zipkin between services of heatshield and within one: one trace, and each span once."""

import asyncio
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode, get_current_span, get_tracer, use_span
from py_zipkin import Encoding
from py_zipkin.storage import get_default_tracer
from py_zipkin.util import ZipkinAttrs
from py_zipkin.zipkin import (
    create_http_headers_for_new_span,
    zipkin_client_span,
    zipkin_server_span,
    zipkin_span,
)
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import heatshield
from heatshield.context.span_like import RemoteSpan

# A service written with py-zipkin alone: it has a Zipkin, continues what comes in, hands it on.
IN_BETWEEN = """
import json, sys, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from py_zipkin import Encoding
from py_zipkin.request_helpers import extract_zipkin_attrs_from_headers
from py_zipkin.zipkin import create_http_headers_for_new_span as headers_for_new_span
from py_zipkin.zipkin import zipkin_client_span, zipkin_server_span

def send(spans):
    print(spans, flush=True)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        attrs = extract_zipkin_attrs_from_headers(self.headers)
        with zipkin_server_span(
            "between", "get", transport_handler=send, encoding=Encoding.V2_JSON,
            zipkin_attrs=attrs, sample_rate=100.0,
        ):
            with zipkin_client_span("between", "call"):
                asked = urllib.request.Request({url!r}, headers=headers_for_new_span())
                body = urllib.request.urlopen(asked).read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def serve(until):
    """Serves an application on loopback; its address."""
    servers = []

    def start(app):
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until(lambda: server.started)
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(5)


@pytest.fixture
def in_between():
    """Starts the service in between, in front of an address; (address, its spans)."""
    running = []

    def start(url):
        process = subprocess.Popen(
            [sys.executable, "-c", IN_BETWEEN.format(url=url)], stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        port = int(process.stdout.readline())
        return f"http://127.0.0.1:{port}", lambda: json.loads(process.stdout.readline())

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


async def said(_request):
    return JSONResponse({"trace": f"{get_current_span().get_span_context().trace_id:032x}"})


@pytest.mark.parametrize("begun_by", ["heatshield", "py-zipkin"])
def test_a_service_with_py_zipkin_between_two_with_heatshield_keeps_the_trace(
    service, until, serve, in_between, begun_by
):
    made = service()
    last = serve(Starlette(routes=[Route("/last", said)]))
    between, spans_in_between = in_between(f"{last}/last")

    async def ask(_request):
        async with httpx.AsyncClient() as client:
            return JSONResponse((await client.get(between)).json())

    first = serve(Starlette(routes=[Route("/first", ask)]))
    if begun_by == "heatshield":
        answer = httpx.get(f"{first}/first").json()
    else:
        with suppress_instrumentation():
            answer = httpx.get(between).json()
    theirs = spans_in_between()
    served = until(lambda: [span for span in made.spans if span.name == "GET /last"])[0]
    assert f"{served.trace_id:032x}" == answer["trace"]
    assert {int(span["traceId"], 16) for span in theirs} == {served.trace_id}
    if begun_by == "heatshield":
        assert {span.trace_id for span in made.spans} == {served.trace_id}
        (asking,) = [span for span in made.spans if span.kind is SpanKind.CLIENT and span.parent_id]
        assert f"{asking.span_id:016x}" in {span["id"] for span in theirs}
    else:
        assert served.trace_id >> 64 == 0  # py-zipkin's are of 64 bits


# -- within an instrumented service ----------------------------------------------------------------


class Zipkin:
    """What a service's py-zipkin sends."""

    def __init__(self):
        self.spans = []

    def __call__(self, encoded):
        self.spans.extend(json.loads(encoded))

    def span(self, name):
        (found,) = [span for span in self.spans if span["name"] == name]
        return found


@pytest.fixture
def zipkin():
    return Zipkin()


def root(zipkin, **more):
    options = {"transport_handler": zipkin, "encoding": Encoding.V2_JSON, **more}
    return zipkin_span("shop", "root", **options)


def test_a_root_in_a_running_trace_goes_on_from_it(service, zipkin):
    made = service()
    around = get_tracer("t").start_span("around")
    with use_span(around), root(zipkin, sample_rate=100.0), zipkin_span("shop", "inner"):
        pass
    mine, theirs = made.span("root"), zipkin.span("root")
    assert (mine.trace_id, mine.parent_id) == (around.trace_id, around.span_id)
    assert theirs["traceId"] == f"{around.trace_id:032x}"
    assert theirs["id"] == f"{mine.span_id:016x}"
    assert theirs["parentId"] == f"{around.span_id:016x}"
    inner, theirs = made.span("inner"), zipkin.span("inner")
    assert inner.parent_id == mine.span_id
    assert (theirs["id"], theirs["parentId"]) == (f"{inner.span_id:016x}", f"{mine.span_id:016x}")


def test_what_happens_within_a_span_is_its_child_and_goes_out_so(service, zipkin, until, serve):
    made = service()
    last = serve(Starlette(routes=[Route("/last", said)]))
    with root(zipkin, sample_rate=100.0), zipkin_client_span("shop", "asking") as asking:
        mine = get_current_span()
        assert asking.zipkin_attrs.span_id == f"{mine.span_id:016x}"
        httpx.get(f"{last}/last", headers=create_http_headers_for_new_span())
    served = until(lambda: [span for span in made.spans if span.name == "GET /last"])[0]
    calling = next(span for span in made.spans if span.name == "GET" and span is not served)
    assert calling.parent_id == made.span("asking").span_id
    assert served.parent_id == calling.span_id
    assert made.span("asking").kind is SpanKind.CLIENT
    assert {span.trace_id for span in made.spans} == {served.trace_id}


def test_without_a_span_of_its_own_py_zipkin_knows_the_trace(service):
    made = service()
    assert create_http_headers_for_new_span() == {}
    with get_tracer("t").start_as_current_span("around") as around:
        headers = create_http_headers_for_new_span()
        with zipkin_span("shop", "inner") as inner:
            assert inner.zipkin_attrs.parent_span_id == f"{around.span_id:016x}"
        assert get_current_span() is around
    assert headers["X-B3-TraceId"] == f"{around.trace_id:032x}"
    assert headers["X-B3-ParentSpanId"] == f"{around.span_id:016x}"
    assert headers["X-B3-Sampled"] == "1"
    assert made.span("inner").parent_id == around.span_id
    assert create_http_headers_for_new_span() == {}


@pytest.mark.parametrize("sampled", [True, False])
def test_a_callers_wish_of_what_to_store_is_handed_on(service, sampled):
    service()
    with use_span(RemoteSpan(0xAB, 0xCD, "", sampled=sampled)):
        assert create_http_headers_for_new_span()["X-B3-Sampled"] == str(int(sampled))
    attrs = ZipkinAttrs("00000000000000ab", "00000000000000cd", None, "0", sampled)
    with zipkin_server_span("shop", "get", zipkin_attrs=attrs, transport_handler=print):
        assert create_http_headers_for_new_span()["X-B3-Sampled"] == str(int(sampled))
        assert get_current_span().get_span_context().trace_flags.sampled is sampled


def test_a_trace_that_began_with_64_bits_is_written_so(service, zipkin):
    made = service()
    with use_span(RemoteSpan(0xAB, 0xCD, "")), root(zipkin, sample_rate=100.0):
        assert create_http_headers_for_new_span()["X-B3-TraceId"] == "00000000000000ab"
    assert zipkin.span("root")["traceId"] == "00000000000000ab"
    assert made.span("root").parent_id == 0xCD


@pytest.mark.parametrize("trace_id", [f"{0xAB:016x}", f"{0xAB:032x}"], ids=["64", "128"])
def test_a_root_that_continues_headers_keeps_their_ids_as_a_zipkin_wants_it(
    service, zipkin, trace_id
):
    """There a client and its server share a span; ours is the client's child."""
    made = service()
    attrs = ZipkinAttrs(trace_id, "00000000000000cd", "00000000000000ef", "0", True)
    server = zipkin_server_span(
        "shop", "get", zipkin_attrs=attrs, transport_handler=zipkin, encoding=Encoding.V2_JSON
    )
    with server, zipkin_span("shop", "inner"):
        heatshield.user("u-7")
    mine, theirs = made.span("get"), zipkin.span("get")
    assert (theirs["traceId"], theirs["id"]) == (trace_id, "00000000000000cd")
    assert theirs["shared"] is True
    assert (mine.trace_id, mine.parent_id, mine.kind) == (0xAB, 0xCD, SpanKind.SERVER)
    inner, theirs = made.span("inner"), zipkin.span("inner")
    assert (theirs["traceId"], theirs["parentId"]) == (trace_id, "00000000000000cd")
    assert theirs["id"] == f"{inner.span_id:016x}"
    assert inner.parent_id == mine.span_id
    assert (inner.user, inner.call) == ("u-7", "get")


def test_a_root_with_another_trace_in_its_headers_goes_over_to_the_one_that_runs(service, zipkin):
    made = service()
    attrs = ZipkinAttrs("00000000000000ab", "00000000000000cd", "00000000000000ef", "0", True)
    around = get_tracer("t").start_span("around")
    with use_span(around), root(zipkin, zipkin_attrs=attrs):
        pass
    assert zipkin.span("root")["traceId"] == f"{around.trace_id:032x}"
    assert zipkin.span("root")["parentId"] == f"{around.span_id:016x}"
    assert made.span("root").parent_id == around.span_id


def test_in_a_request_with_a_server_span_theirs_is_no_second_one(service, zipkin, until, serve):
    made = service()

    def view(request):
        attrs = ZipkinAttrs(
            request.headers["x-b3-traceid"], request.headers["x-b3-spanid"], None, "0", True
        )
        with zipkin_server_span(
            "shop", "view", zipkin_attrs=attrs, transport_handler=zipkin, encoding=Encoding.V2_JSON
        ):
            return JSONResponse({})

    address = serve(Starlette(routes=[Route("/view", view)]))
    httpx.get(f"{address}/view")
    until(lambda: len(made.spans) == 3)
    assert made.span("view").kind is SpanKind.INTERNAL
    assert made.span("view").call == "GET /view"
    assert made.span("view").parent_id == made.span("GET /view").span_id
    assert int(zipkin.span("view")["traceId"], 16) == made.span("view").trace_id


def test_what_is_said_on_a_span_and_what_ends_it_is_seen(service, zipkin):
    made = service()

    def buy():
        with root(zipkin, sample_rate=100.0) as outer:
            outer.update_binary_annotations({"shop.page": "3"})
            with zipkin_span("shop", "inner", binary_annotations={"shop.item": "cat"}) as inner:
                inner.override_span_name("named later")
                raise ValueError("no stock")

    with pytest.raises(ValueError, match="no stock"):
        buy()
    for name, tag, value in (("root", "shop.page", "3"), ("named later", "shop.item", "cat")):
        assert made.span(name).attributes[tag] == value
        assert made.span(name).status_code is StatusCode.ERROR


def test_decorated_functions_and_threads(service, zipkin):
    made = service()

    @zipkin_span("shop", "decorated")
    def decorated():
        return getattr(get_current_span(), "name", None)

    with root(zipkin, sample_rate=100.0):
        assert decorated() == "decorated"
        assert decorated() == "decorated"
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(decorated).result() == "decorated"  # the request was handed on
    assert len([span for span in made.spans if span.name == "decorated"]) == 3
    assert len([span for span in zipkin.spans if span["name"] == "decorated"]) == 2


def test_a_span_that_is_stopped_elsewhere_than_it_was_started_ends(service, zipkin, caplog):
    made = service()

    async def main():
        span = root(zipkin, sample_rate=100.0)
        await asyncio.to_thread(span.start)
        await asyncio.to_thread(span.stop)

    asyncio.run(main())
    assert made.span("root").end_time
    assert "detach" not in caplog.text


def test_taken_out_it_leaves_the_library_as_it_was(service, zipkin):
    made = service()
    made.runtime.integrations.remove_all()
    with get_tracer("t").start_as_current_span("around") as around:
        assert get_default_tracer().get_zipkin_attrs() is None
        with root(zipkin, sample_rate=100.0):
            pass
    assert int(zipkin.span("root")["traceId"], 16) != around.trace_id
    assert [span.name for span in made.spans] == ["around"]
