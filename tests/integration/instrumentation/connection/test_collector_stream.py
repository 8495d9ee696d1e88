"""The stream of breaker events, against real sockets that trickle, break off and fall silent."""

import threading
import time

import pytest
from collector_sockets import STREAM, TIMEOUT_S, answering, chunk, received, soon, trickling

from heatshield.breakers.event_stream import EventStream
from heatshield.clock import ManualClock
from heatshield.contract import SILENCE_S, ContractError
from heatshield.export.answer import Unreachable


@pytest.mark.parametrize("secure", [False, True])
def test_a_streams_bytes_come_as_they_arrive(serve, listen, wake, tls, secure):
    sent = [b"first", b"second" * 20_000, b"third"]

    def script(server, peer):
        server.read(peer)
        peer.sendall(STREAM + chunk(sent[0]))
        for part in sent[1:]:
            time.sleep(0.05)
            peer.sendall(chunk(part))
        server.ended.wait(30)

    stream = listen(serve(script, tls=tls("localhost") if secure else None))
    whole = b"".join(sent)
    assert received(stream, wake, len(whole)) == whole
    assert stream.wait(0.0, wake[1]) == b""


def test_a_stream_that_trickles_is_read_a_byte_at_a_time(serve, listen, wake):
    stream = listen(serve(trickling(chunk(b"hello"), every_s=0.01, head=STREAM)))
    assert received(stream, wake, 5) == b"hello"


def test_a_stream_without_chunks_is_read_as_it_is(serve, listen, wake):
    stream = listen(serve(answering(b"HTTP/1.1 200 OK\r\n\r\nplain")))
    assert received(stream, wake, 5) == b"plain"


def test_a_wakeup_ends_the_wait_for_a_stream(serve, listen, wake):
    stream = listen(serve(answering(STREAM)))
    wake[0].send(b"!")
    with soon():
        assert stream.wait(30.0, wake[1]) == b""


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n"])
def test_a_stream_that_ends_is_unreachable(serve, listen, wake, end):
    stream = listen(serve(answering(STREAM + chunk(b"last") + end, then_close=True)))
    assert received(stream, wake, 4) == b"last"
    with pytest.raises(Unreachable, match="ended"):
        stream.wait(5.0, wake[1])


def test_a_stream_that_breaks_the_rules_of_chunks_is_a_contract_error(serve, listen, wake):
    with pytest.raises(ContractError):
        received(listen(serve(answering(STREAM + b"xyz\r\n"))), wake, 1)


@pytest.mark.parametrize("status", [204, 302, 404, 503])
def test_a_stream_that_is_refused_is_unreachable(serve, listen, status):
    refusal = b"HTTP/1.1 %d x\r\ncontent-length: 0\r\nlocation: /\r\n\r\n" % status
    server = serve(answering(refusal))
    with pytest.raises(Unreachable, match=str(status)):
        listen(server)
    assert len(server.requests) == 1


def test_the_head_of_a_stream_has_one_deadline(serve, listen):
    with soon(), pytest.raises(Unreachable, match="too long"):
        listen(serve(trickling(STREAM)), TIMEOUT_S)


def test_a_stream_that_says_nothing_is_over_after_a_silence(serve, connect, wake):
    """Bytes that make no event, like an endless comment, are a silence, too."""
    clock = ManualClock()
    server = serve(trickling(b"1\r\n:\r\n" * 1_000, every_s=0.01, head=STREAM))
    stream = EventStream(connect(server.endpoint, 1e6, clock), {"service": "s"}, None, clock)
    try:
        clock.advance(SILENCE_S - 1)
        assert stream.wait(0.0, wake[1]) == []
        clock.advance(1)
        with pytest.raises(Unreachable, match="silent"):
            stream.wait(60.0, wake[1])
    finally:
        stream.close()


def test_an_event_ends_a_silence(serve, connect, wake):
    clock, more = ManualClock(), threading.Event()

    def script(server, peer):
        server.read(peer)
        peer.sendall(STREAM)
        more.wait(30)
        peer.sendall(chunk(b"event: heartbeat\ndata: {}\n\n"))
        server.ended.wait(30)

    server = serve(script)
    stream = EventStream(connect(server.endpoint, 1e6, clock), {"service": "s"}, None, clock)
    try:
        clock.advance(SILENCE_S - 1)
        more.set()
        assert [event.name for event in stream.wait(60.0, wake[1])] == ["heartbeat"]
        clock.advance(SILENCE_S - 1)
        assert stream.wait(0.0, wake[1]) == []
    finally:
        stream.close()
