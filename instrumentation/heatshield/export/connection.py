"""One kept-alive HTTP connection to the collector, on the standard library alone.

Used by background threads only. Its calls are never traced: the threads run with instrumentation
suppressed.
"""

import encodings.idna  # noqa: F401  # see below
import http.client
import io
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from heatshield.export.deadline_socket import Deadline, Reader, connected, handshake, send

__all__ = ["Answer", "Connection", "Unreachable", "connect", "let_go", "retry_after_s"]

# Looking up a host imports the codec above on first use. A background thread must not be the first:
# a process that forked meanwhile would inherit an import lock that nobody ever releases.

_PORTS: Final = {"http": 80, "https": 443}

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


def address_of(endpoint: str) -> SplitResult:
    """The parts of ``http://host:port`` or ``https://host:port``.

    Raises:
        Unreachable: if the endpoint is not such an address.
    """
    try:
        parts = urlsplit(endpoint)
        _ = parts.port  # may raise
    except ValueError as error:
        raise Unreachable(f"{endpoint!r}: {error}") from error
    if not parts.hostname or parts.scheme not in _PORTS:
        raise Unreachable(f"{endpoint!r} is not http://host:port")
    return parts


def connect(endpoint: str, timeout_s: float) -> http.client.HTTPConnection:
    """A connection object to an endpoint; connects lazily.

    Raises:
        Unreachable: if the endpoint is not an address.
    """
    parts = address_of(endpoint)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)


def let_go(connection: http.client.HTTPConnection) -> None:
    """Close a child process's copy of a connection, which the parent may be reading from.

    The thread that read held the locks of its buffers, so nothing but the descriptor is touched.
    """
    sock: socket.socket | None = connection.sock
    if sock is not None and sock.fileno() >= 0:
        os.close(sock.detach())


class _Peer(http.client.HTTPConnection):
    """Asks and is answered with one deadline for each exchange.

    Args:
        address: scheme, host and port of the endpoint.
    """

    def __init__(self, address: SplitResult) -> None:
        super().__init__(address.hostname or "", address.port or _PORTS[address.scheme])
        self._secure = address.scheme == "https"
        self.deadline = Deadline(0.0)

    def connect(self) -> None:
        """Connect, if that takes no longer than this exchange may."""
        sock = connected(self.host, self.port, self.deadline)
        if self._secure:
            tls = ssl.create_default_context().wrap_socket(
                sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            handshake(tls, self.deadline)
            sock = tls
        self.sock = sock

    def send(self, data: Any) -> None:
        """Send a part of the request."""
        if self.sock is None:
            self.connect()
        send(self.sock, data, self.deadline)

    def getresponse(self) -> http.client.HTTPResponse:
        """Wait for the answer."""
        answering: Any = partial(_answering, self.deadline)  # called like the class it is for
        self.response_class = answering
        return super().getresponse()


def _answering(deadline: Deadline, sock: socket.socket, **options: Any) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(sock, **options)
    response.fp.close()
    response.fp = io.BufferedReader(Reader(sock, deadline))
    return response


class Connection:
    """Requests over one kept-alive connection; opens it again when the collector closed it.

    Not for concurrent use.
    """

    def __init__(self, endpoint: str, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._prefix = urlsplit(endpoint).path.rstrip("/")
        self._timeout_s = timeout_s
        self._connection: _Peer | None = None

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
            return self._once(asked, Deadline(timeout_s, meanwhile))
        except (http.client.HTTPException, OSError, ValueError) as error:
            self.close()
            if not kept or isinstance(error, TimeoutError):
                raise Unreachable(f"{self._endpoint}: {error!r}") from error
        try:
            return self._once(asked, Deadline(timeout_s, meanwhile))
        except (http.client.HTTPException, OSError, ValueError) as error:
            self.close()
            raise Unreachable(f"{self._endpoint}: {error!r}") from error

    def _once(
        self, asked: tuple[str, str, bytes | None, dict[str, str]], deadline: Deadline
    ) -> Answer:
        if self._connection is None:
            self._connection = _Peer(address_of(self._endpoint))
        self._connection.deadline = deadline
        self._connection.request(*asked)
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
