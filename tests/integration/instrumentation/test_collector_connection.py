"""HTTP to the collector, against real sockets that trickle, close, lie and fall silent."""

import contextlib
import errno
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from heatshield.breakers.event_stream import EventStream
from heatshield.clock import ManualClock, SystemClock
from heatshield.contract import SILENCE_S, ContractError
from heatshield.export import connection as connection_module
from heatshield.export.answer import Unreachable
from heatshield.export.connection import Connection

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
TIMEOUT_S = 0.4


class Server:
    """Gives each connection to the next of some functions; the last one gets all that follow."""

    def __init__(self, *scripts, tls=None):
        self.requests, self.connections = [], 0
        self.ended = threading.Event()
        self._scripts, self._tls = list(scripts), tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.endpoint = f"http{'s' if tls else ''}://localhost:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._socket.accept()
                script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                self.connections += 1
                threading.Thread(target=self._serve, args=(peer, script), daemon=True).start()

    def _serve(self, peer, script):
        with contextlib.suppress(OSError), contextlib.closing(peer):
            if self._tls is not None:
                peer = self._tls.wrap_socket(peer, server_side=True)
            with contextlib.closing(peer):
                script(self, peer)

    def read(self, peer):
        """One request, its body too."""
        received = b""
        while b"\r\n\r\n" not in received:
            more = peer.recv(65536)
            if not more:
                raise OSError
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        while len(body) < length:
            body += peer.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)

    def close(self):
        self.ended.set()
        self._socket.close()


@pytest.fixture
def serve():
    servers = []

    def start(*scripts, tls=None):
        servers.append(Server(*scripts, tls=tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answering(*answers, then_close=False):
    """A script that answers a connection's requests one by one."""

    def script(server, peer):
        for answer in answers:
            server.read(peer)
            peer.sendall(answer)
        if not then_close:
            server.ended.wait(30)

    return script


def trickling(data, every_s=0.05, head=b""):
    """A script that answers a request a byte at a time."""

    def script(server, peer):
        server.read(peer)
        peer.sendall(head)
        for byte in data:
            peer.sendall(bytes([byte]))
            if server.ended.wait(every_s):
                return
        server.ended.wait(30)

    return script


def silent(server, _peer):
    server.ended.wait(30)


@pytest.fixture
def connect():
    made = []

    def to(endpoint, timeout_s=TIMEOUT_S, clock=None):
        made.append(Connection(endpoint, timeout_s, clock or SystemClock()))
        return made[-1]

    yield to
    for connection in made:
        connection.close()


@contextlib.contextmanager
def soon(seconds=TIMEOUT_S + 1.5):
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


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
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [first, last])
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

    monkeypatch.setattr(socket, "socket", Crippled)
    assert connect(server.endpoint).request("GET", "/").ok


# -- TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and certificates of it for ``localhost`` and for another host."""
    openssl, folder = shutil.which("openssl"), tmp_path_factory.mktemp("tls")
    if openssl is None:
        pytest.skip("there is no openssl to make certificates with")

    def run(*arguments):
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority")
    for host in ("localhost", "elsewhere"):
        (folder / "names").write_text(f"subjectAltName=DNS:{host}", encoding="ascii")
        run("req", *key, "-keyout", f"{host}.key", "-out", f"{host}.csr", "-subj", f"/CN={host}")
        run(
            "x509", "-req", "-in", f"{host}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-extfile", "names", "-out", f"{host}.pem",
        )  # fmt: skip
    return folder


@pytest.fixture
def tls(certificates, monkeypatch):
    """A server's context; the client trusts the authority that ``SSL_CERT_FILE`` names."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))

    def of(host):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / f"{host}.pem", certificates / f"{host}.key")
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    return of


def test_a_collector_behind_tls_is_reached_and_kept_alive(serve, connect, tls):
    server = serve(answering(OK, OK), tls=tls("localhost"))
    connection = connect(server.endpoint, 5.0)
    body = b"x" * 3_000_000
    for _ in range(2):
        assert connection.request("POST", "/", body=body).body == b"ok"
    assert server.connections == 1
    assert server.requests[1].endswith(body)


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


# -- streams ---------------------------------------------------------------------------------------


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.fixture
def wake():
    waker, wake = socket.socketpair()
    with waker, wake:
        yield waker, wake


@pytest.fixture
def listen(connect):
    streams = []

    def to(server, timeout_s=5.0, clock=None):
        streams.append(connect(server.endpoint, timeout_s, clock).open_stream("/s", headers={}))
        return streams[-1]

    yield to
    for stream in streams:
        stream.close()


def received(stream, wake, length):
    data = b""
    while len(data) < length:
        data += stream.wait(5.0, wake[1])
    return data


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
