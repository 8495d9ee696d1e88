"""The open connection to the breaker stream: one socket that is waited on, never blocked on.

:mod:`http.client` connects, asks and reads the response's head; from then on the socket is
non-blocking and its bytes go through the codecs of :mod:`heatshield.breakers.server_sent_events`.
"""

import http.client
import selectors
import socket
import ssl
from typing import Final, Protocol
from urllib.parse import urlencode, urlsplit

from heatshield.breakers.server_sent_events import Chunks, Event, Events
from heatshield.contract import StateVersion
from heatshield.export.connection import Unreachable, connect, let_go
from heatshield.names import BREAKER_STREAM_PATH

__all__ = ["EventStream", "Wakeable"]

CONNECT_TIMEOUT_S: Final = 3.0
"""Seconds for connecting and for the response's head; half of the silence that means reconnect."""

READ_BYTES: Final = 65_536
OK: Final = 200


class Wakeable(Protocol):
    """Something to wait on besides the socket: a file descriptor that becomes readable."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


class EventStream:
    """An open stream of events.

    Args:
        endpoint: the collector's address.
        query: who listens: service, instance, workers.
        last: the version held, so that the collector may answer with what is missing only.

    Raises:
        Unreachable: if there is no stream to be had.
    """

    def __init__(self, endpoint: str, query: dict[str, str], last: StateVersion | None) -> None:
        self._connection = connect(endpoint, CONNECT_TIMEOUT_S)
        self._events = Events()
        try:
            self._open(urlsplit(endpoint).path.rstrip("/"), query, last)
        except (http.client.HTTPException, OSError, ValueError) as error:
            self.close()
            raise Unreachable(f"{endpoint}: {error!r}") from error

    def _open(self, prefix: str, query: dict[str, str], last: StateVersion | None) -> None:
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        if last is not None:
            headers["last-event-id"] = str(last)
        path = f"{prefix}{BREAKER_STREAM_PATH}?{urlencode(query)}"
        self._connection.request("GET", path, headers=headers)
        sock: socket.socket = self._connection.sock
        response = self._connection.getresponse()
        if response.status != OK:
            raise ValueError(f"the stream answered {response.status}")
        self._chunks = Chunks() if response.getheader("transfer-encoding") == "chunked" else None
        sock.setblocking(False)
        self._sock = sock
        self._response = response
        self._unread = response.fp.peek() if response.fp is not None else b""

    def wait(self, timeout_s: float, wake: Wakeable) -> list[Event]:
        """Events that arrive within ``timeout_s``, none if time is up or ``wake`` is readable.

        Raises:
            Unreachable: if the stream has ended or broken.
            ContractError: if it is not a stream of events.
        """
        if not self._unread and not self._readable(timeout_s, wake):
            return []
        payload, self._unread = self._unread, b""
        return self._events.feed(self._decoded(payload or self._receive()))

    def _readable(self, timeout_s: float, wake: Wakeable) -> bool:
        # Not select.select(): it refuses descriptors from 1,024 on, and a busy service has those.
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            ready = selector.select(max(0.0, timeout_s))
        return any(key.fileobj is self._sock for key, _ in ready)

    def _receive(self) -> bytes:
        parts = []
        try:
            while data := self._sock.recv(READ_BYTES):
                parts.append(data)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b"".join(parts)
        except OSError as error:
            raise Unreachable(f"the stream broke: {error!r}") from error
        if not parts:
            raise Unreachable("the stream has ended")
        return b"".join(parts)

    def _decoded(self, data: bytes) -> bytes:
        if self._chunks is None:
            return data
        payload = self._chunks.feed(data)
        if self._chunks.ended and not payload:
            raise Unreachable("the stream has ended")
        return payload

    def leave_to_parent(self) -> None:
        """In a child process: let go of the connection, which goes on being the parent's."""
        let_go(self._connection)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
