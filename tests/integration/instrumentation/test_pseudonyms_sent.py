"""With a key, no byte that a real service sends holds a raw user id, in whatever form.

A FastAPI service under uvicorn does with the id what services do: it stands in addresses, headers,
cookies, logs, spans, events, exceptions, keys, metrics and baggage. Every byte to the collector
goes through a tap, and the next service keeps the headers that it is sent.
"""

import base64
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, quote_plus

import pytest

from heatshield.identity.pseudonym import pseudonym
from heatshield_stickershop.redis_server import redis_server_path

KEY = "0123456789abcdef0123456789abcdef"

SERVICE = """
import asyncio, base64, json, logging, os, sqlite3, sys, threading
import heatshield

heatshield.instrument(service="shop")

import httpx
import redis.asyncio as redis
import uvicorn
from fastapi import FastAPI, Request
from opentelemetry import baggage, context, trace
from prometheus_client import Counter
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from urllib.parse import quote

NEXT = os.environ["NEXT"]
BOUGHT = Counter("stickers_bought", "by user", ["user"])
log = logging.getLogger("shop")
tracer = trace.get_tracer("shop")
store = redis.Redis(port=int(os.environ["REDIS_PORT"]))
database = sqlite3.connect(":memory:")
app = FastAPI()


class Backend(AuthenticationBackend):
    async def authenticate(self, connection):
        user = connection.headers.get("x-session")
        return (AuthCredentials(), SimpleUser(json.loads(user))) if user else None


app.add_middleware(AuthenticationMiddleware, backend=Backend())


@app.middleware("http")
async def around(request: Request, call_next):
    log.warning("asked for %s", request.url)  # nobody may be named yet
    answer = await call_next(request)
    log.warning("answered %s", request.url.path)
    return answer


@app.get("/users/{user}/stickers")
async def stickers(user: str, request: Request, fail: bool = False):
    if "x-code" in request.headers:
        heatshield.user(user)
    data = user.encode()
    encoded = base64.b64encode(json.dumps({"at": 1, "user": user}).encode()).decode()
    log.warning(
        "%s buys", user,
        extra={"owner": user, "user_id": int(user) if user.isdigit() else user, "raw": data,
               "by": {user: [user]}, "loud": user.upper(), "hex": data.hex(), "cursor": encoded},
    )
    log.warning("more %s", {"user": user, "data": data, "js": json.dumps(user), "at": quote(user)})
    span = trace.get_current_span()
    span.set_attribute("shop.owner", user)
    span.set_attribute("shop.owners", [user, "else"])
    span.add_event(f"sold to {user}", {"to": user})
    BOUGHT.labels(user).inc()
    with tracer.start_as_current_span(f"sell to {user}") as inner:
        address = f"https://shop.example/u/{quote(user, safe='')}?c={encoded}"
        inner.set_attribute("shop.address", address)
        inner.set_status(trace.StatusCode.ERROR, f"{user} has too many")
    await store.sadd(f"user:{user}:stickers", "cat")
    await store.get(user)
    database.execute(f"SELECT '{user.replace(chr(39), chr(39) * 2)}' AS owner").fetchall()
    token = context.attach(baggage.set_baggage("shop.owner", user))
    async with httpx.AsyncClient() as client:
        await client.get(f"{NEXT}/owns/{quote(user, safe='')}", params={"who": user})
    context.detach(token)
    with heatshield.guard("ownership.refresh"):
        await asyncio.to_thread(log.warning, "in a thread for %s", user)
    if "x-later" in request.headers:
        thread = threading.Thread(target=log.warning, args=(f"later, of {user}",))
        await asyncio.to_thread(lambda: (thread.start(), thread.join()))
    if fail:
        raise ValueError(f"too many for {user}")
    return {"user": user}


@app.get("/end")
async def end():
    await asyncio.to_thread(heatshield.flush)
    server.should_exit = True


server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="info"))


async def serve():
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await task


asyncio.run(serve())
"""

SETTINGS = {
    "HEATSHIELD_USER_HEADER": "X-User",
    "HEATSHIELD_USER_QUERY": "u",
    "HEATSHIELD_USER_COOKIE": "user",
    "HEATSHIELD_USER_JWT_CLAIM": "sub",
    "HEATSHIELD_USER_SCOPE": "true",
}
BY_PATH = {"HEATSHIELD_USER_PATH_PARAMETER": "user"}
USERS = {
    "header": "zoe-8841@example.com",
    "query": "4711",
    "cookie": "Zoë Müller",
    "jwt-unverified": "550e8400-e29b-41d4-a716-446655440000",
    "auth": "ann",
    "baggage": "bob.lee@example.org",
    "code": "user_77231",
}
USERS_BY_PATH = {"path": "mia", "": "902107"}
WORDS = {"4711", "ann", "mia", "Zoë Müller"}
"""Ids that could be anything: looked for as whole words, and not in lines of no request."""


class Tap:
    """Hands every byte on to the collector, and keeps it."""

    def __init__(self, endpoint):
        self.sent = bytearray()
        host, port = endpoint.removeprefix("http://").split(":")
        self._to = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                collector = socket.create_connection(self._to)
                for source, target, kept in (
                    (client, collector, self.sent), (collector, client, bytearray()),
                ):  # fmt: skip
                    arguments = (source, target, kept)
                    threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    @staticmethod
    def _pump(source, target, kept):
        with suppress(OSError):
            while data := source.recv(65_536):
                kept += data
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.close()


@pytest.fixture
def tap(collector):
    made = Tap(collector.endpoint)
    yield made
    made.close()


@pytest.fixture
def next_service():
    """The service that is called: keeps the headers it is sent, apart from their addresses."""
    kept = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            kept.append(dict(self.headers))
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


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    server = subprocess.Popen(
        [redis_server_path(), "--port", str(free), "--save", "", "--bind", "127.0.0.1"],
        cwd=tmp_path_factory.mktemp("redis"),
        stdout=subprocess.DEVNULL,
    )
    yield free
    server.terminate()
    server.wait()


@pytest.fixture
def run_shop(tap, next_service, redis_port, tmp_path):
    """Run the service, ask it for users' stickers, end it; returns all that it sent."""

    def run(users, **environ):
        program = tmp_path / "shop.py"
        program.write_text(SERVICE)
        environ |= {"REDIS_PORT": str(redis_port), "NEXT": next_service[0]}
        shop = subprocess.Popen(
            [sys.executable, str(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
            env={**os.environ, "HEATSHIELD_ENDPOINT": tap.endpoint, **environ},
        )
        try:
            port = int(shop.stdout.readline())
            for source, user in users.items():
                path = f"/users/{quote(user, safe='')}/stickers?n=1"
                more = f"&u={quote_plus(user)}" if source == "query" else ""
                headers = headers_for(source, user)
                assert ask(port, path + more, headers) == 200
                assert ask(port, f"{path}&fail=true{more}", headers) == 500
            ask(port, "/end", {})
            shop.wait(20)
        finally:
            shop.kill()
            shop.wait()
        return bytes(tap.sent), next_service[1]

    return run


def headers_for(source, user):
    claims = base64.urlsafe_b64encode(json.dumps({"x": 1, "sub": user}).encode()).decode()
    named = {
        "header": {"x-user": user},
        "cookie": {"cookie": f"a=b; user={quote(user)}"},
        "jwt-unverified": {"authorization": f"Bearer e30.{claims.rstrip('=')}.c2ln"},
        "auth": {"x-session": json.dumps(user)},
        "baggage": {"baggage": f"enduser.id={pseudonym(KEY.encode(), user)}"},
        "code": {"x-code": "1"},
    }
    return {**named.get(source, {}), **({} if user in WORDS else {"x-later": "1"})}


def ask(port, path, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def forms(user):
    """All that the id can look like."""
    data = user.encode()
    yield from (
        user,
        user.upper(),
        user.lower(),
        quote(user, safe=""),
        quote(user),
        quote_plus(user),
    )
    yield from (quote(quote(user, safe=""), safe=""), json.dumps(user)[1:-1], repr(data)[2:-1])
    yield from (data.hex(), data.hex().upper())
    for offset in range(3):
        core = base64.b64encode(b"\0" * offset + data)
        yield core[-(-8 * offset // 6) : 8 * (offset + len(data)) // 6].decode()


def found_in(sent, user):
    found = []
    for form in set(forms(user)):
        pattern = re.escape(form.encode())
        if user in WORDS:
            pattern = rb"(?<![0-9A-Za-z])" + pattern + rb"(?![0-9A-Za-z])"
        found += [sent[max(0, m.start() - 60) : m.end() + 20] for m in re.finditer(pattern, sent)]
    return found


def text_of(headers):
    return "\n".join(f"{k}: {v}" for sent in headers for k, v in sent.items()).encode()


def assert_only_pseudonyms(sent, headers, collector, plain, users):
    spans = iter(
        plain(span.attributes)
        for _, span in collector.spans
        if span.name == "GET /users/{user}/stickers"
    )
    said = [record.body.string_value for record in collector.logs]
    called = iter(headers)
    for source, user in users.items():
        assert found_in(sent, user) == []
        assert found_in(text_of(headers), user) == []
        known_as = pseudonym(KEY.encode(), user)
        for _ in range(2):
            span, baggage = next(spans), next(called)["baggage"]
            assert span["enduser.id"] == known_as
            assert span["heatshield.user.source"] == source or not source
            assert span["url.path"] == f"/users/{known_as}/stickers"
            assert {f"enduser.id={known_as}", f"shop.owner={known_as}"} <= set(baggage.split(","))
        assert f"{known_as} buys" in said
        assert any(text.startswith("asked for") and known_as in text for text in said)
        assert any("GET /users/" in text and known_as in text for text in said)  # uvicorn's own


def test_no_byte_that_is_sent_holds_an_id(run_shop, collector, plain):
    sent, headers = run_shop(USERS, HEATSHIELD_USER_KEY=KEY, **SETTINGS)
    assert_only_pseudonyms(sent, headers, collector, plain, USERS)


def test_nor_one_that_is_known_by_its_path_alone(run_shop, collector, plain):
    sent, headers = run_shop(USERS_BY_PATH, HEATSHIELD_USER_KEY=KEY, **BY_PATH)
    assert_only_pseudonyms(sent, headers, collector, plain, USERS_BY_PATH)


def test_without_a_key_the_id_is_in_all_these_places(run_shop):
    """Else the tests above would prove nothing."""
    sent, headers = run_shop({"code": USERS["header"]})
    around = b"\n".join(found_in(sent, USERS["header"]))
    for place in (
        b"url.path", b"shop.owner", b"sold to", b"sell to", b"has too many", b"too many for",
        b"buys", b"asked for", b"answered", b"in a thread", b"GET /users/", b"enduser.id",
        b"cursor", b"later, of", b"shop.address", b"user_id", b"loud", b"hex",
    ):  # fmt: skip
        assert place in around, place
    assert found_in(text_of(headers), USERS["header"])
