"""Client of the collector's JSON API. It uses the standard library only, because a plain install
has no HTTP client.
"""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from heatshield.cli.errors import ApiError, CliError, CollectorUnreachable
from heatshield.export.answer import GRPC_PORT, speaks_http2

__all__ = ["Collector", "Json", "path_of"]

Json: TypeAlias = Any
"""A JSON answer, as :func:`json.loads` types it; commands give it a type of
:mod:`heatshield.cli.answers`."""

TIMEOUT_S: Final = 5.0
"""Seconds to wait for the collector: a user at a terminal prefers an error to a longer wait."""

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Bytes of an answer that are read at most; no collector sends more."""


def path_of(*segments: str) -> str:
    """Join segments to a path, each percent-encoded: a trace id from a shell may hold anything."""
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


class Collector:
    """Sends requests to one collector, each over a connection of its own.

    Args:
        endpoint: ``http://`` or ``https://`` with host, port and an optional path prefix.
        token: bearer token; an empty one is not sent. Changes of breakers may need one.
        timeout_s: seconds to connect and between two reads.

    Raises:
        CliError: if the endpoint is not such a URL.
    """

    def __init__(self, endpoint: str, token: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._parts = _url(endpoint)
        self._token = token
        self._timeout_s = timeout_s

    def get(self, path: str, **query: str | int | None) -> Json:
        """Return the JSON answer of ``GET path``. Parameters that are ``None`` are left out.

        Raises:
            CollectorUnreachable: if nothing answers.
            ApiError: if the answer is an error or is not JSON.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return self._json("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, body: Mapping[str, object]) -> Json:
        """Send ``POST path`` with a JSON body; errors are those of :meth:`get`."""
        return self._json("POST", path, body)

    def put(self, path: str, body: Mapping[str, object]) -> Json:
        """Send ``PUT path`` with a JSON body; errors are those of :meth:`get`."""
        return self._json("PUT", path, body)

    def delete(self, path: str, **query: str) -> Json:
        """Send ``DELETE path``; errors are those of :meth:`get`."""
        return self._json("DELETE", f"{path}?{urlencode(query)}" if query else path)

    def probe(self, path: str) -> tuple[int, float, Json]:
        """Return the status of ``GET path``, its latency in ms, and its JSON (``None`` if none).

        Raises:
            CollectorUnreachable: if nothing answers.
        """
        started_s = time.perf_counter()
        status, content = self._exchange("GET", path, None)
        return status, (time.perf_counter() - started_s) * 1e3, _parsed(content)

    def _json(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json:
        status, content = self._exchange(method, path, body)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(status, _message(status, content))
        try:
            return json.loads(content) if content else None
        except ValueError as error:
            raise ApiError(status, f"{self.endpoint}{path} did not answer with JSON") from error

    def _exchange(
        self, method: str, path: str, body: Mapping[str, object] | None
    ) -> tuple[int, bytes]:
        connection = self._connection()
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, self._parts.path.rstrip("/") + path, content, headers)
            response = connection.getresponse()
            return response.status, response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise CollectorUnreachable(self.endpoint, _cause(error)) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        kind = (
            http.client.HTTPSConnection
            if self._parts.scheme == "https"
            else http.client.HTTPConnection
        )
        assert self._parts.hostname is not None  # noqa: S101  __init__ checked it
        return kind(self._parts.hostname, self._parts.port, timeout=self._timeout_s)


def _url(endpoint: str) -> SplitResult:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # an invalid port or bracket
        usable = False
    if not usable:
        raise CliError(
            f"{endpoint!r} is not the address of a collector: expected http://HOST:PORT", 2
        )
    return parts


def _message(status: int, content: bytes) -> str:
    """The error text in a collector's JSON body; for any other body, the status."""
    body = _parsed(content)
    if isinstance(body, dict) and body.get("error"):
        return str(body["error"])
    reason = http.client.responses.get(status, "")
    return f"the collector answered {status} {reason}".rstrip()


def _parsed(content: bytes) -> Json:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _cause(error: Exception) -> str:
    if speaks_http2(error):
        return GRPC_PORT
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
