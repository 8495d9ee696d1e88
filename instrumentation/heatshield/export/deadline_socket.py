"""Sockets with one deadline for all of an operation, and a look away now and then.

A socket's own timeout is for each of its steps, so a peer that sends a byte a second is waited for
as long as it likes. And a thread that waits for one can do nothing else.
"""

import io
import selectors
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Deadline", "Reader", "connected", "handshake", "send"]

MEANWHILE_S: Final = 0.2
"""Between two calls of what is to be done meanwhile."""


class Deadline:
    """How long somebody waits, and what he does meanwhile.

    Args:
        timeout_s: for everything from now on.
        meanwhile: called now and then.
    """

    def __init__(self, timeout_s: float, meanwhile: Callable[[], object] | None = None) -> None:
        self._ends_at = time.monotonic() + timeout_s
        self._meanwhile = meanwhile

    def next_s(self) -> float:
        """Seconds to wait in one go.

        Raises:
            TimeoutError: when the time is over.
        """
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it took too long")
        return left_s if self._meanwhile is None else min(left_s, MEANWHILE_S)

    def part(self, share: float) -> "Deadline":
        """Deadline for so much of the time that is left."""
        return Deadline(share * max(0.0, self._ends_at - time.monotonic()), self._meanwhile)

    def do_meanwhile(self) -> None:
        """Do something else."""
        if self._meanwhile is not None:
            self._meanwhile()


def connected(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A connection to the first address of a host that answers.

    Raises:
        OSError: if none does.
    """
    failure: OSError = ConnectionError(f"{host} has no address")
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            _connect(sock, address, deadline.part(1 / (len(addresses) - tried)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _connect(sock: socket.socket, address: Any, deadline: Deadline) -> None:
    sock.setblocking(False)
    sock.connect_ex(address)
    _wait(sock, selectors.EVENT_WRITE, deadline)
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, "can't connect")


def handshake(sock: ssl.SSLSocket, deadline: Deadline) -> None:
    """Open TLS on a connection that is made.

    Raises:
        OSError: if the peer can't be trusted, or takes too long.
    """
    sock.setblocking(False)
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            _wait(sock, selectors.EVENT_READ, deadline)
        except ssl.SSLWantWriteError:
            _wait(sock, selectors.EVENT_WRITE, deadline)
        else:
            return


def _wait(sock: socket.socket, event: int, deadline: Deadline) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, event)
        while not selector.select(deadline.next_s()):
            deadline.do_meanwhile()


def send(sock: socket.socket, data: bytes, deadline: Deadline) -> None:
    """Send all of it.

    Raises:
        OSError: if the peer is gone, or takes too long to take it.
    """
    left = memoryview(data)
    while left:
        sock.settimeout(deadline.next_s())
        try:
            left = left[sock.send(left) :]
        except TimeoutError:
            deadline.do_meanwhile()


class Reader(io.RawIOBase):
    """What a socket receives, as a file; for one answer."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._patience = deadline

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for some bytes; 0 when the peer is done.

        Raises:
            OSError: if the peer is gone or too slow.
        """
        while True:
            self._sock.settimeout(self._patience.next_s())
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                self._patience.do_meanwhile()
