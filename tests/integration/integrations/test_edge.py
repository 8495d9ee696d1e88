"""An edge: a real gateway that strangers call, and what it hands on to the service behind it."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from heatshield.names import ENDUSER_ID, USER_SOURCE

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
STRANGE = {
    "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    "tracestate": "theirs=1",
    "baggage": "enduser.id=victim,theirs=1",
    "x-b3-traceid": TRACE,
    "x-b3-spanid": "00f067aa0ba902b7",
    "x-user": "u-1",
}


@pytest.fixture
def behind():
    """The service behind the gateway; keeps the headers it is sent."""
    kept = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            kept.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", kept
    server.shutdown()
    server.server_close()


@pytest.fixture
def gateway(behind):
    """Serves on an ephemeral port; ``GET /`` calls what is behind."""
    app = FastAPI()

    @app.get("/")
    async def root():
        async with httpx.AsyncClient() as client:
            await client.get(behind[0])

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


def entry(made, until):
    return until(lambda: next((span for span in made.spans if span.name == "GET /"), None))


def test_an_edge_hands_nothing_of_a_strangers_on(service, gateway, behind, ask, until):
    made = service(edge=True, user_header="x-user")
    assert ask(gateway, headers=STRANGE).status == 200
    span = entry(made, until)
    assert f"{span.trace_id:032x}" != TRACE
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE]
    assert (span.attributes[ENDUSER_ID], span.attributes[USER_SOURCE]) == ("u-1", "header")
    (sent,) = behind[1]
    assert sent["traceparent"].split("-")[1] == f"{span.trace_id:032x}" == sent["x-b3-traceid"]
    assert sent["baggage"] == "enduser.id=u-1"
    assert "tracestate" not in sent


def test_a_service_within_goes_on_with_the_trace_and_the_baggage(
    service, gateway, behind, ask, until
):
    made = service()
    ask(gateway, headers=STRANGE)
    span = entry(made, until)
    assert f"{span.trace_id:032x}" == TRACE
    assert span.links == ()
    assert (span.attributes[ENDUSER_ID], span.attributes[USER_SOURCE]) == ("victim", "baggage")
    (sent,) = behind[1]
    assert sorted(sent["baggage"].split(",")) == ["enduser.id=victim", "theirs=1"]


def test_baggage_alone_can_be_disbelieved(service, gateway, ask, until):
    made = service(user_baggage=False)
    ask(gateway, headers=STRANGE)
    span = entry(made, until)
    assert f"{span.trace_id:032x}" == TRACE
    assert ENDUSER_ID not in span.attributes


@pytest.mark.parametrize(("to", "told"), [("127.0.0.1", True), ("shop,*.internal", False)])
def test_only_those_are_told_whom_the_settings_name(service, gateway, behind, ask, to, told):
    service(user_header="x-user", propagate_to=tuple(to.split(",")))
    ask(gateway, headers=STRANGE)
    (sent,) = behind[1]
    for name in ("traceparent", "baggage", "x-b3-traceid"):
        assert (name in sent) is told
