"""thriftpy2, both sides: where it is patched, each of its modules as it is imported.

What happens then stands in ``thrift_server`` and ``thrift_client``.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from heatshield.integrations.import_hooks import Parts, Point
from heatshield.integrations.rpc.thrift_client import Calling
from heatshield.integrations.rpc.thrift_server import Serving, answering, noticing
from heatshield.integrations.services import Equipment

__all__ = ["NAME", "install", "remove"]

NAME: Final = "thrift"

Function = Callable[..., Any]


def _points(equipment: Equipment) -> tuple[Point, ...]:
    calling, serving = Calling(equipment), Serving(equipment)
    starting, starting_async = _starting(equipment.serving), _starting_async(equipment.serving)
    thrift, aio = "thriftpy2.thrift", "thriftpy2.contrib.aio."
    return (
        Point(thrift, "TClient", "_req", calling.calling),
        Point(thrift, "TClient", "_send", calling.sending),
        Point(thrift, "TProcessor", "process_in", serving.reading),
        Point(thrift, "TMultiplexedProcessor", "process_in", serving.reading),
        Point(thrift, "TProcessor", "handle_exception", noticing),
        Point(thrift, "TProcessor", "send_result", answering),
        Point("thriftpy2.contrib.tracking", "TTrackedProcessor", "_process_in", serving.reading),
        Point(aio + "client", "TAsyncClient", "_req", calling.calling_async),
        Point(aio + "client", "TAsyncClient", "_send", calling.sending),
        Point(aio + "processor", "TAsyncProcessor", "process_in", serving.reading_async),
        Point(aio + "processor", "TAsyncProcessor", "handle_exception", noticing),
        Point(aio + "processor", "TAsyncProcessor", "send_result", answering),
        Point("thriftpy2.server", "TSimpleServer", "serve", starting),
        Point("thriftpy2.server", "TThreadedServer", "serve", starting),
        Point("thriftpy2.http", "THttpServer", "serve", starting),
        Point(aio + "server", "TAsyncServer", "init_server", starting),
        Point(aio + "http", "TAsyncHttpServer", "serve", starting_async),
    )


_PARTS: Final = Parts(NAME)


def install(equipment: Equipment) -> None:
    """Patch clients, processors and servers; replaces an earlier patch."""
    _PARTS.install(_points(equipment))


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
