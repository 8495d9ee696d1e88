"""HTTP to the collector, on the standard library alone: for spans, logs, metrics and breakers.

Used by background threads only. Its calls are never traced: the threads run with instrumentation
suppressed. Each request has one deadline for everything: connecting, TLS, sending and the whole
answer. Redirects are never followed, for what is sent is meant for one collector.

TLS verifies the collector's certificate and name, by the authorities of the system, or of
``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
"""

import encodings.idna  # noqa: F401  # see below
import http.client
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast
from urllib.parse import SplitResult, urlsplit

from heatshield.clock import Clock
from heatshield.export.answer import GRPC_PORT, Answer, Unreachable, speaks_http2
from heatshield.export.deadline_socket import Deadline, DeadlineSocket
from heatshield.export.stream import Stream

__all__ = ["Connection"]

# Looking up a host imports the codec above on first use. A background thread must not be the first:
# a process that forked meanwhile would inherit an import lock that nothing ever releases.

_PORTS: Final = {"http": 80, "https": 443}

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""No answer of a collector is larger; more is not read."""

OK: Final = 200

_FAILURES: Final = (http.client.HTTPException, OSError, ValueError)
"""What :mod:`http.client` and sockets raise; the last for what is no HTTP."""


class _Request(NamedTuple):
    """The arguments of :meth:`http.client.HTTPConnection.request`."""

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]


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


class _Peer(http.client.HTTPConnection):
    """One connection, made at the first request.

    Args:
        address: scheme, host and port of the endpoint.

    Attributes:
        deadline: of the request that is going on.
        connected: the socket, once there is one.
    """

    def __init__(self, address: SplitResult) -> None:
        super().__init__(address.hostname or "", address.port or _PORTS[address.scheme])
        self.default_port = _PORTS[address.scheme]  # the Host header leaves it out
        self._is_secure = address.scheme == "https"
        self.deadline: Deadline | None = None
        self.connected: DeadlineSocket | None = None

    def connect(self) -> None:
        """Connect, within the deadline of the request."""
        if self.deadline is None:
            raise ValueError("there is no request")
        tls = _tls() if self._is_secure else None
        self.connected = DeadlineSocket.connect(self.host, self.port, self.deadline, tls)
        self.sock = cast("socket.socket", self.connected)  # has all that http.client calls

    def ask(self, request: _Request, deadline: Deadline) -> http.client.HTTPResponse:
        """Send a request and read the head of its answer; the body has the same deadline.

        Raises:
            http.client.HTTPException: if the answer is no HTTP, or ends before its head does.
            OSError: if the peer is gone or too slow.
        """
        self.deadline = deadline
        if self.connected is not None:
            self.connected.deadline, self.connected.heard = deadline, False
        self.request(*request)
        response = self.getresponse()
        if self.connected is not None and self.connected.ended:  # http.client takes half a head
            raise http.client.IncompleteRead(b"")
        return response

    def leave_to_parent(self) -> None:
        """In a child process: let go of the socket, which goes on being the parent's."""
        if self.connected is not None:
            self.connected.leave_to_parent()


def _tls() -> ssl.SSLContext:
    """Made for each connection, so that authorities may change while the process runs."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connection:
    """Requests over one kept-alive connection; opens it again when the collector closed it.

    Not for concurrent use.

    Args:
        endpoint: address of the collector, with or without a path that all paths are below.
        timeout_s: for each request, from connecting to the last byte of its answer.
        clock: measures and waits.
        token: sent as a bearer token with each request, if there is one.
    """

    def __init__(self, endpoint: str, timeout_s: float, clock: Clock, token: str = "") -> None:
        self._endpoint = endpoint
        self._prefix = urlsplit(endpoint).path.rstrip("/")
        self._timeout_s = timeout_s
        self._clock = clock
        self._own = {"authorization": f"Bearer {token}"} if token else {}
        self._peer: _Peer | None = None

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

        A connection that was kept alive may have been closed by the collector meanwhile: a request
        that was answered by nothing at all is sent once more, on a new one.

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
        asked = _Request(method, self._prefix + path, body, {**self._own, **(headers or {})})
        kept = self._peer
        try:
            return self._once(asked, Deadline(self._clock, timeout_s, meanwhile))
        except _FAILURES as error:
            failure = self._unreachable(error, self._peer)
            self.close()
            if not _was_closed_meanwhile(kept, error):
                raise failure from error
        try:
            return self._once(asked, Deadline(self._clock, timeout_s, meanwhile))
        except _FAILURES as error:
            failure = self._unreachable(error, self._peer)
            self.close()
            raise failure from error

    def _once(self, asked: _Request, deadline: Deadline) -> Answer:
        if self._peer is None:
            self._peer = _Peer(address_of(self._endpoint))
        response = self._peer.ask(asked, deadline)
        body = _body_of(response)
        if not response.isclosed() or response.will_close:
            self.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, body)

    def open_stream(
        self, path: str, *, headers: Mapping[str, str], timeout_s: float | None = None
    ) -> Stream:
        """Ask for an answer that goes on; it has a connection of its own.

        Args:
            path: below the endpoint's.
            headers: of the request.
            timeout_s: for the head of the answer, if it is to be less than usual.

        Raises:
            Unreachable: if the collector can't be reached or answers anything but 200.
        """
        timeout_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        asked = _Request("GET", self._prefix + path, None, {**self._own, **headers})
        peer = _Peer(address_of(self._endpoint))
        try:
            response = peer.ask(asked, Deadline(self._clock, timeout_s))
            if response.status != OK or peer.connected is None:
                raise ValueError(f"the stream answered {response.status}")
            return Stream(response, peer.connected, self._clock)
        except _FAILURES as error:
            peer.close()
            raise self._unreachable(error, peer) from error

    def _unreachable(self, error: Exception, peer: _Peer | None) -> Unreachable:
        if isinstance(error, Unreachable):
            return error
        why = GRPC_PORT if speaks_http2(error) else repr(error)
        return Unreachable(
            f"{self._endpoint}: {why}",
            is_there=peer is not None and peer.connected is not None,
            is_late=isinstance(error, TimeoutError),
        )

    def leave_to_parent(self) -> None:
        """In a child process: let go of the connection, which goes on being the parent's."""
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.leave_to_parent()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.close()


def _was_closed_meanwhile(kept: _Peer | None, error: Exception) -> bool:
    """Whether a connection that was kept alive had been closed before this request reached it."""
    if kept is None or kept.connected is None or isinstance(error, TimeoutError):
        return False
    return not kept.connected.heard


def _body_of(response: http.client.HTTPResponse) -> bytes:
    """At most :data:`MAX_BODY_BYTES` of a body.

    Raises:
        http.client.IncompleteRead: if it ends before its length.
    """
    body = response.read(MAX_BODY_BYTES)
    if response.length and len(body) < MAX_BODY_BYTES:  # what is left; None: until it closes
        raise http.client.IncompleteRead(body)
    return body
