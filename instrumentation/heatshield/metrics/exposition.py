"""``/metrics`` of a service: mounted in its application, or on a port of its own.

In multi-process mode it shows the sum over all workers, else the registry of the process that is
asked; in OpenMetrics with exemplars where that is asked for.
"""

import asyncio
import gzip
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Self
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIServer

from prometheus_client import REGISTRY, make_wsgi_app, start_http_server
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from heatshield.metrics import multiprocess
from heatshield.metrics.families import OWN
from heatshield.process.fork_guard import unforked

__all__ = ["MIRROR", "Port", "Served", "asgi_app", "mirror", "retire", "served", "wsgi_app"]

GZIP_LEVEL: Final = 1
"""Text of this kind shrinks to a tenth already."""

_LOGGER: Final = logging.getLogger("heatshield")

MIRROR: Final = multiprocess.Mirror(OWN)
"""This process's."""


class Served(Collector):
    """What a scrape gets to see, while nobody forks.

    Args:
        registry: what it reads.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """All of it, read at once."""
        with unforked():
            return list(self._registry.collect())

    def restricted_registry(self, names: Iterable[str]) -> Collector:
        """What of it the scrape asks for by ``name[]``."""
        restricted: Any = self._registry.restricted_registry(names)
        return Served(restricted)


def served() -> Served:
    """All workers' values in multi-process mode, else the service's own registry."""
    if multiprocess.in_use():
        return Served(multiprocess.over_processes(MIRROR))
    return Served(REGISTRY)


def mirror() -> None:
    """Write our figures to the files of multi-process mode, while nobody forks."""
    with unforked():
        MIRROR.write()


def retire() -> None:
    """Write them for the last time."""
    with unforked():
        MIRROR.retire()


def wsgi_app() -> Callable[[Any, Any], Any]:
    """``/metrics`` as a WSGI application."""
    made: Callable[[Any, Any], Any] = make_wsgi_app(served())
    return made


def asgi_app() -> Callable[[Any, Any, Any], Awaitable[None]]:
    """``/metrics`` as an ASGI application; it is made in a thread, for that takes milliseconds."""
    shown = served()

    async def metrics(scope: Any, receive: Any, send: Any) -> None:
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


_Headers = list[tuple[bytes, bytes]]


class _Asked(NamedTuple):
    """What a request asks for."""

    accept: str
    gzipped: bool
    names: Sequence[str]

    @classmethod
    def of(cls, scope: Any) -> Self:
        given: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.lower(), []).append(value.decode("latin-1"))
        codings = ",".join(given.get(b"accept-encoding", ())).split(",")
        return cls(
            ",".join(given.get(b"accept", ())),
            any(coding.partition(";")[0].strip().lower() == "gzip" for coding in codings),
            parse_qs(scope.get("query_string", b"").decode("latin-1")).get("name[]", ()),
        )

    def answer(self, shown: Served) -> tuple[_Headers, bytes]:
        encode, content_type = choose_encoder(self.accept)
        body = encode(shown.restricted_registry(self.names) if self.names else shown)
        headers = [(b"content-type", content_type.encode()), (b"vary", b"accept, accept-encoding")]
        if self.gzipped:
            body = gzip.compress(body, GZIP_LEVEL)
            headers.append((b"content-encoding", b"gzip"))
        return headers, body


async def _send(send: Any, status: int, headers: _Headers, body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Port:
    """``/metrics`` on an address of its own; whoever is first among the workers serves it.

    Args:
        host: to listen on.
        port: likewise.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: WSGIServer | None = None
        self._refused = False

    def open(self) -> None:
        """Listen, unless it does already or the address is taken; so this may be tried again."""
        if self._server is not None:
            return
        try:
            self._server, _ = start_http_server(self._port, self._host, served())
        except OSError as error:
            if not self._refused:
                _LOGGER.info("no metrics on %s:%d: %s", self._host, self._port, error)
            self._refused = True

    def close(self) -> None:
        """Listen no more; does not wait for it."""
        server, self._server = self._server, None
        if server is not None:
            threading.Thread(target=_close, args=(server,), daemon=True).start()

    def leave_to_parent(self) -> None:
        """In a child process, let go of the parent's socket: who inherited it would hold the
        port.
        """
        server, self._server = self._server, None
        if server is not None:
            server.socket.close()


def _close(server: WSGIServer) -> None:
    server.shutdown()
    server.server_close()
