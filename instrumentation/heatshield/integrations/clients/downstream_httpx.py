"""httpx, sync and async: local breakers, deadlines and retry budgets of outgoing calls.

A call is one exchange of a transport, so each redirect is one, and mocked transports make none. Its
peer is host and port; its name is the method, with the operation of this service that calls:
httpx knows no route, and a path has ids in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from heatshield.context.deadline import milliseconds
from heatshield.context.request import call_in
from heatshield.counters import fail_open
from heatshield.integrations.clients.http_outcome import http_outcome
from heatshield.integrations.clients.httpx import copy_of
from heatshield.integrations.patches import Args, Kwargs, Patches, around, around_async
from heatshield.integrations.services import Services
from heatshield.names import DEADLINE_HEADER
from heatshield.resilience.downstream import DOWNSTREAM, Begun
from heatshield.resilience.local_breaker import Outcome

if TYPE_CHECKING:
    import httpx

__all__ = ["NAME", "install", "remove"]

NAME: Final = "downstream_httpx"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Ask before each exchange of a transport, if the settings want anything asked.

    Raises:
        ImportError: if httpx is not installed.
    """
    import httpx

    remove()
    if DOWNSTREAM.install(NAME, services.settings):
        _PATCHES.wrap(
            httpx.HTTPTransport, "handle_request", around(_begin, _end, _failed, _instead)
        )
        asynchronous = around_async(_begin, _end, _failed, _instead)
        _PATCHES.wrap(httpx.AsyncHTTPTransport, "handle_async_request", asynchronous)


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()
    DOWNSTREAM.remove(NAME)


def _begin(
    _transport: object, args: tuple[httpx.Request, ...], kwargs: dict[str, httpx.Request]
) -> Begun | None:
    if DOWNSTREAM.idle:
        return None
    request = args[0] if args else kwargs["request"]
    return DOWNSTREAM.begin(_peer(request), str(request.method), call_in)


@fail_open(NAME, "")
def _peer(request: httpx.Request) -> str:
    return str(request.url.netloc, "ascii")


def _instead(begun: Begun, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    if begun.left_s is None:
        return args, kwargs
    request = cast("httpx.Request", args[0] if args else kwargs["request"])
    return (_passed_on(request, begun) or request,), {}


@fail_open(NAME, None)
def _passed_on(request: httpx.Request, begun: Begun) -> httpx.Request:
    """Tell the called service how much time is left, and wait no longer than that.

    In a copy: the service may send the request again, with another deadline or none.
    """
    own: dict[str, float | None] = request.extensions.get("timeout", {})
    steps = {name: begun.timeout_s(own.get(name)) for name in ("connect", "read", "write", "pool")}
    headers = request.headers.copy()
    headers[DEADLINE_HEADER] = milliseconds(begun.left_s or 0.0)
    return copy_of(request, headers=headers, extensions={**request.extensions, "timeout": steps})


def _end(begun: Begun, response: httpx.Response) -> None:
    begun.end(http_outcome(response))


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
