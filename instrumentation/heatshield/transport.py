"""One kept-alive HTTP connection to the collector, on the standard library alone.

Used by background threads only. Its calls are never traced: the threads run with instrumentation
suppressed.
"""

import encodings.idna  # noqa: F401  # see below
import http.client
import io
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["Answer", "Connection", "Unreachable", "connect", "let_go", "retry_after_s"]

# Looking up a host imports the codec above on first use. A background thread must not be the first:
# a process that forked meanwhile would inherit an import lock that nobody ever releases.

MEANWHILE_S: Final = 0.2
"""Between two looks away while an answer is waited for."""

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""No answer of a collector is larger; more is not read."""


class Unreachable(Exception):  # noqa: N818  # says what happened
    """The collector can't be reached or does not speak HTTP; says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004  # RFC 9110's class of success


def connect(endpoint: str, timeout_s: float) -> http.client.HTTPConnection:
    """A connection object to ``http://host:port`` or ``https://host:port``; connects lazily.

    Raises:
        Unreachable: if the endpoint is not such an address.
    """
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Unreachable(f"{endpoint!r}: {error}") from error
    if not host or parts.scheme not in ("http", "https"):
        raise Unreachable(f"{endpoint!r} is not http://host:port")
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout_s)
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


def let_go(connection: http.client.HTTPConnection) -> None:
    """Close a child process's copy of a connection, which the parent may be reading from.

    The thread that read held the locks of its buffers, so nothing but the descriptor is touched.
    """
    sock: socket.socket | None = connection.sock
    if sock is not None and sock.fileno() >= 0:
        os.close(sock.detach())


class _Patient(io.RawIOBase):
    """Reads from a socket until a deadline for all of it: a peer may send a byte now and then."""

    def __init__(
        self, sock: socket.socket, ends_at: float, meanwhile: Callable[[], object] | None
    ) -> None:
        self._sock = sock
        self._ends_at = ends_at
        self._meanwhile = meanwhile

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while (left_s := self._ends_at - time.monotonic()) > 0:
            self._sock.settimeout(min(left_s, MEANWHILE_S))
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                if self._meanwhile is not None:
                    self._meanwhile()
        raise TimeoutError("the answer took too long")


def _answering(
    ends_at: float, meanwhile: Callable[[], object] | None, sock: socket.socket, **options: Any
) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(sock, **options)
    response.fp.close()
    response.fp = io.BufferedReader(_Patient(sock, ends_at, meanwhile))
    return response


class Connection:
    """Requests over one kept-alive connection; opens it again when the collector closed it.

    Not for concurrent use.
    """

    def __init__(self, endpoint: str, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._prefix = urlsplit(endpoint).path.rstrip("/")
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> Answer:
        """Ask and read the whole answer.

        A connection that was kept alive may have been closed by the collector meanwhile; that is
        tried once more on a new one.

        Args:
            method: of HTTP.
            path: below the endpoint's.
            body: of the request.
            headers: of the request.
            timeout_s: for the whole answer, if it is to be less than usual.
            meanwhile: called now and then while the answer is waited for.

        Raises:
            Unreachable: on any failure below HTTP, or if the answer took too long.
        """
        timeout_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        asked = (method, self._prefix + path, body, dict(headers or {}))
        kept = self._connection is not None
        try:
            return self._once(asked, timeout_s, meanwhile)
        except (http.client.HTTPException, OSError, ValueError) as error:
            self.close()
            if not kept or isinstance(error, TimeoutError):
                raise Unreachable(f"{self._endpoint}: {error!r}") from error
        try:
            return self._once(asked, timeout_s, meanwhile)
        except (http.client.HTTPException, OSError, ValueError) as error:
            self.close()
            raise Unreachable(f"{self._endpoint}: {error!r}") from error

    def _once(
        self,
        asked: tuple[str, str, bytes | None, dict[str, str]],
        timeout_s: float,
        meanwhile: Callable[[], object] | None,
    ) -> Answer:
        if self._connection is None:
            self._connection = connect(self._endpoint, timeout_s)
        self._connection.timeout = timeout_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        self._connection.request(*asked)
        ends_at = time.monotonic() + timeout_s
        answering: Any = partial(_answering, ends_at, meanwhile)  # called like the class it is for
        self._connection.response_class = answering
        response = self._connection.getresponse()
        read = response.read(MAX_BODY_BYTES)
        if not response.isclosed():
            self.close()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, read
        )

    def leave_to_parent(self) -> None:
        """In a child process: let go of the connection, which goes on being the parent's."""
        connection, self._connection = self._connection, None
        if connection is not None:
            let_go(connection)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def retry_after_s(headers: Mapping[str, str], default_s: float) -> float:
    """What ``Retry-After`` says in seconds; the default if it is absent or a date."""
    try:
        return max(0.0, float(headers.get("retry-after", default_s)))
    except ValueError:
        return default_s
