"""Input that can't be parsed passes no breaker, and leaves no span open."""

import asyncio
import socket
from urllib.parse import urlsplit

import celery
import flask
import pytest
from celery.app import trace
from fastapi import FastAPI

from heatshield.counters import COUNTERS
from heatshield.names import REJECTED

LENGTHS = ["²", "9" * 4_301, "-1", "+1", "1_0", "1e3", " 1", "٣", "0x10", ""]


def ask(url, *lines):
    """One request of raw header lines; the answer's head in lower case."""
    parts = urlsplit(url)
    head = "\r\n".join((f"GET {parts.path} HTTP/1.1", "Host: shop", "Connection: close", *lines))
    with socket.create_connection((parts.hostname, parts.port), 10) as connection:
        text = "latin-1" if all(ord(char) < 256 for char in head) else "utf-8"
        connection.sendall(head.encode(text) + b"\r\n\r\n")
        answer = b""
        while more := connection.recv(65_536):
            answer += more
    return answer.partition(b"\r\n\r\n")[0].decode("latin-1").lower()


@pytest.fixture
def no_errors():
    before = COUNTERS.errors
    yield
    assert COUNTERS.errors == before


@pytest.mark.usefixtures("no_errors")
@pytest.mark.parametrize("length", LENGTHS)
def test_a_length_that_is_none_passes_no_breaker_over_wsgi(service, serve_wsgi, until, length):
    made = service(user_header="x-user")
    entry_id = made.trip("u-1", "GET /buy")
    app = flask.Flask("shop")
    app.add_url_rule("/buy", "buy", lambda: "bought")
    url = serve_wsgi(app) + "/buy"
    answer = ask(url, "X-User: u-1", f"Content-Length: {length}")
    assert f"heatshield-breaker: {entry_id}" in answer
    assert " 200 " in ask(url, "X-User: u-2", f"Content-Length: {length}").splitlines()[0]
    until(lambda: len(made.spans) == 2)
    refused, bought = made.spans
    assert refused.attributes[REJECTED] == entry_id
    assert (bought.name, bought.user) == ("GET /buy", "u-2")


@pytest.mark.usefixtures("no_errors")
@pytest.mark.parametrize("length", LENGTHS)
def test_a_length_that_is_none_passes_no_breaker_over_asgi(service, length):
    made = service(user_header="x-user")
    entry_id = made.trip("u-1", "GET /buy")
    app = FastAPI()
    app.get("/buy")(lambda: "bought")
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    headers = [(b"x-user", b"u-1"), (b"content-length", length.encode())]
    scope = {
        "type": "http", "method": "GET", "path": "/buy", "query_string": b"", "headers": headers,
        "scheme": "http", "http_version": "1.1", "raw_path": b"/buy", "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 503
    (span,) = made.spans
    assert span.attributes[REJECTED] == entry_id


@pytest.mark.usefixtures("no_errors")
@pytest.mark.parametrize(
    "more",
    [
        {"retries": "²"},
        {"retries": "9" * 4_301},
        {"retries": [1]},
        {"delivery_info": {"routing_key": ["celery"]}},
        {1: "one", None: None, b"x": b"y"},
        {"traceparent": 7, "baggage": ["enduser.id=u-2"]},
    ],
)
def test_a_message_that_makes_no_sense_passes_no_breaker_in_celery(service, more):
    made = service(user_header="x-user")
    app = celery.Celery("shop", set_as_current=False, broker="memory://", backend="cache+memory://")
    bought = []

    def buy(ids):
        bought.append(ids)

    app.task(buy, name="buy", shared=False)
    app.finalize(auto=True)
    entry_id = made.trip("u-1", "celery buy")
    tracer = trace.build_tracer("buy", app.tasks["buy"], app=app)
    for user in ("u-1", "u-2"):
        message = {"id": user, "task": "buy", "x-user": user, "hostname": "h", **more}
        asked = {name: value for name, value in message.items() if name != "retries"}
        tracer(user, ([1, 2],), {}, asked | {"retries": more.get("retries", 0)})
    assert bought == [[1, 2]]
    refused, run = made.spans
    assert (refused.attributes[REJECTED], refused.user) == (entry_id, "u-1")
    assert (run.name, run.user) == ("celery buy", "u-2")
