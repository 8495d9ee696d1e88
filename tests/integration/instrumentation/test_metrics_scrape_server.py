"""The server of ``/metrics`` in a process of greenlets; here in one of threads."""

import errno
import os
import socket

import httpx
import pytest

from heatshield.metrics import scrape_server
from heatshield.metrics.scrape_server import ScrapeServer


def answer(scope):
    (accept,) = [value for name, value in scope["headers"] if name == b"accept"]
    if accept == b"busy":
        raise TimeoutError
    if accept == b"broken":
        raise ValueError(accept)
    return [(b"content-type", accept)], scope["query_string"]


@pytest.fixture
def server():
    made = ScrapeServer("127.0.0.1", 0, answer)
    yield made
    made.shutdown()


@pytest.fixture
def ask(server):
    host, port = server.socket.getsockname()

    def ask(method="GET", accept="text/plain"):
        address = f"http://{host}:{port}/metrics?name[]=a"
        return httpx.request(method, address, headers={"accept": accept}, timeout=10)

    return ask


def test_a_scrape_is_answered_and_so_is_the_next(ask):
    for _ in range(2):
        told = ask()
        assert (told.status_code, told.text) == (200, "name[]=a")
        assert told.headers["content-type"] == "text/plain"


def test_only_reading_is_allowed(ask):
    told = ask("HEAD")
    assert (told.status_code, told.headers["content-length"], told.text) == (200, "8", "")
    told = ask("POST")
    assert (told.status_code, told.headers["allow"]) == (405, "GET, HEAD")


def test_a_service_that_does_not_come_round_to_it_is_busy(ask):
    assert ask(accept="busy").status_code == 503
    assert ask().status_code == 200


def test_an_answer_that_fails_ends_one_connection_alone(ask):
    with pytest.raises(httpx.RemoteProtocolError):
        ask(accept="broken")
    assert ask().status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"x" * 70_000])
def test_a_peer_that_asks_nothing_keeps_the_others_waiting_for_a_while_only(
    server, ask, sent, monkeypatch
):
    monkeypatch.setattr(scrape_server, "REQUEST_S", 0.2)
    with socket.create_connection(server.socket.getsockname()) as silent:
        silent.sendall(sent)
        assert ask().status_code == 200


def test_an_address_that_is_taken_is_an_error(server):
    with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
        ScrapeServer(*server.socket.getsockname(), answer)
