"""HTTP to the collector over TLS: verified, and with the same deadlines."""

import contextlib
import time

import pytest
from collector_sockets import OK, answering, soon, trickling

from heatshield.export.answer import Unreachable


def test_a_collector_behind_tls_is_reached_and_kept_alive(serve, connect, tls):
    server = serve(answering(OK, OK), tls=tls("localhost"))
    connection = connect(server.endpoint, 5.0)
    body = b"x" * 3_000_000
    for _ in range(2):
        assert connection.request("POST", "/", body=body).body == b"ok"
    assert server.connections == 1
    assert server.requests[1].endswith(body)


@pytest.mark.parametrize("clean", [True, False])
def test_what_a_closed_connection_never_answered_is_sent_once_more(serve, connect, tls, clean):
    """TLS may say that it ends, or the connection may just be gone."""

    def script(server, peer):
        server.read(peer)
        peer.sendall(OK)
        if clean:
            with contextlib.suppress(OSError):
                peer.unwrap()

    connection = connect(serve(script, answering(OK), tls=tls("localhost")).endpoint, 5.0)
    assert connection.request("POST", "/", body=b"1").ok
    time.sleep(0.1)
    assert connection.request("POST", "/", body=b"2").ok


def test_a_certificate_of_another_host_is_not_trusted(serve, connect, tls):
    server = serve(answering(OK), tls=tls("elsewhere"))
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        connect(server.endpoint, 5.0).request("GET", "/")
    assert not server.requests


def test_an_unknown_authority_is_not_trusted(serve, connect, tls, monkeypatch):
    server = serve(answering(OK), tls=tls("localhost"))
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        connect(server.endpoint, 5.0).request("GET", "/")
    assert not server.requests


def test_a_handshake_of_tls_has_the_same_deadline(serve, connect):
    """A peer that speaks no TLS trickles what could be the head of a long record."""

    def script(server, peer):
        peer.sendall(b"\x16\x03\x03\x40\x00")
        while not server.ended.wait(0.05):
            peer.sendall(b"\x00")

    endpoint = serve(script).endpoint.replace("http:", "https:")
    with soon(), pytest.raises(Unreachable, match="too long"):
        connect(endpoint).request("GET", "/")


def test_an_answer_over_tls_has_the_same_deadline(serve, connect, tls):
    server = serve(trickling(OK), tls=tls("localhost"))
    with soon(), pytest.raises(Unreachable, match="too long"):
        connect(server.endpoint).request("GET", "/")
