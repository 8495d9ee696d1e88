"""httpx, sync and async: local breakers, deadlines and retry budgets of outgoing calls.

A call is one exchange of a transport, so each redirect is one, and mocked transports are none. Its
peer is host and port; its name is the method, with the operation of this service that calls:
httpx knows no route, and a path has ids in it.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final

from heatshield.context.deadline import milliseconds
from heatshield.context.request import call_in
from heatshield.counters import fail_open
from heatshield.integrations.clients.http_outcome import http_outcome
from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services
from heatshield.names import DEADLINE_HEADER
from heatshield.resilience.downstream import DOWNSTREAM, Begun
from heatshield.resilience.local_breaker import Outcome

__all__ = ["NAME", "install", "remove"]

NAME: Final = "downstream_httpx"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Stand before every transport, if the settings want anything of it.

    Raises:
        ImportError: if httpx is not installed.
    """
    import httpx

    remove()
    if DOWNSTREAM.install(NAME, services.settings):
        _PATCHES.wrap(httpx.HTTPTransport, "handle_request", _around)
        _PATCHES.wrap(httpx.AsyncHTTPTransport, "handle_async_request", _around_async)


def remove() -> None:
    """Take it out again."""
    _PATCHES.undo()
    DOWNSTREAM.remove(NAME)


def _around(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def handle_request(transport: Any, request: Any) -> Any:
        begun = _begin(request)
        if begun is None:
            return original(transport, request)
        try:
            response = original(transport, request)
        except BaseException as error:
            _failed(begun, error)
            raise
        begun.end(http_outcome(response))
        return response

    return handle_request


def _around_async(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(original)
    async def handle_async_request(transport: Any, request: Any) -> Any:
        begun = _begin(request)
        if begun is None:
            return await original(transport, request)
        try:
            response = await original(transport, request)
        except BaseException as error:
            _failed(begun, error)
            raise
        begun.end(http_outcome(response))
        return response

    return handle_async_request


def _begin(request: Any) -> Begun | None:
    if DOWNSTREAM.idle:
        return None
    begun = DOWNSTREAM.begin(_peer(request), str(request.method), call_in)
    if begun is not None and begun.left_s is not None:
        _pass_on(request, begun)
    return begun


@fail_open(NAME, "")
def _peer(request: Any) -> str:
    return str(request.url.netloc, "ascii")


@fail_open(NAME, None)
def _pass_on(request: Any, begun: Begun) -> None:
    """Tell the service how much time there is, and wait no longer than that."""
    own = request.extensions.get("timeout", {})
    steps = {name: begun.timeout_s(own.get(name)) for name in ("connect", "read", "write", "pool")}
    request.extensions = {**request.extensions, "timeout": steps}
    request.headers[DEADLINE_HEADER] = milliseconds(begun.left_s or 0.0)


@fail_open(NAME, None)
def _failed(begun: Begun, error: BaseException) -> None:
    import httpx

    if isinstance(error, httpx.TimeoutException):
        begun.timed_out()
    elif isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        begun.end(Outcome.CUT)
    elif isinstance(error, httpx.TransportError):
        begun.end(Outcome.FAILURE)
    else:
        begun.end(Outcome.CUT)
