"""thriftpy2, both sides: where it is patched, each of its modules as it is imported.

What happens then stands in ``thrift_server`` and ``thrift_client``.
"""

import sys
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final, NamedTuple

from wrapt.importer import register_post_import_hook

from heatshield.counters import fail_open
from heatshield.integrations.equipment import Equipment
from heatshield.integrations.patching import Patches
from heatshield.integrations.thrift_client import Calling
from heatshield.integrations.thrift_server import Serving, answering, noticing

__all__ = ["NAME", "install", "remove"]

NAME: Final = "thrift"

Function = Callable[..., Any]


class Point(NamedTuple):
    """A method to be patched."""

    module: str
    owner: str
    method: str
    wrapper: Callable[[Function], Function]


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


class _Patched:
    """What is to be patched now; hooks of imports can't be taken back, and lead to here."""

    def __init__(self) -> None:
        self._patches = Patches()
        self._points: tuple[Point, ...] = ()
        self._hooked: set[str] = set()

    def install(self, points: tuple[Point, ...]) -> None:
        self.remove()
        self._points = points
        for name in dict.fromkeys(point.module for point in points):
            if name in sys.modules:
                self._patch(sys.modules[name])
            elif name not in self._hooked:
                self._hooked.add(name)
                register_post_import_hook(self._imported, name)

    def remove(self) -> None:
        self._points = ()
        self._patches.undo()

    @fail_open("thrift", None)
    def _imported(self, module: ModuleType) -> None:
        self._patch(module)  # an error in a hook would fail the service's import

    def _patch(self, module: ModuleType) -> None:
        for point in self._points:
            if point.module == module.__name__:
                self._patches.wrap(getattr(module, point.owner), point.method, point.wrapper)


_PATCHED: Final = _Patched()


def install(equipment: Equipment) -> None:
    """Patch clients, processors and servers; replaces an earlier patch."""
    _PATCHED.install(_points(equipment))


def remove() -> None:
    """Take all of it out again."""
    _PATCHED.remove()


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
