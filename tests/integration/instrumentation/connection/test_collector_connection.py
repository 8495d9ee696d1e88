"""HTTP to the collector, against real sockets that trickle, close and lie."""

import errno
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from collector_sockets import OK, STREAM, answering, silent, soon, trickling

from heatshield.clock import ManualClock
from heatshield.export import connection as connection_module
from heatshield.export import deadline_socket
from heatshield.export.answer import Unreachable


def test_requests_share_a_connection_that_is_kept_alive(serve, connect):
    server = serve(answering(OK, OK, OK))
    connection = connect(f"{server.endpoint}/below/")
    for _ in range(3):
        answer = connection.request("POST", "/v1/traces", body=b"spans", headers={"x-a": "1"})
        assert (answer.status, answer.body, answer.ok) == (200, b"ok", True)
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /below/v1/traces HTTP/1.1\r\n")
    assert b"\r\nx-a: 1\r\n" in server.requests[0]
    assert server.requests[0].endswith(b"\r\n\r\nspans")


def test_what_a_closed_connection_never_answered_is_sent_once_more(serve, connect):
    server = serve(answering(OK, then_close=True), answering(OK))
    connection = connect(server.endpoint, 5.0)
    assert connection.request("POST", "/", body=b"1").ok
    time.sleep(0.1)
    assert connection.request("POST", "/", body=b"2").ok
    assert server.connections == 2


def test_what_was_half_answered_is_not_sent_again(serve, connect):
    half = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"
    server = serve(answering(OK, half, then_close=True), answering(OK))
    connection = connect(server.endpoint, 5.0)
    assert connection.request("POST", "/", body=b"1").ok
    with pytest.raises(Unreachable):
        connection.request("POST", "/", body=b"2")
    assert server.connections == 1
    assert connection.request("POST", "/", body=b"3").ok


def test_an_answer_that_closes_the_connection_is_read_to_its_end(serve, connect):
    def script(server, peer):
        server.read(peer)
        peer.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        time.sleep(0.1)
        peer.sendall(b"x" * 100_000)

    server = serve(script)
    connection = connect(server.endpoint, 5.0)
    for connections in (1, 2):
        assert len(connection.request("GET", "/").body) == 100_000
        assert server.connections == connections


@pytest.mark.parametrize("rest", [b"", b"content-len", b"content-length: 20\r\n\r\n{}"])
def test_an_answer_without_its_end_is_none(serve, connect, rest):
    short = b"HTTP/1.1 200 OK\r\n" + rest
    with pytest.raises(Unreachable, match="IncompleteRead"):
        connect(serve(answering(short, then_close=True)).endpoint).request("GET", "/")


@pytest.mark.parametrize(
    "script",
    [
        silent,
        trickling(OK),
        trickling(b"x" * 1_000, head=b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
        trickling(b"1\r\nx\r\n" * 200, head=STREAM),
        trickling(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, every_s=0.01),
    ],
    ids=["silent", "head", "body", "chunks", "continue"],
)
def test_one_deadline_holds_however_slowly_a_peer_trickles(serve, connect, script):
    connection = connect(serve(script).endpoint)
    with soon(), pytest.raises(Unreachable, match="too long"):
        connection.request("GET", "/")


def test_a_peer_that_reads_nothing_is_not_sent_to_for_ever(serve, connect):
    connection = connect(serve(silent).endpoint)
    with soon(), pytest.raises(Unreachable, match="too long"):
        connection.request("POST", "/", body=b"x" * 50_000_000)


def test_a_request_may_be_given_less_time_than_usual(serve, connect):
    connection = connect(serve(silent).endpoint, 60.0)
    with soon(), pytest.raises(Unreachable, match="too long"):
        connection.request("GET", "/", timeout_s=0.1)


def test_other_work_is_done_while_an_answer_is_waited_for(serve, connect):
    worked = []
    connection = connect(serve(silent).endpoint, 0.9)
    with pytest.raises(Unreachable):
        connection.request("GET", "/", meanwhile=lambda: worked.append(1))
    assert 3 <= len(worked) <= 5


def test_a_wait_ends_with_the_time_of_the_clock(serve, connect):
    clock = ManualClock()
    connection = connect(serve(silent).endpoint, 3_600.0, clock)
    failures = []

    def ask():
        try:
            connection.request("GET", "/")
        except Unreachable as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        clock.advance(600.0)
        thread.join(0.05)
    assert "too long" in str(failures[0])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(serve, connect, status):
    elsewhere = serve(answering(OK))
    moved = f"HTTP/1.1 {status} x\r\nlocation: {elsewhere.endpoint}/\r\ncontent-length: 0\r\n\r\n"
    answer = connect(serve(answering(moved.encode())).endpoint).request("POST", "/", body=b"x")
    assert (answer.status, answer.ok) == (status, False)
    assert elsewhere.connections == 0


def test_an_answer_is_read_up_to_a_bound(serve, connect, monkeypatch):
    monkeypatch.setattr(connection_module, "MAX_BODY_BYTES", 1_000)
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000
    server = serve(answering(endless))
    connection = connect(server.endpoint)
    for connections in (1, 2):
        assert len(connection.request("GET", "/").body) == 1_000
        assert server.connections == connections


@pytest.mark.parametrize(
    "endpoint", ["localhost:4318", "ftp://localhost", "http://", "http://h:port", "http://h:99999"]
)
def test_what_is_no_address_is_unreachable(connect, endpoint):
    with pytest.raises(Unreachable, match=r"http://host:port|[Pp]ort"):
        connect(endpoint).request("GET", "/")


@pytest.mark.parametrize("fails", ["socket", "connect"])
def test_the_next_address_of_a_host_is_tried(serve, connect, monkeypatch, fails):
    """A host has an address of IPv6 first, which this machine can't make sockets for or reach."""
    server = serve(answering(OK))
    first = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", server.port, 0, 0))
    last = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))
    monkeypatch.setattr(deadline_socket, "getaddrinfo", lambda *_, **__: [first, last])
    real = socket.socket

    class Crippled(real):
        def __init__(self, family=-1, *more, **named):
            if fails == "socket" and family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "no IPv6")
            super().__init__(
                socket.AF_INET if family == socket.AF_INET6 else family, *more, **named
            )

        def connect_ex(self, address):
            return errno.ENETUNREACH if len(address) > 2 else super().connect_ex(address)

    monkeypatch.setattr(deadline_socket, "_socket", SimpleNamespace(socket=Crippled))
    assert connect(server.endpoint).request("GET", "/").ok


@pytest.mark.parametrize("first", ["255.255.255.255", "127.0.0.2"])
def test_an_address_without_a_way_or_a_listener_gives_way_to_the_next(
    serve, connect, monkeypatch, first
):
    """The kernel says ENETUNREACH at once to the one, and refuses the other."""
    server = serve(answering(OK))
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, server.port))
        for host in (first, "127.0.0.1")
    ]
    monkeypatch.setattr(deadline_socket, "getaddrinfo", lambda *_, **__: found)
    assert connect(server.endpoint).request("GET", "/").ok


def test_the_reason_of_the_last_address_is_told(connect, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("255.255.255.255", 9))]
    monkeypatch.setattr(deadline_socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(Unreachable, match="Network is unreachable"):
        connect("http://localhost:9").request("GET", "/")
