"""TLS over a socket that never blocks.

The sockets of :mod:`ssl` wait by themselves where gevent or eventlet has replaced them, and can't
be made of a socket of the system. Here TLS is bytes in memory, and the socket only carries them.
"""

import _socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["TlsSocket"]

T = TypeVar("T")

READ_BYTES: Final = 65_536

MAX_SENT_BYTES: Final = 65_536
"""Encrypted at once: what the peer has not taken yet waits in memory."""


class TlsSocket:
    """Those methods of a :class:`ssl.SSLSocket` that are needed; each but ``close`` may raise.

    Args:
        sock: connected, and never blocking; it is taken over.
        context: how the peer proves who it is.
        host: who it has to be.

    Raises:
        ssl.SSLWantReadError: when the socket has to become readable first.
        ssl.SSLWantWriteError: when it has to become writable first.
        OSError: if the peer can't be trusted or is gone.
    """

    def __init__(self, sock: _socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._unsent = b""

    def do_handshake(self) -> None:
        """Agree on keys."""
        self._exchange(self._tls.do_handshake)
        self._flush()

    def send(self, data: memoryview) -> int:
        """Encrypt some of it; what the socket does not take yet, it takes at the next call."""
        self._flush()
        sent = self._exchange(lambda: self._tls.write(data[:MAX_SENT_BYTES]))
        with suppress(ssl.SSLWantWriteError):  # it counts as sent, and must not be sent twice
            self._flush()
        return sent

    def recv_into(self, buffer: "WriteableBuffer") -> int:
        """Decrypt some bytes; 0 when the peer sends no more."""
        self._flush()
        view = memoryview(buffer)

        def read() -> int:
            return cast("int", self._tls.read(len(view), cast("bytearray", view)))

        try:
            return self._exchange(read)
        except ssl.SSLEOFError:  # it closed without a word; HTTP knows how long an answer is
            return 0

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def detach(self) -> int:
        """Let go of the descriptor without closing it; returns it."""
        return self._sock.detach()

    def _exchange(self, operation: Callable[[], T]) -> T:
        while True:
            try:
                return operation()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()

    def _receive(self) -> None:
        try:
            received = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            raise ssl.SSLWantReadError from None
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        while self._unsent or self._outgoing.pending:
            self._unsent = self._unsent or self._outgoing.read()
            try:
                sent = self._sock.send(self._unsent)
            except BlockingIOError:
                raise ssl.SSLWantWriteError from None
            self._unsent = self._unsent[sent:]
