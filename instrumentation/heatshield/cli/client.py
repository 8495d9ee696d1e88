"""The collector's JSON API, over the standard library: the light install has no HTTP client."""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from heatshield.cli.errors import ApiError, CliError, CollectorUnreachable

__all__ = ["Collector", "path_of"]

TIMEOUT_S: Final = 5.0
"""Seconds to wait for the collector: it is asked by people, who would rather know."""

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""An answer beyond this is not read: whatever listens there is not a collector."""


def path_of(*segments: str) -> str:
    """A path of segments that are taken literally: a trace id from a shell may hold anything."""
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


class Collector:
    """Asks one collector; each call is one connection.

    Args:
        endpoint: ``http://`` or ``https://`` with host, port and an optional path prefix.
        token: sent as a bearer token when it is not empty; what changes breakers may need it.
        timeout_s: seconds to connect and between two reads.

    Raises:
        CliError: when the endpoint is not such a URL.
    """

    def __init__(self, endpoint: str, token: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._parts = _url(endpoint)
        self._token = token
        self._timeout_s = timeout_s

    def get(self, path: str, **query: Any) -> Any:
        """What ``path`` answers. Parameters that are ``None`` are left out.

        Raises:
            CollectorUnreachable: if nothing answers.
            ApiError: if the answer is an error or is not JSON.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return self._json("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Like :meth:`get`, with a JSON body."""
        return self._json("POST", path, body)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Like :meth:`get`, with a JSON body."""
        return self._json("PUT", path, body)

    def delete(self, path: str, **query: str) -> Any:
        """Like :meth:`get`."""
        return self._json("DELETE", f"{path}?{urlencode(query)}" if query else path)

    def probe(self, path: str) -> tuple[int, float, Any]:
        """The status of ``path``, the milliseconds it took to answer, and the answer if JSON.

        Raises:
            CollectorUnreachable: if nothing answers.
        """
        started_s = time.perf_counter()
        status, content = self._exchange("GET", path, None)
        return status, (time.perf_counter() - started_s) * 1e3, _parsed(content)

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        status, content = self._exchange(method, path, body)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(status, _message(status, content))
        try:
            return json.loads(content) if content else None
        except ValueError as error:
            raise ApiError(status, f"{self.endpoint}{path} does not answer JSON") from error

    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None
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
        assert self._parts.hostname is not None  # noqa: S101  checked when it was made
        return kind(self._parts.hostname, self._parts.port, timeout=self._timeout_s)


def _url(endpoint: str) -> SplitResult:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port or a bracket that can't be
        usable = False
    if not usable:
        raise CliError(f"{endpoint!r} is not the address of a collector: http://HOST:PORT", 2)
    return parts


def _message(status: int, content: bytes) -> str:
    """What the body of an error says; the status where it is not one of a collector."""
    body = _parsed(content)
    if isinstance(body, dict) and body.get("error"):
        return str(body["error"])
    reason = http.client.responses.get(status, "")
    return f"the collector answered {status} {reason}".rstrip()


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
