"""Runs a collector in the foreground: listen, start, serve, and on a signal drain and stop.

The order matters. The socket is bound first, so that a second collector fails before it touches the
store. On SIGINT or SIGTERM streams end, requests in flight are answered (senders wait for their
payload to be durable, so the pipeline still runs), and only then the collector stops.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import uvicorn
from starlette.types import ASGIApp

from heatshield_alerts.notify import NotifyConfigError
from heatshield_alerts.policy import PolicyError
from heatshield_alerts.rules import RuleError
from heatshield_collector.events import EventHub
from heatshield_collector.http_protocol import BoundedProtocol, Connections
from heatshield_collector.store.protocol import StoreError

if sys.platform != "win32":
    import resource

__all__ = ["GracefulServer", "Serveable", "StartError", "address_of", "listen", "serve"]

IN_FLIGHT_S: Final = 5.0
"""Seconds for requests in flight to be answered after the signal; then they are cut."""

DRAIN_S: Final = 30.0
"""Seconds for the queue to reach the disk; what senders were not told is durable may be lost."""

KEEP_ALIVE_S: Final = 75
"""Idle connections live longer than the pauses of exporters, which would else race our close."""

BACKLOG: Final = 2_048

MOST_DESCRIPTORS: Final = 65_536
"""Open files and connections that are asked for, where the system allows as many."""

KEPT_DESCRIPTORS: Final = 256
"""Of those, what is no HTTP connection: the store's files, gRPC, notifications."""

START_FAILURES: Final = (
    OSError,
    StoreError,
    RuleError,
    PolicyError,
    NotifyConfigError,
)
"""What an operator can put right; anything else is a defect and keeps its traceback."""

_log = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class StartError(Exception):
    """The collector can't run; one line that says why and what to do."""


class Serveable(Protocol):
    """What is served: the collector, as its composition root makes it."""

    events: EventHub

    awaited: str
    """What :meth:`stop` still waits for, once the queue is on the disk; until then empty."""

    def asgi(self) -> ASGIApp:
        """The ASGI application."""
        ...

    async def start(self) -> None:
        """Open the store, begin to take in. When it raises, nothing is left running."""
        ...

    async def stop(self) -> None:
        """Bring what was taken in to the disk and let go of everything. It is cancelled when that
        takes too long; see :func:`~heatshield_collector.daemon_thread.in_daemon_thread`.
        """
        ...


class GracefulServer(uvicorn.Server):
    """Uvicorn that ends endless responses first, and leaves signals to :func:`serve`.

    Uvicorn itself would raise the signal again when it is done, before the queue is drained.

    Args:
        app: the ASGI application.
        end_streams: called first when it ends.

    Attributes:
        ending: called then, in a thread, while requests are still answered.
    """

    def __init__(self, app: ASGIApp, end_streams: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # anybody can write them; nothing here asks who is in front
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(IN_FLIGHT_S),
            )
        )
        self._end_streams = end_streams
        self.ending: Callable[[], object] = _nothing

        most = max(KEPT_DESCRIPTORS, descriptor_limit() - KEPT_DESCRIPTORS)
        # One address may be that of a proxy in front of everybody, so it may have half of all.
        self.server_state = Connections(most, most // 2)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in flight, then close."""
        self._end_streams()
        await asyncio.to_thread(self.ending)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    @contextlib.contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Have SIGINT and SIGTERM stop this server. A second SIGINT does not wait for requests."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    collector: Serveable,
    listener: socket.socket,
    started: Callable[[], None],
    drain_s: float = DRAIN_S,
    ending: Callable[[], object] | None = None,
) -> None:
    """Run until a signal comes.

    Args:
        collector: not started yet; stopped on return.
        listener: from :func:`listen`; closed on return.
        started: called when requests are about to be answered.
        drain_s: seconds for the queue to reach the disk.
        ending: called in a thread at the signal, while requests are still answered.

    Raises:
        StartError: when the collector can't start, or can't stop in time; then it says what for.
    """
    raise_descriptor_limit()
    server = GracefulServer(collector.asgi(), collector.events.close)
    server.ending = ending or _nothing
    with (
        contextlib.closing(listener),
        server.stopped_by_signals(),
        asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner,
    ):
        runner.run(_serve(server, collector, listener, started, drain_s))


async def _serve(
    server: GracefulServer,
    collector: Serveable,
    listener: socket.socket,
    started: Callable[[], None],
    drain_s: float,
) -> None:
    try:
        await collector.start()
    except START_FAILURES as error:
        raise StartError(str(error)) from error
    try:
        started()
        await server.serve([listener])
    finally:
        await _drain(collector, drain_s)


async def _drain(collector: Serveable, drain_s: float) -> None:
    try:
        await asyncio.wait_for(collector.stop(), drain_s)
    except TimeoutError as error:
        if collector.awaited:
            text = f"everything acknowledged is on the disk, but {collector.awaited} {drain_s:g} s "
            text += "after the requests had ended; stopped all the same"
        else:
            text = f"the queue did not reach the disk within {drain_s:g} s; stopped without it"
        raise StartError(text) from error


def _nothing() -> None:
    """Where nothing is to be done."""


def descriptor_limit() -> int:
    """How many files and connections this process may have open; a guess where none is told."""
    if sys.platform == "win32":
        return MOST_DESCRIPTORS
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], MOST_DESCRIPTORS)


def raise_descriptor_limit() -> None:
    """Ask for as many as the system allows, up to :data:`MOST_DESCRIPTORS`: shells give 1,024."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        _log.warning("the limit of open files stays %d", soft)


def listen(address: str) -> socket.socket:
    """A listening socket.

    Args:
        address: ``HOST:PORT``; an IPv6 address in brackets; port 0 for any free one.

    Raises:
        StartError: when it is no address or can't be listened on.
    """
    host, port = _parse(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(f"can't listen on {address}: {error.strerror or error}") from error
    try:
        if os.name == "posix":  # elsewhere it would let two collectors share one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(f"can't listen on {address}: {_advice(error)}") from error
    return listener


def address_of(listener: socket.socket) -> str:
    """``HOST:PORT`` that a socket listens on."""
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse(address: str) -> tuple[str | None, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004
        raise StartError(f"{address!r} is not an address: say HOST:PORT, such as 127.0.0.1:4318")
    return host.strip("[]") or None, int(port)


def _advice(error: OSError) -> str:
    text = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE:
        return f"{text}; is another collector running? Choose another port with --http"
    return text
