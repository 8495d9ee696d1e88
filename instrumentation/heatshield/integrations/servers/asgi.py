"""The server side over ASGI: one span a request, the user on it, refusal before the handler runs.

From the outside in: :class:`Door` (around the application: span, user), the framework's error
handling, ``Refusals``, the service's own middleware, ``Refusals`` again, the router, and
:class:`Threshold` (around each route's handler: the call's name, refusal). The service's own
middleware runs before the threshold, because it may be what names the user; and the router has
chosen by then, so no route is looked for twice.
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from opentelemetry.context import Context, attach, detach, get_current, set_value
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    StatusCode,
    set_span_in_context,
)

from heatshield.breakers.expiry import DeadlineExceeded
from heatshield.breakers.gate import mark_rejected
from heatshield.context.deadline import Deadline, with_deadline
from heatshield.context.propagator import HEADERS
from heatshield.context.request import GUARD_KEY, Request, request_in
from heatshield.context.span_like import attributes_of
from heatshield.counters import fail_open
from heatshield.integrations.servers.deadline_header import Arrivals
from heatshield.integrations.servers.http_method import method_name
from heatshield.integrations.servers.route import name_call, refusal_of
from heatshield.integrations.services import Equipment
from heatshield.names import BREAKER_HEADER, COST_BYTES
from heatshield.rejection import MAX_ID_LENGTH, UNAVAILABLE, BreakerOpen
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.stamp import stamp_user

__all__ = [
    "KEY", "KINDS", "App", "Door", "Message", "Receive", "Scope", "Send", "Served", "Threshold",
]  # fmt: skip

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY: Final = "heatshield"
"""Where a request's :class:`Served` stands in its ASGI scope."""

SERVER_ERROR: Final = 500

_TRACER: Final = PROVIDER.get_tracer("heatshield.asgi")
_HEADER: Final = BREAKER_HEADER.encode()
_LISTS: Final = frozenset({b"baggage", b"tracestate"})
"""Headers that may come in several lines, which are one list."""

_THEIR_SCOPES: Final = frozenset(
    {"opentelemetry.instrumentation.asgi", "opentelemetry.instrumentation.fastapi",
     "opentelemetry.instrumentation.starlette"}
)  # fmt: skip

_ENDS: Final = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})
KINDS: Final = frozenset({"http", "websocket"})
_NO_PARAMS: Final[dict[str, Any]] = {}


class Served:
    """One request on its way through an application.

    Attributes:
        request: what this process knows of it.
        method: the first word of its call's name.
        prefix: the templates of the mounts it has come through.
        span: the server span, ours or another instrumentation's.
        status: of the answer; 0 before there is one.
        body_bytes: sent so far.
        deadline: when its caller stops waiting, if it said so.
    """

    __slots__ = (
        "body_bytes", "deadline", "method", "prefix", "request", "span", "status",
    )  # fmt: skip

    def __init__(self, request: Request, method: str, span: Span) -> None:
        self.request, self.method, self.span = request, method, span
        self.prefix = ""
        self.status = self.body_bytes = 0
        self.deadline: Deadline | None = None


class Door:
    """Opens the span of each request that comes in, and ends it.

    Args:
        equipment: of the runtime.
    """

    def __init__(self, equipment: Equipment) -> None:
        self._read = equipment.propagator.read
        self._identity = equipment.identity
        self._excluded_paths = equipment.settings.excluded_paths
        self._metrics_path = equipment.settings.metrics_path
        self._page = equipment.page
        self._flush = equipment.flush
        self._arrivals = Arrivals(equipment.settings)
        names = (name.encode() for name in HEADERS)
        own = (b"content-length", b"user-agent", *names, *self._arrivals.headers)
        self._wanted = equipment.identity.headers.union(own)

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
        if self._is_excluded(scope):
            await app(scope, receive, send)
            return
        served = self._open(scope)
        if served is None:
            await app(scope, receive, send)
            return
        token = attach(served[1])
        try:
            await app(scope, receive, _watching(served[0], send))
        except Exception as error:
            _note(served[0].span, error)
            raise
        finally:
            detach(token)
            _close(served[0])

    def _is_excluded(self, scope: Scope) -> bool:
        excluded = self._excluded_paths
        return bool(excluded) and str(scope.get("path", "")).startswith(excluded)

    @fail_open("asgi", None)
    def _open(self, scope: Scope) -> tuple[Served, Any] | None:
        outer = request_in()
        if outer is not None and _is_theirs(outer):
            return None  # another instrumentation stands around the application: its span serves
        headers = self._collected(scope)

        def header(name: str) -> str | None:
            value = headers.get(name.encode())
            return None if value is None else value.decode("latin-1")

        inbound = self._read(header)
        request = inbound.request()
        context = inbound.context(request, _base(request, outer, root=not inbound.trace_id))
        method = _method(scope)
        span = _TRACER.open(method, SpanKind.SERVER, _attributes(scope, headers), context)
        if not request.call:
            request.enter(method, span)  # where the service's own sampler made no span
        served = Served(request, method, span)
        scope[KEY] = served
        identity = self._identity
        if identity.headers or identity.reads_query:
            identity.on_entry(request, headers, scope.get("query_string", b""))
            stamp_user(span, request)
        if scope["type"] == "http":  # a WebSocket's caller waits for no one answer
            served.deadline = self._arrivals.deadline(headers)
            if served.deadline is not None:
                context = with_deadline(served.deadline, context)
        return served, set_span_in_context(span, context)

    def _collected(self, scope: Scope) -> dict[bytes, bytes]:
        """The headers that are looked at."""
        headers: dict[bytes, bytes] = {}
        wanted = self._wanted
        for name, value in scope["headers"]:
            if name in wanted:
                if name not in headers:
                    headers[name] = value
                elif name in _LISTS:  # of any other the first counts, as for the service itself
                    headers[name] += b"," + value
        return headers

    def _flushing(self, send: Send) -> Send:
        async def flush_before_end(message: Message) -> None:
            if message["type"] in _ENDS:
                import anyio.to_thread  # who serves a lifespan has it; Django, for one, has not

                # Servers may end the process by a signal, and then no exit handler runs.
                await anyio.to_thread.run_sync(self._flush)
            await send(message)

        return flush_before_end


def _base(request: Request, outer: Request | None, *, root: bool) -> Context:
    """The context that a request's own is made from.

    Args:
        request: that came in.
        outer: that it was made within, if it came from this process.
        root: it names no parent itself.
    """
    here = get_current()
    if outer is not None and outer.span.is_recording():
        request.inherit(outer)
        return set_value(GUARD_KEY, "", here)
    if root:  # what the server was started in is no part of its requests
        return set_span_in_context(INVALID_SPAN, here)
    return here


def _method(scope: Scope) -> str:
    if scope["type"] != "http":
        return "WS"
    return method_name(scope.get("method", ""))


def _attributes(scope: Scope, headers: dict[bytes, bytes]) -> dict[str, Any]:
    """The first attributes of a server span, by OpenTelemetry's stable conventions for HTTP."""
    attributes: dict[str, Any] = {
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
    length = headers.get(b"content-length", b"")
    if length.isdigit():
        attributes["http.request.body.size"] = int(length)
    return attributes


def _watching(served: Served, send: Send) -> Send:
    async def watched(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            served.body_bytes += len(message.get("body", b""))
            if served.deadline is not None and not message.get("more_body"):
                served.deadline.lift()
        elif kind == "http.response.start":
            served.status = message["status"]
            if served.status == UNAVAILABLE:
                _mark_answer(served.request, message)
        await send(message)

    return watched


@fail_open("refusal", None)
def _mark_answer(request: Request, message: Message) -> None:
    """A service may answer a rejection in its own words; the header says that it is one."""
    for name, value in message.get("headers", ()):
        if name.lower() == _HEADER:
            mark_rejected(request.span, value.decode("latin-1")[:MAX_ID_LENGTH])


@fail_open("asgi", None)
def _note(span: Span, error: Exception) -> None:
    span.record_exception(error)
    span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")


def _close(served: Served) -> None:
    _conclude(served)
    served.span.end()


@fail_open("asgi", None)
def _conclude(served: Served) -> None:
    span = served.span
    if span.is_recording():
        attributes = attributes_of(span)
        if served.status:
            span.set_attribute("http.response.status_code", served.status)
            span.set_attribute("http.response.body.size", served.body_bytes)
            if served.status >= SERVER_ERROR:
                span.set_status(StatusCode.ERROR)
        moved = served.body_bytes + _number(attributes.get("http.request.body.size"))
        if moved:
            span.set_attribute(COST_BYTES, moved + _number(attributes.get(COST_BYTES)))


def _number(value: object) -> int:
    """0 for what a service may have set in place of a number."""
    return value if type(value) is int else 0


def _is_theirs(outer: Request) -> bool:
    """Whether a request that has not reached a handler yet was opened by somebody else's ASGI."""
    if outer.entered or not outer.span.is_recording():
        return False
    scope = getattr(outer.span, "instrumentation_scope", None)
    return getattr(scope, "name", "") in _THEIR_SCOPES


class Threshold:
    """Stands before a route's handler: names the call, and refuses it to a tripped user.

    Args:
        equipment: of the runtime.
    """

    def __init__(self, equipment: Equipment) -> None:
        self._identity = equipment.identity

    def pass_mount(self, scope: Scope, template: str) -> None:
        """Note that the request goes on into a mounted application."""
        served = self._served(scope)
        if served is not None:
            served.prefix += template

    @fail_open("asgi", None)
    def cross(
        self, scope: Scope, template: str, *, final: bool = True
    ) -> BreakerOpen | DeadlineExceeded | None:
        """The refusal of the request; ``None`` lets its handler run.

        Args:
            scope: of the request.
            template: of the route, below the mounts it has come through.
            final: the handler is next, and not an application that may have routes of its own.
        """
        served = self._served(scope)
        if served is None or served.request.entered:
            return None
        request, template = served.request, served.prefix + template
        call = f"{served.method} {template}"
        request.call = call
        name_call(served.span, call, template)
        if self._identity.reads_route:
            path_params, user = scope.get("path_params", _NO_PARAMS), scope.get("user")
            self._identity.on_route(request, path_params, user)
            stamp_user(served.span, request)
        refusal = refusal_of(served.method, template, request)
        if refusal is not None:
            mark_rejected(request.span, refusal.entry_id)
            return refusal
        if served.deadline is not None and served.deadline.at <= time.monotonic():
            return DeadlineExceeded()
        request.entered = final
        return None

    def _served(self, scope: Scope) -> Served | None:
        served: Served | None = scope.get(KEY)
        if served is None:  # another instrumentation opened the span; its propagator is ours
            request = request_in()
            if request is None:
                return None
            served = scope[KEY] = Served(request, _method(scope), request.span)
            headers = dict(scope["headers"])
            self._identity.on_entry(request, headers, scope.get("query_string", b""))
            stamp_user(request.span, request)
        return served
