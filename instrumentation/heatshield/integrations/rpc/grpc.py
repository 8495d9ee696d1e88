"""gRPC, sync and aio, both sides: where it is patched.

What happens then stands in ``grpc_server`` and ``grpc_client``.

Classes are patched and not the functions that make their objects, so it doesn't matter how a server
or a channel was made, nor by which name the function was imported.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final

from grpc import _channel, _server
from grpc.aio import _channel as aio_channel
from grpc.aio import _server as aio_server

from heatshield.integrations.patches import Patches
from heatshield.integrations.rpc.grpc_client import Calling
from heatshield.integrations.rpc.grpc_refusals import refusing, refusing_started
from heatshield.integrations.rpc.grpc_server import (
    AdmissionInterceptor,
    AsyncAdmissionInterceptor,
    AsyncCallInterceptor,
    CallInterceptor,
    IncomingCalls,
)
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "grpc"

INTERCEPTORS_AT: Final = 2
"""Where a server's interceptors stand: after its pool and handlers."""

_UNARY_STUBS: Final = ("_UnaryUnaryMultiCallable", "_StreamUnaryMultiCallable")
_STREAM_STUBS: Final = (
    "_UnaryStreamMultiCallable",
    "_SingleThreadedUnaryStreamMultiCallable",
    "_StreamStreamMultiCallable",
)
_ASYNC_STUBS: Final = (
    "UnaryUnaryMultiCallable",
    "UnaryStreamMultiCallable",
    "StreamUnaryMultiCallable",
    "StreamStreamMultiCallable",
)
"""Classes of a channel's methods, by what calling them returns: an answer, or a call."""

_PATCHES: Final = Patches()

Function = Callable[..., Any]


def install(services: Services) -> None:
    """Patch servers and stubs; replaces an earlier patch.

    Raises:
        AttributeError: if a class is not there; then nothing is patched.
    """
    _PATCHES.undo()
    sync_server = getattr(_server, "_Server")  # noqa: B009  # no public name leads to it
    unary = [getattr(_channel, name) for name in _UNARY_STUBS]
    going_on = [getattr(_channel, name) for name in _STREAM_STUBS]
    going_on += [getattr(aio_channel, name) for name in _ASYNC_STUBS]
    calls = IncomingCalls(services)
    _PATCHES.wrap(sync_server, "__init__", _making(CallInterceptor(calls), AdmissionInterceptor()))
    _PATCHES.wrap(sync_server, "start", _starting(services.serving))
    _PATCHES.wrap(
        aio_server.Server,
        "__init__",
        _making(AsyncCallInterceptor(calls), AsyncAdmissionInterceptor()),
    )
    _PATCHES.wrap(aio_server.Server, "start", _starting_async(services.serving))
    calling = Calling(services.propagator)
    # The later is around the earlier: what is refused here has its span, too.
    for blocking, started in ((refusing, refusing_started), (calling.blocking, calling.starting)):
        for stub in unary:
            for method in ("__call__", "with_call"):
                _PATCHES.wrap(stub, method, blocking)
            _PATCHES.wrap(stub, "future", started)
        for stub in going_on:
            _PATCHES.wrap(stub, "__call__", started)


def remove() -> None:
    """Take all of it out again; servers that were made meanwhile keep their interceptors."""
    _PATCHES.undo()


def _making(outer: Any, inner: Any) -> Callable[[Function], Function]:
    def wrap(original: Function) -> Function:
        @wraps(original)
        def init(server: Any, *args: Any, **kwargs: Any) -> None:
            if "interceptors" in kwargs:
                kwargs["interceptors"] = _around(kwargs["interceptors"], outer, inner)
            elif len(args) > INTERCEPTORS_AT:
                theirs = args[INTERCEPTORS_AT]
                before, after = args[:INTERCEPTORS_AT], args[INTERCEPTORS_AT + 1 :]
                args = (*before, _around(theirs, outer, inner), *after)
            original(server, *args, **kwargs)

        return init

    return wrap


def _around(theirs: Sequence[Any] | None, outer: Any, inner: Any) -> list[Any]:
    """The service's interceptors between ours; OpenTelemetry's come first, to find its span."""
    given = list(theirs or ())
    first = max((at + 1 for at, one in enumerate(given) if _is_tracing(one)), default=0)
    return [*given[:first], outer, *given[first:], inner]


def _is_tracing(interceptor: Any) -> bool:
    return type(interceptor).__module__.startswith("opentelemetry.instrumentation.grpc")


def _starting(serving: Callable[[], object]) -> Callable[[Function], Function]:
    def wrap(original: Function) -> Function:
        @wraps(original)
        def start(server: Any) -> None:
            serving()
            original(server)

        return start

    return wrap


def _starting_async(serving: Callable[[], object]) -> Callable[[Function], Function]:
    def wrap(original: Function) -> Function:
        @wraps(original)
        async def start(server: Any) -> None:
            serving()
            await original(server)

        return start

    return wrap
