"""An answer that goes on: its bytes as they arrive, and a wake-up call besides."""

import http.client
import selectors
from typing import Final, Protocol

from heatshield.clock import Clock
from heatshield.export.answer import Unreachable
from heatshield.export.chunked import Chunks
from heatshield.export.deadline_socket import DeadlineSocket
from heatshield.native import Selector

__all__ = ["Stream", "Wakeable"]

READ_BYTES: Final = 65_536

MAX_READ_BYTES: Final = 16 * READ_BYTES
"""Read in one go; a peer that sends faster than it is read must not fill the memory."""


class Wakeable(Protocol):
    """What ends a wait besides the stream: a file descriptor that becomes readable."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


class Stream:
    """The body of a response, decoded of chunked transfer coding. Not for concurrent use.

    Args:
        response: whose head was read.
        sock: that the response comes from; the stream never blocks on it.
        clock: is waited on.
    """

    def __init__(
        self, response: http.client.HTTPResponse, sock: DeadlineSocket, clock: Clock
    ) -> None:
        sock.deadline = None
        self._response = response
        self._sock = sock
        self._clock = clock
        self._chunks = Chunks() if response.chunked else None
        self._unread = response.fp.peek()  # what came with the head

    def wait(self, timeout_s: float, wake: Wakeable) -> bytes:
        """Bytes that arrive within ``timeout_s``, none if time is up or ``wake`` is readable.

        Raises:
            Unreachable: if the stream has ended or broken.
            ContractError: if it breaks the rules of chunked transfer coding.
        """
        data, self._unread = self._unread, b""
        data = data or self._receive()  # what TLS has decrypted already, no selector knows of
        if not data and self._is_readable(timeout_s, wake):
            data = self._receive()
        return self._decoded(data)

    def _is_readable(self, timeout_s: float, wake: Wakeable) -> bool:
        with Selector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            return self._clock.select(selector, timeout_s)

    def _receive(self) -> bytes:
        received = bytearray()
        buffer = bytearray(READ_BYTES)
        try:
            while len(received) < MAX_READ_BYTES:
                count = self._sock.recv_into(buffer)
                if count == 0 and not received:
                    raise Unreachable("the stream has ended")
                if not count:
                    break
                received += buffer[:count]
        except OSError as error:
            raise Unreachable(f"the stream broke: {error!r}") from error
        return bytes(received)

    def _decoded(self, data: bytes) -> bytes:
        if self._chunks is None:
            return data
        payload = self._chunks.feed(data)
        if self._chunks.ended and not payload:
            raise Unreachable("the stream has ended")
        return payload

    def leave_to_parent(self) -> None:
        """In a child process: let go of the connection, which goes on being the parent's."""
        self._sock.leave_to_parent()

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        self._sock.close()
