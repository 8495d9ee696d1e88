"""A small HTTP/1.1 client for the load, with connections that stay open.

The load shares two cores with the platform that it measures. httpx spends milliseconds of processor
time on a request, which would show in every user's latency; this client spends a tenth of that.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

import httptools

__all__ = ["Answer", "Connections", "NoAnswer"]


class NoAnswer(Exception):  # noqa: N818 - it names what happened
    """The server could not be reached, broke off, or took too long."""


@dataclass(slots=True)
class Answer:
    """A status and headers, their names in lower case."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Connections:
    """A pool of connections to one server, one per concurrent request; a context manager.

    Args:
        url: ``http://host:port``.
        timeout_s: for one request, from connecting to the end of its answer.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.hostname is None:
            raise ValueError(f"not http://host:port: {url!r}")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []

    async def post(
        self, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Send a request and read its whole answer.

        Raises:
            NoAnswer: if there is none in time.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connection()
                answer = await connection.exchange(self._request(path, headers or {}, body))
        except (OSError, TimeoutError, httptools.HttpParserError) as error:
            raise NoAnswer(repr(error)) from error
        if not connection.closed:
            self._idle.append(connection)
        return answer

    async def _connection(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        loop = asyncio.get_running_loop()
        _, opened = await loop.create_connection(_Connection, self._host, self._port)
        return opened

    def _request(self, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        lines = [
            f"POST {path} HTTP/1.1",
            f"host: {self._host}:{self._port}",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way. Its parser calls the ``on_`` methods."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()

    async def exchange(self, request: bytes) -> Answer:
        """Send a request and wait for its answer; an interruption closes the connection."""
        if self._transport is None or self.closed:
            raise ConnectionError("not connected")
        self._answer = Answer()
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answered
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._fail(exc or ConnectionError("the server closed the connection"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._answer.status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        # httptools parsers can be fed the next message on the same connection.
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(self._answer)

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
