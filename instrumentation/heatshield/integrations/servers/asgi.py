"""The server side over ASGI: one span a request, the user on it, refusal before the handler runs.

From the outside in: :class:`ServerMiddleware` (around the application: span, user), the framework's
error handling, ``Refusals``, the service's own middleware, ``Refusals`` again, the router, and
:class:`RouteGuard` (around each route's handler: the call's name, refusal). The service's own
middleware runs before the guard, because it may be what names the user; and the router has chosen
by then, so no route is looked for twice.
"""

from typing import Any, Final

from heatshield.charges.steps import stepped
from heatshield.context.attachment import attach, detach
from heatshield.context.request import Request, request_in
from heatshield.counters import fail_open
from heatshield.integrations.admission import Refusal
from heatshield.integrations.content_length import content_length
from heatshield.integrations.servers.asgi_types import App, Message, Receive, Scope, Send
from heatshield.integrations.servers.http_method import method_name
from heatshield.integrations.servers.server_request import (
    KEY,
    LISTS,
    RequestLifecycle,
    ServerRequest,
)
from heatshield.integrations.services import Services
from heatshield.rejection import REFUSAL_STATUSES
from heatshield.tracing.values import Attributes

__all__ = ["ASGI", "KEY", "KINDS", "RouteGuard", "ServerMiddleware"]

ASGI: Final = "asgi"
"""Names the tracer, whatever framework stands on ASGI."""

_THEIR_SCOPES: Final = frozenset(
    {"opentelemetry.instrumentation.asgi", "opentelemetry.instrumentation.fastapi",
     "opentelemetry.instrumentation.starlette"}
)  # fmt: skip

_ENDS: Final = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})
KINDS: Final = frozenset({"http", "websocket"})
_NO_PARAMS: Final[dict[str, Any]] = {}


class ServerMiddleware:
    """Opens the span of each request that comes in, and ends it.

    Args:
        lifecycle: of the framework's requests, with :data:`ASGI` as its scope.
        services: of the runtime.
    """

    def __init__(self, lifecycle: RequestLifecycle, services: Services) -> None:
        self._lifecycle = lifecycle
        self._metrics_path = services.settings.metrics_path
        self._page = services.page
        self._flush = services.flush
        self._wanted = self._lifecycle.wanted.union((b"content-length", b"user-agent"))

    async def enter(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or the lifespan."""
        kind = scope["type"]
        if kind == "lifespan":
            await app(scope, receive, self._flushing(send))
            return
        if KEY in scope or kind not in KINDS:
            await app(scope, receive, send)
            return
        if self._metrics_path and scope["path"] == self._metrics_path and kind == "http":
            await self._page()(scope, receive, send)
            return
        lifecycle = self._lifecycle
        if lifecycle.excluded_paths and lifecycle.is_excluded(str(scope.get("path", ""))):
            await app(scope, receive, send)
            return
        served = self._open(scope)
        if served is None or served.context is None:
            await app(scope, receive, send)
            return
        token = attach(served.context)
        try:
            work = app(scope, receive, _watching(lifecycle, served, send))
            await stepped(work, served.request)
        except Exception as error:
            lifecycle.failed(served, error)
            raise
        finally:
            detach(token)
            lifecycle.close(served)

    @fail_open("asgi", None)
    def _open(self, scope: Scope) -> ServerRequest | None:
        outer = request_in()
        if outer is not None and _is_theirs(outer):
            return None  # another instrumentation stands around the application: its span serves
        headers = self._collected(scope)
        served = self._lifecycle.begin(
            _method(scope),
            _attributes(scope, headers),
            headers,
            scope.get("query_string", b""),
            outer=outer,
            waits=scope["type"] == "http",  # a WebSocket's caller waits for no one answer
        )
        served.received = content_length(headers.get(b"content-length"))
        scope[KEY] = served
        return served

    def _collected(self, scope: Scope) -> dict[bytes, bytes]:
        """The headers that are looked at."""
        headers: dict[bytes, bytes] = {}
        wanted = self._wanted
        for name, value in scope["headers"]:
            if name in wanted:
                if name not in headers:
                    headers[name] = value
                elif name in LISTS:  # of any other the first counts, as for the service itself
                    headers[name] += b"," + value
        return headers

    def _flushing(self, send: Send) -> Send:
        async def flush_before_end(message: Message) -> None:
            if message["type"] in _ENDS:
                import anyio.to_thread  # frameworks with a lifespan bring it; Django does not

                # Servers may end the process by a signal, and then no exit handler runs.
                await anyio.to_thread.run_sync(self._flush)
            await send(message)

        return flush_before_end


def _method(scope: Scope) -> str:
    if scope["type"] != "http":
        return "WS"
    return method_name(scope.get("method", ""))


def _attributes(scope: Scope, headers: dict[bytes, bytes]) -> Attributes:
    """The first attributes of a server span, by OpenTelemetry's stable conventions for HTTP."""
    attributes: Attributes = {
        "http.request.method": scope.get("method", "GET"),
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope.get("path", ""),
    }
    if query := scope.get("query_string"):
        attributes["url.query"] = query.decode("latin-1")
    if agent := headers.get(b"user-agent"):
        attributes["user_agent.original"] = agent.decode("latin-1")
    if client := scope.get("client"):
        attributes["client.address"] = client[0]
    if length := content_length(headers.get(b"content-length")):
        attributes["http.request.body.size"] = length
    return attributes


def _watching(lifecycle: RequestLifecycle, served: ServerRequest, send: Send) -> Send:
    async def watched(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            served.sent += len(message.get("body", b""))
            if served.deadline is not None and not message.get("more_body"):
                served.deadline.lift()
        elif kind == "http.response.start":
            served.status = message["status"]
            if served.status in REFUSAL_STATUSES:
                message = _noted(lifecycle, served, message) or message
        await send(message)

    return watched


@fail_open("refusal", None)
def _noted(lifecycle: RequestLifecycle, served: ServerRequest, message: Message) -> Message | None:
    """The head of an answer with the headers that it is to get; ``None`` if it needs none."""
    headers = message.get("headers", ())
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    missing = lifecycle.answered(served, message["status"], pairs)
    if not missing:
        return None
    more = [(name.encode(), value.encode("latin-1", "replace")) for name, value in missing.items()]
    return {**message, "headers": [*headers, *more]}


def _is_theirs(outer: Request) -> bool:
    """Whether another library's ASGI instrumentation opened a request that has no handler yet."""
    if outer.entered or not outer.span.is_recording():
        return False
    scope = getattr(outer.span, "instrumentation_scope", None)
    return getattr(scope, "name", "") in _THEIR_SCOPES


class RouteGuard:
    """Stands before a route's handler: names the call, and refuses it to a tripped user.

    Args:
        lifecycle: of the framework's requests.
    """

    def __init__(self, lifecycle: RequestLifecycle) -> None:
        self._lifecycle = lifecycle

    @fail_open("asgi", None)
    def pass_mount(self, scope: Scope, template: str) -> None:
        """Note that the request goes on into a mounted application."""
        served = self._request_of(scope)
        if served is not None:
            served.prefix += template

    @staticmethod
    def request_of(scope: Scope) -> Request | None:
        """The request that was admitted."""
        served: ServerRequest | None = scope.get(KEY)
        return None if served is None else served.request

    async def admit(
        self, scope: Scope, template: str, *, final: bool = True, static: bool = False
    ) -> Refusal | None:
        """The refusal of the request, whose user's turn may have to be waited for first; ``None``
        lets its handler run.

        Args:
            scope: of the request.
            template: of the route, below the mounts it has come through.
            final: the handler is next, and not an application that may have routes of its own.
            static: what is next sends files.
        """
        refusal = self._admit(scope, template, final=final, static=static)
        served: ServerRequest | None = scope.get(KEY)
        if served is None or served.place is None:
            return refusal
        return await self._lifecycle.turn(served)

    @fail_open("asgi", None)
    def _admit(self, scope: Scope, template: str, *, final: bool, static: bool) -> Refusal | None:
        served = self._request_of(scope)
        if served is None:
            return None
        parameters = scope.get("path_params", _NO_PARAMS)
        user = scope.get("user")
        return self._lifecycle.admit(
            served, template, parameters, user, final=final, static=static, waits=True
        )

    def _request_of(self, scope: Scope) -> ServerRequest | None:
        served: ServerRequest | None = scope.get(KEY)
        if served is None:  # another instrumentation opened the span; its propagator is ours
            request = request_in()
            if request is None:
                return None
            served = ServerRequest(request, _method(scope), request.span, None, ours=False)
            headers = dict(scope["headers"])
            self._lifecycle.name_user(served, headers, scope.get("query_string", b""))
            scope[KEY] = served
        return served
