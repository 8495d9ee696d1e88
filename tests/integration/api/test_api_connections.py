"""What a connection may cost before and beside its requests: bytes, time, and a place."""

import asyncio
import contextlib
import resource
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from heatshield_collector import http_protocol, server

WAIT_S = 10
LARGE = 2_000_000
GET = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:1\r\n"


@pytest.fixture
def address(live):
    url, _ = live
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def connect(address):
    connection = socket.create_connection(address, WAIT_S)
    connection.settimeout(WAIT_S)
    return connection


def exchange(address, *pieces: bytes, between_s: float = 0.0) -> bytes:
    """Send pieces and read until the server closes."""
    with connect(address) as connection:
        for piece in pieces:
            with contextlib.suppress(ConnectionError):
                connection.sendall(piece)
            time.sleep(between_s)
        return read_all(connection)


def read_all(connection) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while some := connection.recv(65_536):
            found += some
    return found


CLOSE = b"connection: close\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (GET + CLOSE,),
        (GET + b"x: " + b"y" * 60_000 + b"\r\n" + CLOSE,),
        tuple(bytes([octet]) for octet in GET + CLOSE),
        (GET + b"\r\n" + GET + b"\r\n" + GET + CLOSE,),
        (
            b"POST /v1/breakers/report HTTP/1.1\r\nhost: 127.0.0.1:1\r\ncontent-length: 200000\r\n",
            CLOSE,
            b"{" * 200_000,
        ),
    ],
    ids=["as usual", "large", "byte by byte", "pipelined", "a large body"],
)
def test_what_is_within_bounds_is_answered(address, pieces) -> None:
    said = exchange(address, *pieces)
    assert said.startswith((b"HTTP/1.1 200", b"HTTP/1.1 422")), said
    assert b" 431 " not in said


@pytest.mark.parametrize(
    "head",
    [
        GET + b"x: " + b"y" * 2_000_000,
        GET + b"x: y\r\n" * 300_000,
        b"GET /" + b"a" * 2_000_000,
        b"\r\n" * 500_000,
        b"GET /healthz HTTP/1.1\r\nx" + b"y" * 2_000_000,
    ],
    ids=["one value", "many headers", "a path", "empty lines", "one name"],
)
def test_a_head_beyond_the_bound_is_refused_while_it_comes(address, head) -> None:
    with connect(address) as connection:
        sent = 0
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(head), 10_000):
                connection.sendall(head[at : at + 10_000])
                sent = at
                time.sleep(0.001)
        said = read_all(connection)
    assert b" 431 " in said or sent < len(head) - 10_000, said[:100]


def test_the_framing_of_a_body_is_bounded_too(address) -> None:
    """Extensions of chunks and trailers are headers by other names."""
    post = b"POST /v1/breakers/report HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    for rest in (b"1;x=" + b"y" * 300_000 + b"\r\na\r\n", b"0\r\n" + b"x: y\r\n" * 100_000):
        began_s = time.monotonic()
        exchange(address, post, rest)
        assert time.monotonic() - began_s < WAIT_S / 2


@pytest.mark.parametrize(
    "pieces",
    [
        (b"",),
        (GET,),
        (GET + b"\r\n", GET),
        tuple(bytes([octet]) for octet in GET + b"x: y\r\n" * 20),
    ],
    ids=["silence", "half a head", "half of the second head", "a head that trickles"],
)
def test_a_head_that_does_not_come_ends_the_connection(monkeypatch, address, pieces) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.3)
    began_s = time.monotonic()
    said = exchange(address, *pieces, between_s=0.005)
    assert time.monotonic() - began_s < WAIT_S / 2
    assert b" 408 " in said


def test_a_body_that_stops_ends_the_connection(monkeypatch, address) -> None:
    monkeypatch.setattr(http_protocol, "SILENCE_S", 0.2)
    post = b"POST /v1/breakers/report HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n"
    began_s = time.monotonic()
    exchange(address, post, b"{")
    assert time.monotonic() - began_s < WAIT_S / 2


def test_a_body_that_comes_slowly_is_waited_for_up_to_a_bound(monkeypatch, address) -> None:
    monkeypatch.setattr(http_protocol, "SILENCE_S", 0.2)
    post = b"POST /v1/breakers/report HTTP/1.1\r\nhost: 127.0.0.1:1\r\ncontent-length: 6\r\n"
    slowly = [bytes([octet]) for octet in b"[1234]"]
    assert b"HTTP/1.1 4" in exchange(address, post + CLOSE, *slowly, between_s=0.1)
    monkeypatch.setattr(http_protocol, "BODY_S", 0.3)
    assert exchange(address, post + CLOSE, *slowly, between_s=0.1) == b""


@pytest.fixture(params=["asyncio", "the collector's own loop"])
def large_answers(request):
    """Where every request is answered with LARGE bytes, through small buffers of the system."""

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * LARGE})

    listener = server.listen("127.0.0.1:0")
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
    running = server.GracefulServer(answer, lambda: None)
    own = running.config.get_loop_factory()
    loops = asyncio.new_event_loop if request.param == "asyncio" else own

    def run():
        with asyncio.Runner(loop_factory=loops) as runner:
            runner.run(running.serve([listener]))

    thread = threading.Thread(target=run)
    thread.start()
    yield listener.getsockname()
    running.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@contextlib.contextmanager
def asked_for_much(address):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        connection.settimeout(WAIT_S)
        connection.connect(address)
        connection.sendall(GET + CLOSE)
        yield connection


def test_an_answer_that_is_read_slowly_is_sent_whole(monkeypatch, large_answers) -> None:
    monkeypatch.setattr(http_protocol, "SILENCE_S", 0.3)
    with asked_for_much(large_answers) as connection:
        read, began_s = 0, time.monotonic()
        while some := connection.recv(32_768):
            read += len(some)
            time.sleep(0.02)
        assert time.monotonic() - began_s > 3 * http_protocol.SILENCE_S
    assert read > LARGE


def test_an_answer_that_is_no_longer_read_ends_the_connection(monkeypatch, large_answers) -> None:
    monkeypatch.setattr(http_protocol, "SILENCE_S", 0.3)
    with asked_for_much(large_answers) as connection:
        assert connection.recv(32_768)
        time.sleep(4 * http_protocol.SILENCE_S)
        assert len(read_all(connection)) < LARGE / 2


def test_one_address_does_not_take_every_place(monkeypatch, live, address) -> None:
    _, running = live
    monkeypatch.setattr(running.server_state, "most_per_peer", 3)
    held = [connect(address) for _ in range(3)]
    try:
        for connection in held:  # each is known once it is answered
            connection.sendall(GET + b"\r\n")
            assert connection.recv(4_096).startswith(b"HTTP/1.1 200")
        assert b" 503 " in exchange(address, b"")
    finally:
        for connection in held:
            connection.close()
    until_s = time.monotonic() + WAIT_S
    while b" 200 " not in exchange(address, GET + CLOSE):
        assert time.monotonic() < until_s
    assert running.server_state.by_peer.total() <= 1


def test_a_stream_is_not_a_silent_connection(monkeypatch, live, admin) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.2)
    monkeypatch.setattr(http_protocol, "SILENCE_S", 0.2)
    url, _ = live
    with httpx.stream("GET", f"{url}/v1/breakers/stream", headers=admin, timeout=WAIT_S) as stream:
        lines = stream.iter_lines()
        next(lines)
        time.sleep(0.8)
        trip = {"user": "u", "service": "s", "call": "c"}
        assert httpx.post(f"{url}/v1/breakers", json=trip, headers=admin).status_code == 201
        assert any(line == "event: delta" for line in lines)


def test_the_limit_of_open_files_is_raised_as_far_as_it_may() -> None:
    script = (
        "import resource; from heatshield_collector import server;"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard));"
        "server.raise_descriptor_limit(); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert int(said.stdout) == min(hard, server.MOST_DESCRIPTORS)
