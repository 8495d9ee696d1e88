"""The server side: one span a request, the user on it, and refusal before the handler runs.

Layers, from the outside in: :class:`Entry`, OpenTelemetry's ASGI middleware, Starlette's error
handling, :class:`Refusals`, the service's own middleware, :class:`Enforcement`, the routes. The
service's own middleware runs before enforcement, because it may be what names the user.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import anyio.to_thread
from opentelemetry.trace import Span, get_current_span

from heatshield.breakers.gate import GATE, mark_rejected
from heatshield.breakers.rejection import MAX_ID_LENGTH, UNAVAILABLE, BreakerOpen, refusal_in
from heatshield.counters import COUNTERS, fail_open
from heatshield.current import request_in
from heatshield.identity import Identity
from heatshield.integrations.routes import NOTHING, Found, call_name, find_route
from heatshield.names import BREAKER_HEADER
from heatshield.spans import stamp_user

__all__ = ["Enforcement", "Entry", "Refusals", "describe", "name_user"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE_KEY: Final = "heatshield.route"
"""Where a request's route stands in its ASGI scope; its presence says that a span is open."""

TRY_AGAIN_LATER: Final = 1013
"""WebSocket close code of RFC 6455's registry."""

_ENDS: Final = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class Entry:
    """Decides whether a request gets a span; sends what is queued when the server shuts down.

    Args:
        app: OpenTelemetry's middleware around ``inner``.
        inner: the application's own stack.
        excluded_paths: prefixes of paths that make no spans.
        flush: sends what is queued, blocking for at most a short while.
    """

    def __init__(
        self,
        app: App,
        inner: App,
        excluded_paths: tuple[str, ...],
        flush: Callable[[], object],
    ) -> None:
        self.app = app
        self._inner = inner
        self._excluded_paths = excluded_paths
        self._flush = flush

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or the lifespan."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, self._flushing(send))
        elif SCOPE_KEY in scope or scope.get("path", "").startswith(self._excluded_paths or "\0"):
            await self._inner(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _flushing(self, send: Send) -> Send:
        async def flush_before_end(message: Message) -> None:
            if message["type"] in _ENDS:
                # Servers may end the process by a signal, and then no exit handler runs.
                await anyio.to_thread.run_sync(self._flush)
            await send(message)

        return flush_before_end


def describe(scope: Scope) -> tuple[str, dict[str, str]]:
    """The span's name and first attributes, for OpenTelemetry's middleware."""
    try:
        found = find_route(getattr(scope.get("app"), "routes", ()), scope)
    except Exception:  # noqa: BLE001  # a route of the service's own making may do anything
        COUNTERS.error("route")
        found = NOTHING
    scope[SCOPE_KEY] = found
    attributes = {"http.route": found.template} if found.template else {}
    return call_name(scope, found.template), attributes


def name_user(identity: Identity) -> Callable[[Span, Scope], None] | None:
    """A hook that reads the user from a request as the settings say; ``None`` if they don't."""
    if not identity.reads_requests:
        return None

    @fail_open("identity", None)
    def hook(span: Span, scope: Scope) -> None:
        found: Found = scope.get(SCOPE_KEY, NOTHING)
        user = identity.named_by(scope.get("headers", ()), found.path_params)
        request = request_in()
        if request is not None and identity.name(request, user) is not None:
            stamp_user(span, request)

    return hook


class Refusals:
    """Answers a :class:`BreakerOpen` that comes from within with the rejection it stands for."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watching(message: Message) -> None:
            nonlocal started
            started = True
            if message.get("status") == UNAVAILABLE:
                _mark_answer(message)
            await send(message)

        try:
            await self.app(scope, receive, watching)
        except (BreakerOpen, BaseExceptionGroup) as error:
            refusal = refusal_in(error)
            if refusal is None or started:
                raise
            await _answer(refusal, scope, send)


class Enforcement(Refusals):
    """Refuses a tripped user's call before its handler runs; the innermost middleware."""

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_in()
        if request is not None and request.call:
            refusal = GATE.refusal(request.call, request.user)
            if refusal is not None:
                await _answer(refusal, scope, send)
                return
            request.entered = True
        await super()._serve(scope, receive, send)


@fail_open("refusal", None)
def _mark_answer(message: Message) -> None:
    """A service may answer a rejection in its own words; the header says that it is one."""
    header = BREAKER_HEADER.encode()
    for name, value in message.get("headers", ()):
        if name.lower() == header:
            _mark(value.decode("latin-1")[:MAX_ID_LENGTH])


def _mark(entry_id: str) -> None:
    request = request_in()
    mark_rejected(request.span if request is not None else get_current_span(), entry_id)


async def _answer(refusal: BreakerOpen, scope: Scope, send: Send) -> None:
    """503 with the marks of a rejection; a WebSocket is closed before it is accepted."""
    _mark(refusal.entry_id)
    prefix = "http"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
            return
        prefix = "websocket.http"
    body = json.dumps({"detail": str(refusal)}).encode()
    headers = {
        **refusal.headers,
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    await send(
        {
            "type": f"{prefix}.response.start",
            "status": UNAVAILABLE,
            "headers": [(k.encode(), v.encode("latin-1", "replace")) for k, v in headers.items()],
        }
    )
    await send({"type": f"{prefix}.response.body", "body": body})
