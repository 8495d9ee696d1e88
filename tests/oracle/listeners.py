"""The real listeners on loopback, each on a free port, in one background event loop."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc
import uvicorn
from fastapi import FastAPI
from recording_committer import RecordingCommitter

from heatshield_collector.authenticator import AdminTokenAuthenticator
from heatshield_collector.intake.grpc import GrpcListener
from heatshield_collector.intake.http import routes
from heatshield_collector.ports import Authenticator

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread, so that blocking clients can run in the test's own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="listeners")

    def start(self) -> None:
        self._thread.start()

    def run(self, work: Awaitable[T]) -> T:
        async def waited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self.loop).result(timeout=30)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextmanager
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


@contextmanager
def http_listener(
    thread: LoopThread,
    committer: RecordingCommitter,
    limit_bytes: int,
    authenticator: Authenticator | None = None,
) -> Iterator[str]:
    """OTLP/HTTP on uvicorn as a part of a FastAPI application; yields its address."""
    app = FastAPI()
    app.router.routes.extend(
        routes(committer, limit_bytes, committer, authenticator or AdminTokenAuthenticator())
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.run_coroutine_threadsafe(server.serve([listening]), thread.loop)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            serving.result(timeout=30)


@contextmanager
def grpc_listener(
    thread: LoopThread,
    committer: RecordingCommitter,
    limit_bytes: int,
    authenticator: Authenticator | None = None,
    further: Iterable[grpc.GenericRpcHandler] = (),
) -> Iterator[str]:
    """OTLP/gRPC and further services; yields ``host:port``."""
    listener = GrpcListener(
        committer, limit_bytes, committer, authenticator or AdminTokenAuthenticator(), further
    )
    port = thread.run(listener.start("127.0.0.1:0"))
    try:
        yield f"127.0.0.1:{port}"
    finally:
        thread.run(listener.stop(grace_s=0))
