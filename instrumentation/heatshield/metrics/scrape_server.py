"""Answers scrapes in a process of greenlets, by a thread of the system.

``prometheus_client``'s server starts threads, which would be greenlets of a thread that does not
give way to them.
"""

import _socket
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from selectors import EVENT_READ
from typing import Final

from heatshield.counters import COUNTERS
from heatshield.native import NativeThread, Selector, getaddrinfo
from heatshield.process.wakeup import Wakeup
from heatshield.tracing.suppression import suppressed

__all__ = ["Headers", "ScrapeServer"]

LOOK_S: Final = 0.5
"""Seconds between two looks at whether to end."""

REQUEST_S: Final = 5.0
"""For a request to arrive, and once more for its answer to leave; the next one waits meanwhile."""

MAX_HEAD_BYTES: Final = 65_536

Headers = list[tuple[bytes, bytes]]

Answer = Callable[[Mapping[str, object]], tuple[Headers, bytes]]
"""Headers and body for a request, which is given as an ASGI scope."""


class ScrapeServer:
    """Listens, and answers one ``GET`` a connection; the interface is :mod:`socketserver`'s.

    Args:
        host: to listen on.
        port: to listen on.
        answer: makes an answer.

    Attributes:
        socket: that listens.

    Raises:
        OSError: if that address can't be listened on.
        RuntimeError: when there can be no more threads.
    """

    def __init__(self, host: str, port: int, answer: Answer) -> None:
        found = getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        self.socket = _socket.socket(family, kind, protocol)
        self._answer = answer
        self._ending = Wakeup()
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(address)
            self.socket.listen()
            NativeThread(self._run, "heatshield-scrapes").start()
        except BaseException:
            self.socket.close()
            raise

    def shutdown(self) -> None:
        """Accept no more, in a while."""
        self._ending.set()

    def server_close(self) -> None:
        """Does nothing: the thread closes the socket."""

    def _run(self) -> None:
        with suppressed(), Selector() as selector:
            selector.register(self.socket, EVENT_READ)
            while not self._ending.is_set():
                if not selector.select(LOOK_S):
                    continue
                try:
                    self._serve()
                except Exception:  # noqa: BLE001  # the thread must outlive any failure
                    COUNTERS.error("metrics port")
        self.socket.close()

    def _serve(self) -> None:
        descriptor, _ = self.socket._accept()  # type: ignore[attr-defined]  # noqa: SLF001  # of C
        peer = _socket.socket(fileno=descriptor)
        try:
            with suppress(OSError):  # a peer that is gone, or too slow
                peer.settimeout(REQUEST_S)
                peer.sendall(self._answered(_head(peer)))
        finally:
            peer.close()

    def _answered(self, head: bytes) -> bytes:
        request, *lines = head.split(b"\r\n")
        method, _, rest = request.partition(b" ")
        if method not in {b"GET", b"HEAD"}:
            return _response(b"405 Method Not Allowed", [(b"allow", b"GET, HEAD")], b"")
        fields = (line.partition(b":") for line in lines)
        scope: dict[str, object] = {
            "headers": [(name.lower(), value.strip()) for name, _, value in fields],
            "query_string": rest.partition(b" ")[0].partition(b"?")[2],
        }
        try:
            headers, body = self._answer(scope)
        except TimeoutError:
            return _response(b"503 Service Unavailable", [], b"the service is busy\n")
        headers.append((b"content-length", b"%d" % len(body)))
        return _response(b"200 OK", headers, b"" if method == b"HEAD" else body)


def _head(peer: _socket.socket) -> bytes:
    """The head of a request.

    Raises:
        OSError: if it does not come in time, or is too long.
    """
    ends_at = time.monotonic() + REQUEST_S
    received = b""
    while b"\r\n\r\n" not in received:
        part = peer.recv(MAX_HEAD_BYTES)
        received += part
        if not part or len(received) > MAX_HEAD_BYTES or time.monotonic() > ends_at:
            raise ConnectionError("no request")
    return received.partition(b"\r\n\r\n")[0]


def _response(status: bytes, headers: Headers, body: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"connection: close", b"", body])
