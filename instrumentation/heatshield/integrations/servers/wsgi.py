"""The server side over WSGI: one span a request, until its body is out.

From the outside in: :class:`ServerMiddleware` (around the application: span, user), the service's
own middleware, the framework, and what its integration puts before its handlers.
"""

import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar, cast

from heatshield.context.attachment import attach, detach
from heatshield.counters import fail_open
from heatshield.fork_hooks import in_child
from heatshield.fork_locks import IMPORTING_METRICS
from heatshield.identity.credentials import header_bytes
from heatshield.integrations.content_length import content_length
from heatshield.integrations.servers.server_request import (
    KEY,
    Headers,
    RequestLifecycle,
    ServerRequest,
)
from heatshield.integrations.services import Services
from heatshield.tracing.values import Attributes

__all__ = ["Environ", "ServerMiddleware", "StartResponse", "headers_of"]

T = TypeVar("T")

Environ = dict[str, Any]  # PEP 3333: values are of many types, by key
StartResponse = Callable[..., object]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

MOST_MOUNTS: Final = 64
"""Different paths that mounted applications are known by. A middleware may take such a path from a
header, and what callers choose must not make names without end."""

_KEYS: Final[dict[bytes, str]] = {}
"""Names of headers as an environ has them. Only names that settings and protocols know get here."""


def headers_of(environ: Environ, wanted: Iterable[bytes]) -> Headers:
    """Those headers of a request that are looked at."""
    headers: dict[bytes, bytes] = {}
    for name in wanted:
        key = _KEYS.get(name)
        if key is None:
            key = _KEYS[name] = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        value = environ.get(key)
        if isinstance(value, str) and value:
            headers[name] = header_bytes(value)
    return headers


class ServerMiddleware:
    """Opens the span of each request that comes in, and ends it.

    Args:
        lifecycle: of the framework's requests.
        services: of the runtime.
    """

    def __init__(self, lifecycle: RequestLifecycle, services: Services) -> None:
        self._lifecycle = lifecycle
        self._begin_serving = services.serving
        self._page: Application | None = None
        self._metrics_path = services.settings.metrics_path
        self._served_by = 0
        self._mounts: set[str] = set()

    def enter(
        self, app: Application, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Serve one request."""
        __traceback_hide__ = True  # for debuggers' pages: they show the service's frames
        if KEY in environ:
            self._pass_mount(environ)
            return app(environ, start_response)
        if self._lifecycle.is_retired:
            return app(environ, start_response)
        self._serve_from_now_on()
        if self._metrics_path and environ.get("PATH_INFO") == self._metrics_path:
            return self._metrics()(environ, start_response)
        served = self._open(environ)
        if served is None:
            return app(environ, start_response)
        environ[KEY] = served
        token = None if served.context is None else attach(served.context)
        head: list[tuple[str, str]] = []
        try:
            body = app(environ, self._watching(served, start_response, head))
        except BaseException as error:
            self._lifecycle.failed(served, error)
            self._lifecycle.close(served)
            raise
        finally:
            if token is not None:
                detach(token)
        return self._followed(body, served, environ, head)

    @fail_open("wsgi", None)
    def _serve_from_now_on(self) -> None:
        """The first request that this process serves; a fork is another process."""
        if self._served_by != os.getpid():
            self._served_by = os.getpid()
            self._begin_serving()

    def _metrics(self) -> Application:
        if self._page is None:
            with IMPORTING_METRICS:
                from heatshield.metrics.exposition import wsgi_app

            self._page = cast("Application", wsgi_app())
        return self._page

    @fail_open("wsgi", None)
    def _open(self, environ: Environ) -> ServerRequest | None:
        while _ABANDONED:
            self._lifecycle.close(_ABANDONED.popleft())
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if self._lifecycle.is_excluded(path):
            return None
        method = environ.get("REQUEST_METHOD", "GET")
        attributes: Attributes = {
            "http.request.method": method,
            "url.scheme": environ.get("wsgi.url_scheme", "http"),
            "url.path": path,
        }
        for name, key in _ATTRIBUTES:
            if value := environ.get(key):
                attributes[name] = value
        query = header_bytes(environ.get("QUERY_STRING", ""))
        headers = headers_of(environ, self._lifecycle.wanted)
        received = content_length(environ.get("CONTENT_LENGTH"))
        # What reads the request comes before: what failed after would pass by the breaker, and
        # leave the span open.
        served = self._lifecycle.open(method, attributes, headers, query)
        if served is not None:
            served.received = received
            self._place(served, environ)
        return served

    @fail_open("wsgi", None)
    def _place(self, served: ServerRequest, environ: Environ) -> None:
        if served.within:
            self._mount(served, environ)
        else:
            served.root = environ.get("SCRIPT_NAME", "")

    @fail_open("wsgi", None)
    def _pass_mount(self, environ: Environ) -> None:
        """Note that the request goes on into another application, which is mounted in this one."""
        served: ServerRequest | None = environ[KEY]
        if served is not None:
            self._mount(served, environ)

    def _mount(self, served: ServerRequest, environ: Environ) -> None:
        script = environ.get("SCRIPT_NAME", "")
        if script == served.root or not script.startswith(served.root):
            return
        prefix = script[len(served.root) :]
        if prefix in self._mounts or len(self._mounts) < MOST_MOUNTS:
            self._mounts.add(prefix)
            served.prefix = prefix

    def _watching(
        self, served: ServerRequest, start_response: StartResponse, head: list[tuple[str, str]]
    ) -> StartResponse:
        def watched(status: str, headers: list[tuple[str, str]], *more: object) -> object:
            missing = self._note(served, status, headers)
            if missing:
                headers = [*headers, *missing.items()]
            head[:] = headers
            return start_response(status, headers, *more)

        return watched

    @fail_open("wsgi", None)
    def _note(
        self, served: ServerRequest, status: str, headers: list[tuple[str, str]]
    ) -> Mapping[str, str]:
        return self._lifecycle.answered(served, int(status[:3]), headers)

    def _followed(
        self,
        body: Iterable[bytes],
        served: ServerRequest,
        environ: Environ,
        head: list[tuple[str, str]],
    ) -> Iterable[bytes]:
        if isinstance(body, list | tuple):
            served.sent = sum(map(len, body))
            self._lifecycle.close(served)
            return body
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper):
            # Servers send such files without reading them here; anything else would be slower.
            served.sent = _length(head)
            self._close_with(body, served)
            return body
        return _Body(body, served, self._lifecycle)

    def _close_with(self, file: object, served: ServerRequest) -> None:
        original = getattr(file, "close", None)

        def close() -> None:
            try:
                if original is not None:
                    original()
            finally:
                self._lifecycle.close(served)

        try:
            file.close = close  # type: ignore[attr-defined]  # most such files take it
            weakref.finalize(file, _ABANDONED.append, served).atexit = False
        except (AttributeError, TypeError):  # a server's own type
            self._lifecycle.close(served)


@fail_open("wsgi", 0)
def _length(head: list[tuple[str, str]]) -> int:
    """What an answer says is the length of its body."""
    return next(
        (content_length(value) for name, value in head if name.lower() == "content-length"), 0
    )


_ABANDONED: Final[deque[ServerRequest]] = deque()
"""Requests whose answers were neither read to their end nor closed. The garbage collector finds
them while any lock may be held, so the next request ends them."""

in_child(_ABANDONED.clear)  # the parent ends them


class _Body:
    """The application's answer, with its bytes counted; runs within the request's context.

    The request ends with the answer's last byte. Servers are to close an answer then, but not all
    callers of an application do.
    """

    __slots__ = ("_body", "_chunks", "_is_over", "_lifecycle", "_served")

    def __init__(
        self, body: Iterable[bytes], served: ServerRequest, lifecycle: RequestLifecycle
    ) -> None:
        self._body = body
        self._chunks: Iterator[bytes] | None = None
        self._is_over = False
        self._served = served
        self._lifecycle = lifecycle

    def __iter__(self) -> Iterator[bytes]:
        self._chunks = iter(self._body)
        return self

    def __next__(self) -> bytes:
        chunks = self._chunks
        if chunks is None:
            chunks = self._chunks = iter(self._body)
        try:
            chunk: bytes = self._within(chunks.__next__)
        except BaseException:  # the end is one, too
            self._end()
            raise
        self._served.sent += len(chunk)
        return chunk

    def close(self) -> None:
        """End the request: its server is done with it."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                self._within(close)
        finally:
            self._end()

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._lifecycle.close(self._served)

    def __del__(self) -> None:
        if not self._is_over:
            _ABANDONED.append(self._served)

    def _within(self, step: Callable[[], T]) -> T:
        context = self._served.context
        token = None if context is None else attach(context)
        try:
            return step()
        except StopIteration:
            raise
        except BaseException as error:
            self._lifecycle.failed(self._served, error)
            raise
        finally:
            if token is not None:
                detach(token)


_ATTRIBUTES: Final = (
    ("url.query", "QUERY_STRING"),
    ("client.address", "REMOTE_ADDR"),
    ("user_agent.original", "HTTP_USER_AGENT"),
)
"""Further attributes of a server span, by OpenTelemetry's conventions, and where they stand."""
