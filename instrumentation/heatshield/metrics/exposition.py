"""``/metrics`` of a service: mounted in its application, or on a port of its own.

In multi-process mode it shows the sum over all workers, else the registry of the process that
answers; in OpenMetrics with exemplars if the request asks for that.
"""

import asyncio
import gzip
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Self, cast
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIServer

from prometheus_client import REGISTRY, make_wsgi_app, start_http_server
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from heatshield import native
from heatshield.metrics import multiprocess
from heatshield.metrics.families import OWN
from heatshield.metrics.registry_guard import with_registry
from heatshield.metrics.scrape_server import Headers, ScrapeServer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["MIRROR", "Port", "Served", "asgi_app", "mirror", "retire", "served", "wsgi_app"]

GZIP_LEVEL: Final = 1
"""The cheapest level makes a tenth of such text."""

_LOGGER: Final = logging.getLogger("heatshield")

MIRROR: Final = multiprocess.Mirror(OWN)
"""This process's."""


class Served(Collector):
    """What a scrape shows, read while no fork begins.

    Args:
        registry: what it reads.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """All of it, read at once."""
        return with_registry(lambda: list(self._registry.collect()))

    def restricted_registry(self, names: Iterable[str]) -> Collector:
        """Those metrics that the scrape asks for by ``name[]``."""
        return Served(cast("CollectorRegistry", self._registry.restricted_registry(names)))


def served() -> Served:
    """All workers' values in multi-process mode, else the service's own registry."""
    if multiprocess.in_use():
        return Served(multiprocess.over_processes(MIRROR))
    return Served(REGISTRY)


def mirror() -> None:
    """Write our figures to the files of multi-process mode, while no fork begins."""
    with_registry(MIRROR.write)


def retire() -> None:
    """Write them for the last time."""
    with_registry(MIRROR.retire)


Scope = Mapping[str, object]
Send = Callable[[dict[str, object]], Awaitable[None]]
AsgiApp = Callable[[Scope, object, Send], Awaitable[None]]


def wsgi_app() -> "WSGIApplication":
    """``/metrics`` as a WSGI application."""
    return cast("WSGIApplication", make_wsgi_app(served()))


def asgi_app() -> AsgiApp:
    """``/metrics`` as an ASGI application; a thread makes the text, which takes milliseconds."""
    shown = served()

    async def metrics(scope: Scope, receive: object, send: Send) -> None:
        del receive
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _send(send, 405, [(b"allow", b"GET, HEAD")], b"")
            return
        asked = _Asked.of(scope)
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # another kind of event loop
            headers, body = asked.answer(shown)
        else:
            headers, body = await asyncio.to_thread(asked.answer, shown)
        await _send(send, 200, headers, b"" if scope["method"] == "HEAD" else body)

    return metrics


class _Asked(NamedTuple):
    """The kind of text, its coding and the metrics that a request asks for."""

    accept: str
    gzipped: bool
    names: Sequence[str]

    @classmethod
    def of(cls, scope: Scope) -> Self:
        given: dict[bytes, list[str]] = {}
        for name, value in cast("Iterable[tuple[bytes, bytes]]", scope["headers"]):
            given.setdefault(name.lower(), []).append(value.decode("latin-1"))
        codings = ",".join(given.get(b"accept-encoding", ())).split(",")
        query = cast("bytes", scope.get("query_string", b""))
        return cls(
            ",".join(given.get(b"accept", ())),
            any(coding.partition(";")[0].strip().lower() == "gzip" for coding in codings),
            parse_qs(query.decode("latin-1")).get("name[]", ()),
        )

    def answer(self, shown: Served) -> tuple[Headers, bytes]:
        encode, content_type = choose_encoder(self.accept)
        body = encode(shown.restricted_registry(self.names) if self.names else shown)
        headers = [(b"content-type", content_type.encode()), (b"vary", b"accept, accept-encoding")]
        if self.gzipped:
            body = gzip.compress(body, GZIP_LEVEL)
            headers.append((b"content-encoding", b"gzip"))
        return headers, body


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Port:
    """``/metrics`` on an address of its own; the first worker to listen serves it.

    Args:
        host: to listen on.
        port: to listen on.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: WSGIServer | ScrapeServer | None = None
        self._refused = False

    def open(self) -> None:
        """Listen, unless it does already or the address is taken; so this may be tried again."""
        if self._server is not None:
            return
        try:
            self._server = self._listening(served())
        except OSError as error:
            if not self._refused:
                _LOGGER.info("no metrics on %s:%d: %s", self._host, self._port, error)
            self._refused = True

    def _listening(self, shown: Served) -> WSGIServer | ScrapeServer:
        if native.are_threads_green():
            return ScrapeServer(
                self._host, self._port, lambda scope: _Asked.of(scope).answer(shown)
            )
        return start_http_server(self._port, self._host, shown)[0]

    def close(self) -> None:
        """Stop listening; does not wait for that."""
        server, self._server = self._server, None
        if server is not None:
            threading.Thread(target=_close, args=(server,), daemon=True).start()

    def leave_to_parent(self) -> None:
        """Close the parent's socket in a child process, where it would keep the port taken."""
        server, self._server = self._server, None
        if server is not None:
            server.socket.close()


def _answer(shown: Served, scope: Scope) -> tuple[Headers, bytes]:
    return _Asked.of(scope).answer(shown)


def _close(server: WSGIServer | ScrapeServer) -> None:
    server.shutdown()
    server.server_close()
