"""Collectors that are sockets: they trickle, close, say nothing, or break the rules."""

import contextlib
import socket
import threading
import time

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


@contextlib.contextmanager
def soon(seconds=TIMEOUT_S + 1.5):
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def received(stream, wake, length):
    data = b""
    while len(data) < length:
        data += stream.wait(5.0, wake[1])
    return data
