"""thriftpy2, both sides: where it is patched, each of its modules as it is imported.

What happens then stands in ``thrift_server`` and ``thrift_client``.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from heatshield.integrations.import_hooks import ImportHooks, ImportPatch
from heatshield.integrations.rpc.thrift_client import Calling
from heatshield.integrations.rpc.thrift_server import Processing, answering, noticing
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "thrift"

Function = Callable[..., Any]


def _points(services: Services) -> tuple[ImportPatch, ...]:
    calling, serving = Calling(services), Processing(services)
    starting, starting_async = _starting(services.serving), _starting_async(services.serving)
    thrift, aio = "thriftpy2.thrift", "thriftpy2.contrib.aio."
    return (
        ImportPatch(thrift, "TClient", "_req", calling.calling),
        ImportPatch(thrift, "TClient", "_send", calling.sending),
        ImportPatch(thrift, "TProcessor", "process_in", serving.reading),
        ImportPatch(thrift, "TMultiplexedProcessor", "process_in", serving.reading),
        ImportPatch(thrift, "TProcessor", "handle_exception", noticing),
        ImportPatch(thrift, "TProcessor", "send_result", answering),
        ImportPatch(
            "thriftpy2.contrib.tracking", "TTrackedProcessor", "_process_in", serving.reading
        ),
        ImportPatch(aio + "client", "TAsyncClient", "_req", calling.calling_async),
        ImportPatch(aio + "client", "TAsyncClient", "_send", calling.sending),
        ImportPatch(aio + "processor", "TAsyncProcessor", "process_in", serving.reading_async),
        ImportPatch(aio + "processor", "TAsyncProcessor", "handle_exception", noticing),
        ImportPatch(aio + "processor", "TAsyncProcessor", "send_result", answering),
        ImportPatch("thriftpy2.server", "TSimpleServer", "serve", starting),
        ImportPatch("thriftpy2.server", "TThreadedServer", "serve", starting),
        ImportPatch("thriftpy2.http", "THttpServer", "serve", starting),
        ImportPatch(aio + "server", "TAsyncServer", "init_server", starting),
        ImportPatch(aio + "http", "TAsyncHttpServer", "serve", starting_async),
    )


_PARTS: Final = ImportHooks(NAME)


def install(services: Services) -> None:
    """Patch clients, processors and servers; replaces an earlier patch."""
    _PARTS.install(_points(services))


def remove() -> None:
    """Take all of it out again."""
    _PARTS.remove()


def _starting(serving: Callable[[], object]) -> Callable[[Function], Function]:
    def wrap(original: Function) -> Function:
        @wraps(original)
        def serve(server: Any) -> Any:
            serving()
            return original(server)

        return serve

    return wrap


def _starting_async(serving: Callable[[], object]) -> Callable[[Function], Function]:
    def wrap(original: Function) -> Function:
        @wraps(original)
        async def serve(server: Any) -> Any:
            serving()
            return await original(server)

        return serve

    return wrap
