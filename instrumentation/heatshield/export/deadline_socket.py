"""A socket whose operations share one deadline, however slowly the peer trickles.

The timeout of a :class:`socket.socket` is for each of its steps, so a peer that sends a byte a
second keeps a thread for as long as it likes. Here the sockets never block: they are tried, and
waited for on the :class:`~heatshield.clock.Clock`, until the operation's :class:`Deadline`.

Looking up a host's address is the one step that nothing can interrupt; the resolver of the system
has timeouts of its own.
"""

import _socket
import errno
import io
import os
import selectors
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

from heatshield.clock import Clock
from heatshield.export.tls_socket import TlsSocket
from heatshield.native import Selector, getaddrinfo

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["Deadline", "DeadlineSocket"]

T = TypeVar("T")

MEANWHILE_S: Final = 0.2
"""Seconds between two calls of what is to be done meanwhile."""

_CONNECTING: Final = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR})
"""What a socket that does not block says when it begins to connect."""


class Deadline:
    """When an operation is over, and what its thread does while it waits.

    Args:
        clock: measures the time, and is waited on.
        timeout_s: for everything from now on.
        meanwhile: called now and then.
    """

    def __init__(
        self, clock: Clock, timeout_s: float, meanwhile: Callable[[], object] | None = None
    ) -> None:
        self._clock = clock
        self._ends_at = clock.monotonic() + timeout_s
        self._meanwhile = meanwhile

    def check(self) -> float:
        """Seconds that are left.

        Raises:
            TimeoutError: when none are.
        """
        left_s = self._ends_at - self._clock.monotonic()
        if left_s <= 0:
            raise TimeoutError("it took too long")
        return left_s

    def part(self, share: float) -> "Deadline":
        """A deadline after a share of the time that is left.

        Raises:
            TimeoutError: when none is left.
        """
        return Deadline(self._clock, share * self.check(), self._meanwhile)

    def wait(self, sock: "_Socket", events: int) -> None:
        """Wait until a socket can be read from or written to.

        Args:
            sock: one that does not block.
            events: of :mod:`selectors`.

        Raises:
            TimeoutError: when the time is over.
        """
        with Selector() as selector:
            selector.register(sock, events)
            while not self._clock.select(selector, self._next_s()):
                if self._meanwhile is not None:
                    self._meanwhile()

    def _next_s(self) -> float:
        left_s = self.check()
        return left_s if self._meanwhile is None else min(left_s, MEANWHILE_S)


class DeadlineSocket:
    """A connected socket, with TLS or without; made by :meth:`connect`. Not for concurrent use.

    :mod:`http.client` uses it like a :class:`socket.socket`.

    Attributes:
        deadline: of the operation that is going on; ``None`` never waits.
        heard: whether the peer has sent anything since this was last set to ``False``.
        ended: whether it said that it sends no more.
    """

    def __init__(self, sock: "_Socket", deadline: Deadline | None) -> None:
        self._sock = sock
        self._readers = 0
        self._is_closing = False
        self.deadline = deadline
        self.heard = self.ended = False

    @classmethod
    def connect(
        cls, host: str, port: int, deadline: Deadline, tls: ssl.SSLContext | None = None
    ) -> Self:
        """Connect to the first address of a host that answers.

        Args:
            host: name or address; with TLS the peer must prove that it is this one.
            port: of TCP.
            deadline: for all addresses together, and for the handshake of TLS.
            tls: how the peer proves it; ``None`` sends in the clear.

        Raises:
            OSError: if no address answers, the peer can't be trusted, or it takes too long.
        """
        sock = _connected(host, port, deadline)
        if tls is None:
            return cls(sock, deadline)
        try:
            secured = TlsSocket(sock, tls, host)
            _until_done(secured, secured.do_handshake, selectors.EVENT_READ, deadline)
        except BaseException:
            sock.close()
            raise
        return cls(secured, deadline)

    def sendall(self, data: "ReadableBuffer") -> None:
        """Send all of it.

        Raises:
            OSError: if the peer is gone, or takes too long to take it.
        """
        left = memoryview(data)
        while left:
            sent = self._until_done(partial(self._sock.send, left), selectors.EVENT_WRITE)
            left = left[sent or 0 :]

    def recv_into(self, buffer: "WriteableBuffer") -> int | None:
        """Wait for some bytes; returns how many, 0 when the peer is done.

        ``None`` says that there are none yet; only without a deadline.

        Raises:
            OSError: if the peer is gone or too slow.
        """
        received = self._until_done(partial(self._sock.recv_into, buffer), selectors.EVENT_READ)
        self.heard = self.heard or bool(received)
        self.ended = received == 0
        return received

    def _until_done(self, operation: Callable[[], int], events: int) -> int | None:
        if self.deadline is not None:
            return _until_done(self._sock, operation, events, self.deadline)
        try:
            return operation()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def makefile(self, mode: str = "rb", *_: object) -> io.BufferedReader:
        """What is received, as a file. The socket closes no earlier than its files do."""
        del mode
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def reader_closed(self) -> None:
        """A file of :meth:`makefile` was closed."""
        self._readers -= 1
        if self._is_closing:
            self.close()

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close it, as soon as no file of it is open."""
        self._is_closing = True
        if self._readers <= 0:
            self._sock.close()

    def leave_to_parent(self) -> None:
        """In a child process: close the copy of a socket that the parent may be reading from.

        The thread that read held the locks of its buffers, so only the descriptor is touched.
        """
        if self._sock.fileno() >= 0:
            os.close(self._sock.detach())


class _Reader(io.RawIOBase):
    """What a socket receives, as a file."""

    def __init__(self, sock: DeadlineSocket) -> None:
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._sock.reader_closed()


_Socket = _socket.socket | TlsSocket
"""Never the :class:`socket.socket` of a service, which gevent may have replaced."""


def _until_done(sock: _Socket, operation: Callable[[], T], events: int, deadline: Deadline) -> T:
    """Try an operation of a socket again whenever the socket says that it may succeed."""
    while True:
        deadline.check()
        try:
            return operation()
        except ssl.SSLWantReadError:  # TLS may have to read to write, and the other way round
            deadline.wait(sock, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            deadline.wait(sock, selectors.EVENT_WRITE)
        except BlockingIOError:
            deadline.wait(sock, events)


def _connected(host: str, port: int, deadline: Deadline) -> _socket.socket:
    """A connection to the first address that answers; each gets its share of the time."""
    failure: OSError = ConnectionError(f"{host} has no address")
    addresses = getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            sock = _socket.socket(family, kind, protocol)
        except OSError as error:  # a host has addresses of IPv6 where this machine has none
            failure = error
            continue
        try:
            _connect(sock, address, deadline.part(1 / (len(addresses) - tried)))
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _connect(sock: _socket.socket, address: tuple[object, ...], deadline: Deadline) -> None:
    sock.setblocking(False)
    code = sock.connect_ex(address)
    if code in _CONNECTING:
        deadline.wait(sock, selectors.EVENT_WRITE)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
