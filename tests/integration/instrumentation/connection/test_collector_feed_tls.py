"""The whole breaker feed over TLS: records that are slow, tiny, split or many at once."""

import contextlib
import select
import socket
import ssl
import threading
import time

import pytest
from collector_sockets import STREAM, answering, chunk, received, soon

from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.watch import Watch
from heatshield.clock import SystemClock
from heatshield.export.answer import Unreachable


class Secured:
    """A TLS socket that one thread reads from while another writes to it.

    OpenSSL can't have both at once in one connection: the records become damaged.
    """

    def __init__(self, sock):
        sock.setblocking(False)
        self._sock = sock
        self._lock = threading.Lock()

    def recv(self, size):
        while True:
            with self._lock, contextlib.suppress(ssl.SSLWantReadError):
                return self._sock.recv(size)
            select.select([self._sock], [], [], 1.0)

    def sendall(self, data):
        while data:
            with self._lock, contextlib.suppress(ssl.SSLWantWriteError):
                data = data[self._sock.send(data) :]

    def shutdown(self, how):
        self._sock.shutdown(how)

    def close(self):
        self._sock.close()


class Relay:
    """Hands connections on to a port, in pieces of some bytes with some seconds between them.

    With ``tls`` each piece is a record of its own; without, whatever passes is cut, so that one
    record arrives in many segments.
    """

    def __init__(self, port, size, every_s=0.0, tls=None):
        self._to, self._size, self._every_s, self._tls = port, size, every_s, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near):
        with contextlib.suppress(OSError):
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                near = Secured(self._tls.wrap_socket(near, server_side=True))
            far = socket.create_connection(("127.0.0.1", self._to))
            self._open += [near, far]
            back = threading.Thread(target=self._pump, args=(near, far, 65_536, 0.0), daemon=True)
            back.start()
            self._pump(far, near, self._size, self._every_s)

    def _pump(self, source, target, size, every_s):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                for start in range(0, len(data), size):
                    target.sendall(data[start : start + size])
                    if every_s:
                        time.sleep(every_s)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.close()
        for end in self._open:
            end.close()


@pytest.fixture
def relay():
    made = []

    def start(*arguments, **named):
        made.append(Relay(*arguments, **named))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def watching():
    watches = []

    def start(port):
        table = BreakerTable("shop")
        made = Watch(
            f"https://localhost:{port}", table, SystemClock(),
            service="shop", instance=lambda: "i-1", workers=3, chance=lambda: 0.0,
        )  # fmt: skip
        made.table = table
        made.start()
        watches.append(made)
        return made

    yield start
    for each in watches:
        each.stop()


def refuses(watch, user):
    return not watch.table.decide(user, "buy", time.monotonic()).allowed


@pytest.mark.parametrize(
    ("record", "segment"),
    [((65_536, 0.0), None), ((7, 0.002), None), ((1, 0.0), None), ((65_536, 0.0), (3, 0.0005))],
    ids=["whole", "tiny and slow", "one byte a record", "records in pieces"],
)
def test_the_feed_works_over_tls_however_its_records_come(
    collector, relay, tls, watching, until, record, segment
):
    """Stream, renewals and reports: what is granted is held, refused, reported and renewed."""
    front = relay(collector.server.server_address[1], *record, tls=tls("localhost"))
    if segment is not None:
        front = relay(front.port, *segment)
    watch = watching(front.port)
    until(lambda: watch.table.at == (1, 1))
    collector.grant("u-1", "buy")
    until(lambda: refuses(watch, "u-1"))
    until(lambda: any(report["rejected"] for _, report in collector.reports))
    collector.state["version"] = 9  # the next heartbeat is ahead, and the state is asked for
    until(lambda: watch.table.at == (1, 9))
    assert len(collector.listeners) == 1, "one stream, that never broke"
    collector.drop_streams()
    until(lambda: len(collector.listeners) == 2)
    collector.grant("u-2", "buy")
    until(lambda: refuses(watch, "u-2"))


def test_a_stream_over_tls_opens_before_its_body_has_begun(serve, listen, wake, tls):
    more = threading.Event()

    def script(server, peer):
        server.read(peer)
        peer.sendall(STREAM)
        more.wait(30)
        peer.sendall(chunk(b"late"))
        server.ended.wait(30)

    stream = listen(serve(script, tls=tls("localhost")))
    for _ in range(3):
        assert stream.wait(0.01, wake[1]) == b""
    more.set()
    assert received(stream, wake, 4) == b"late"


def test_what_came_in_the_record_of_the_head_is_not_waited_for(serve, listen, wake, tls):
    """Several records in one segment: no selector knows of those that are decrypted already."""
    parts = [b"x" * 16_000 for _ in range(200)]
    whole = STREAM + b"".join(chunk(part) for part in parts)
    stream = listen(serve(answering(whole), tls=tls("localhost")))
    with soon():
        assert received(stream, wake, 200 * 16_000) == b"".join(parts)


@pytest.mark.parametrize("clean", [True, False])
def test_a_stream_over_tls_that_ends_is_unreachable(serve, listen, wake, tls, clean):
    def script(server, peer):
        server.read(peer)
        peer.sendall(STREAM + chunk(b"last"))
        if clean:
            with contextlib.suppress(OSError):
                peer.unwrap()

    stream = listen(serve(script, tls=tls("localhost")))
    assert received(stream, wake, 4) == b"last"
    with soon(), pytest.raises(Unreachable):
        received(stream, wake, 1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_wakeup_ends_the_wait_for_a_stream_over_tls(serve, listen, wake, tls, version):
    """The tickets that TLS 1.3 sends after its handshake are bytes that bring none."""
    context = tls("localhost")
    context.minimum_version = context.maximum_version = version
    stream = listen(serve(answering(STREAM), tls=context))
    began = time.monotonic()
    while not stream.wait(0.2, wake[1]) and time.monotonic() - began < 0.5:
        pass
    wake[0].send(b"!")
    with soon():
        assert stream.wait(30.0, wake[1]) == b""


GREEN_SERVICE = """
import heatshield, time
heatshield.instrument(service="shop")

ends_at = time.monotonic() + 20
while time.monotonic() < ends_at:
    try:
        with heatshield.guard("buy"), heatshield.user("u-1"):
            time.sleep(0.01)
    except heatshield.BreakerOpen:
        break
print(heatshield.flush())
"""

PATCH = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}


@pytest.mark.parametrize("order", ["patched first", "patched later"])
@pytest.mark.parametrize("library", PATCH)
def test_spans_and_the_feed_go_over_tls_in_a_service_of_greenlets(
    collector, relay, tls, run_python, library, order
):
    pytest.importorskip(library)
    front = relay(collector.server.server_address[1], 65_536, tls=tls("localhost"))
    first, later = (PATCH[library], "") if order == "patched first" else ("", PATCH[library])
    head, body = GREEN_SERVICE.split("\n\n")
    collector.grant("u-1", "buy")
    done = run_python(
        f"{first}\n{head}\n{later}\n{body}", HEATSHIELD_ENDPOINT=f"https://localhost:{front.port}"
    )
    assert done.stdout == "True\n", done.stderr
    assert len(collector.listeners) == 1
    assert {span.name for _, span in collector.spans} == {"buy"}
