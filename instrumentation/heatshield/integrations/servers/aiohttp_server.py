"""aiohttp's server: every application, whether it was made before or after ``instrument()``.

Our own patches and not OpenTelemetry's subclass, which misses applications that exist, fails for
middlewares in a tuple, and opens two spans for an application within another. Where the service has
it, its span is joined.

From the outside in: the server's request (span, user), the service's middlewares, the handler that
the router chose (the call's name, refusal).
"""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from types import CodeType
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_urldispatcher import SystemRoute, UrlMappingMatchInfo

from heatshield.charges.steps import stepped
from heatshield.context.attachment import attach, detach
from heatshield.counters import fail_open
from heatshield.integrations.patches import AsyncOriginal, AsyncWrapper, Patches
from heatshield.integrations.servers.asgi_types import Message
from heatshield.integrations.servers.refusal import answer_to
from heatshield.integrations.servers.server_request import (
    KEY,
    LISTS,
    Headers,
    RequestLifecycle,
    ServerRequest,
)
from heatshield.integrations.services import Services
from heatshield.tracing.values import Attributes

__all__ = ["NAME", "install", "remove"]

NAME: Final = "aiohttp_server"

_THEIRS: Final = "opentelemetry.instrumentation.aiohttp_server"
_GUARDED: Final = "_heatshield_guarded"
"""Attribute of a route: its handler with what stands before it."""

# What has no such keys yet warns of no texts either.
_KEY: Final[Any] = web.RequestKey(KEY, ServerRequest) if hasattr(web, "RequestKey") else KEY
"""Where a request's ``ServerRequest`` stands in it."""

_PATCHES: Final = Patches()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Done = web.StreamResponse | tuple[web.StreamResponse, bool]
"""What aiohttp's server makes of a request, by its version."""


def install(services: Services) -> None:
    """Patch aiohttp's server; replaces an earlier patch.

    Raises:
        AttributeError: if something is not there; then nothing is patched.
    """
    _PATCHES.undo()
    lifecycle = RequestLifecycle(NAME, services)
    for owner, name in ((RequestHandler, "_handle_request"), (web.View, "_iter")):
        getattr(owner, name)
    caller = inspect.unwrap(web.Application._handle).__code__  # noqa: SLF001  # it calls handlers
    _PATCHES.wrap(RequestHandler, "_handle_request", _entering(lifecycle, services))
    _PATCHES.wrap(UrlMappingMatchInfo, "handler", lambda found: _finding(lifecycle, found, caller))
    _PATCHES.wrap(web.View, "_iter", _viewing(lifecycle))
    _PATCHES.wrap(web.Application, "startup", _starting(services))
    _PATCHES.wrap(web.Application, "cleanup", _cleaning(services))


def remove() -> None:
    """Take all of it out again."""
    _PATCHES.undo()
    RequestLifecycle.retire(NAME)


# -- where a request comes in ----------------------------------------------------------------------


def _entering(lifecycle: RequestLifecycle, services: Services) -> AsyncWrapper:
    metrics_path, page = services.settings.metrics_path, _paging(services)

    def wrap(original: AsyncOriginal) -> AsyncOriginal:
        @wraps(original)
        async def handle_request(
            protocol: object, request: web.Request, start_time: object, request_handler: Handler
        ) -> object:
            if metrics_path and request.path == metrics_path:
                return await original(protocol, request, start_time, page)
            served = None if _has_theirs(request_handler) else _open(lifecycle, request)
            if served is None:
                return await original(protocol, request, start_time, request_handler)
            handler = _answering(lifecycle, served, request_handler)
            token = None if served.context is None else attach(served.context)
            try:
                work = original(protocol, request, start_time, handler)
                done = await stepped(work, served.request)
                _note(lifecycle, served, request, cast("_Done", done))
                return done
            finally:
                if token is not None:
                    detach(token)
                lifecycle.close(served)

        return handle_request

    return wrap


def _answering(lifecycle: RequestLifecycle, served: ServerRequest, handler: Handler) -> Handler:
    """Surround the whole application: what leaves it may be a rejection."""

    async def answering(request: web.Request) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            _complete(lifecycle, served, error)
            raise
        except Exception as error:
            answer = _answered(error)
            if answer is None:
                lifecycle.failed(served, error)
                raise
            return answer
        _complete(lifecycle, served, response)
        return response

    return answering


@fail_open(NAME, None)
def _complete(
    lifecycle: RequestLifecycle, served: ServerRequest, response: web.StreamResponse
) -> None:
    """Put on an answer what it lacks where it passes a rejection on, unless its head is out."""
    missing = lifecycle.answered(served, response.status, response.headers.items())
    if missing and not response.prepared:
        response.headers.update(missing)


def _paging(services: Services) -> Handler:
    """The handler of ``metrics_path``, which is made for ASGI."""

    async def page(request: web.Request) -> web.StreamResponse:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [
            (name.lower().encode(), value.encode()) for name, value in request.headers.items()
        ]
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "query_string": request.query_string.encode(),
            "headers": headers,
        }
        await services.page()(scope, None, send)
        head, *bodies = sent
        return web.Response(
            status=head["status"],
            headers=[(name.decode(), value.decode()) for name, value in head["headers"]],
            body=b"".join(one.get("body", b"") for one in bodies),
        )

    return page


@fail_open(NAME, None)
def _open(lifecycle: RequestLifecycle, request: web.Request) -> ServerRequest | None:
    if lifecycle.is_excluded(request.path):
        return None
    attributes: Attributes = {
        "http.request.method": request.method,
        "url.scheme": request.scheme,
        "url.path": request.path,
    }
    if request.query_string:
        attributes["url.query"] = request.query_string
    if request.remote:
        attributes["client.address"] = request.remote
    if agent := request.headers.get("User-Agent"):
        attributes["user_agent.original"] = agent
    headers = _headers_of(request, lifecycle.wanted)
    query = request.rel_url.raw_query_string.encode("utf-8", "surrogatepass")
    served = lifecycle.open(request.method, attributes, headers, query)
    request[_KEY] = served
    return served


def _headers_of(request: web.Request, wanted: Iterable[bytes]) -> Headers:
    """Those headers of a request that are looked at."""
    headers: dict[bytes, bytes] = {}
    for name in wanted:
        values = request.headers.getall(name.decode("latin-1"), None)
        text = (",".join(values) if name in LISTS else values[0]) if values else ""
        if text:
            # aiohttp reads them so; back to the bytes that came, two users stay two.
            headers[name] = text.encode("utf-8", "surrogateescape")
    return headers


@fail_open(NAME, False)
def _has_theirs(handler: object) -> bool:
    """Whether OpenTelemetry's middleware is in the application."""
    if _THEIRS not in sys.modules:
        return False
    app = getattr(handler, "__self__", None)
    middlewares = getattr(app, "middlewares", ())
    return any(getattr(one, "__module__", "") == _THEIRS for one in middlewares)


@fail_open(NAME, None)
def _note(
    lifecycle: RequestLifecycle, served: ServerRequest, request: web.Request, done: _Done
) -> None:
    """Say how it was answered, now that the answer is out."""
    response: web.StreamResponse = done[0] if isinstance(done, tuple) else done
    lifecycle.answered(served, response.status, response.headers.items())
    served.received = int(request.content.total_bytes)
    served.sent = _sent(response)


def _sent(response: web.StreamResponse) -> int:
    """Bytes of body: aiohttp counts the head, too."""
    lines = sum(len(name) + len(value) + 4 for name, value in response.headers.items())
    head = len(f"HTTP/1.1 {response.status} {response.reason}") + 2 + lines + 2
    return max(0, int(response.body_length) - head)


# -- right before the handler ----------------------------------------------------------------------


def _finding(lifecycle: RequestLifecycle, found: Any, caller: CodeType) -> Any:
    """The property that tells a match's handler, surrounded where the router's caller asks.

    Other code that asks, such as a middleware that compares it, gets the service's own.
    """

    def handler(match: Any) -> Any:
        own = found.fget(match)
        if sys._getframe(1).f_code is not caller:  # noqa: SLF001  # the only way to know who asks
            return own
        return _guarded(lifecycle, match.route, own)

    return property(handler)


def _guarded(lifecycle: RequestLifecycle, route: Any, own: Any) -> Any:
    if isinstance(own, type) or isinstance(route, SystemRoute):
        return own  # views are surrounded themselves; a system's route answers 404 or 405
    known = route.__dict__.get(_GUARDED)
    if known is not None and known[0] is own and known[1] is lifecycle:
        return known[2]

    @wraps(own)
    async def guarded(request: web.Request) -> web.StreamResponse:
        return await _within(lifecycle, request, own)

    setattr(
        route, _GUARDED, (own, lifecycle, guarded)
    )  # aiohttp caches by the identity of handlers
    return guarded


def _viewing(lifecycle: RequestLifecycle) -> AsyncWrapper:
    def wrap(original: AsyncOriginal) -> AsyncOriginal:
        @wraps(original)
        async def run(view: web.View) -> web.StreamResponse:
            handler = cast("Handler", lambda _: original(view))
            return await _within(lifecycle, view.request, handler)

        return run

    return wrap


async def _within(
    lifecycle: RequestLifecycle, request: web.Request, handler: Handler
) -> web.StreamResponse:
    answer = _admit(lifecycle, request)
    if answer is not None:
        return answer
    served: ServerRequest | None = request.get(_KEY)
    if served is not None and served.place is not None:
        refusal = await lifecycle.turn(served)
        answer = None if refusal is None else _answered(refusal)
        if answer is not None:
            return answer
    context = None if served is None or served.ours else served.context
    token = None if context is None else attach(context)
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception as error:
        answer = _answered(error)
        if answer is None:
            raise
        return answer
    finally:
        if token is not None:
            detach(token)


@fail_open(NAME, None)
def _admit(lifecycle: RequestLifecycle, request: web.Request) -> web.Response | None:
    """What answers a request whose handler must not run."""
    served: ServerRequest | None = request.get(_KEY)
    if served is None:
        query = request.rel_url.raw_query_string.encode("utf-8", "surrogatepass")
        headers = _headers_of(request, lifecycle.wanted)
        served = request[_KEY] = lifecycle.join(request.method, headers, query)
    resource = request.match_info.route.resource
    if served is None or resource is None:
        return None
    static = isinstance(resource, web.StaticResource)
    refusal = lifecycle.admit(
        served, resource.canonical, request.match_info, static=static, waits=True
    )
    return None if refusal is None else _answered(refusal)


@fail_open(NAME, None)
def _answered(error: BaseException) -> web.Response | None:
    answer = answer_to(error)
    if answer is None:
        return None
    return web.Response(body=answer.body, status=answer.status, headers=answer.headers)


# -- where a server begins and ends ----------------------------------------------------------------


def _starting(services: Services) -> AsyncWrapper:
    def wrap(original: AsyncOriginal) -> AsyncOriginal:
        @wraps(original)
        async def startup(app: web.Application) -> object:
            services.serving()
            return await original(app)

        return startup

    return wrap


def _cleaning(services: Services) -> AsyncWrapper:
    def wrap(original: AsyncOriginal) -> AsyncOriginal:
        @wraps(original)
        async def cleanup(app: web.Application) -> object:
            try:
                return await original(app)
            finally:
                await asyncio.to_thread(services.flush)

        return cleanup

    return wrap
