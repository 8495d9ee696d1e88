"""Calls to other services over HTTP: one client span each, whatever library makes them.

A span begins before the first byte is sent and ends when the body of the answer has been read or
let go, so it covers what the other side does. It is the current span until the answer's head is
there. Where OpenTelemetry's own instrumentation of the same library has opened a span, heatshield
joins that one; inside any other HTTP client's span it makes none, as that is the same call.
"""

from collections import deque
from collections.abc import Callable, MutableMapping
from contextvars import Token
from functools import wraps
from typing import ClassVar, Final, TypeVar

from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    _SUPPRESS_INSTRUMENTATION_KEY,
    Context,
    get_current,
)
from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span, set_span_in_context

from heatshield.context.attachment import attach, detach
from heatshield.context.propagator import is_propagation_field
from heatshield.context.request import note_refusal
from heatshield.context.span_like import attributes_of
from heatshield.counters import fail_open
from heatshield.fork_hooks import in_child
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Original, Wrapper
from heatshield.integrations.servers.http_method import method_name
from heatshield.integrations.services import Services
from heatshield.rejection import REFUSAL_STATUSES, Headers, marked_by, refusal_in
from heatshield.tracing.failure import fail, mark_refusal, mark_rejected
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.stamp import add_cost
from heatshield.tracing.values import Attributes

__all__ = ["Call", "Calls", "abandoning", "end_of", "letting_go", "reading"]

CLIENT_ERROR: Final = 400
"""From here on an answer is an error of the client's span, by OpenTelemetry's conventions."""

SERVER_ERROR: Final = 500
"""From here on an answer says that the service which gave it failed, or refused."""

_LIBRARIES: Final = ("httpx", "requests", "urllib3", "aiohttp_client")
_OURS: Final = "heatshield."
_THEIRS: Final = "opentelemetry.instrumentation."
_SCOPES: Final = frozenset(
    prefix + library for prefix in (_OURS, _THEIRS) for library in _LIBRARIES
)

_CALL: Final = "_heatshield_call"
"""Attribute of a library's response: the :class:`Call` that it answers, until it is let go."""

_ABANDONED: Final[deque[Span]] = deque()
"""Spans of responses that were neither read nor closed. The garbage collector finds them while any
lock may be held, so the next call ends them."""

in_child(_ABANDONED.clear)  # the parent ends them


R = TypeVar("R")
"""A library's response."""


class Call:
    """One call that is under way.

    Args:
        span: ours, or OpenTelemetry's own that was joined.
        sent: bytes of the request's body.
        token: of the context in which the span is the current one; ``None`` if it is not ours.

    Attributes:
        headers: to be sent with the request, in place of all propagation fields that it has;
            ``None`` leaves those to the service's own propagator.
        sent: as above; some libraries know it only when the answer is there.
        span: as above.
        held: how many reads of its answer are under way; it ends only after them.
        due: it is to end when they are over.
    """

    __slots__ = ("_token", "_whole", "due", "headers", "held", "sent", "span")

    def __init__(self, span: Span, sent: int, token: "Token[Context] | None" = None) -> None:
        self.span = span
        self.headers: dict[str, str] | None = None
        self.sent = sent
        self.held = 0
        self.due = False
        self._token = token
        self._whole = token is not None  # ours, and not ended

    @fail_open("calling", None)
    def failed(self, error: BaseException) -> None:
        """End it without an answer."""
        if self._whole:
            fail(self.span, error)
        else:
            mark_refusal(self.span, error)
        self.end()
        note_refusal(refusal_in(error))

    @fail_open("calling", None)
    def answered(self, status: int, headers: Headers) -> None:
        """Say what the answer is.

        Args:
            status: of HTTP.
            headers: a mapping that ignores case.
        """
        self._leave()
        if self._whole:
            self.span.set_attribute("http.response.status_code", status)
            if status >= CLIENT_ERROR:
                self.span.set_attribute("error.type", str(status))
                self.span.set_status(StatusCode.ERROR)
        if status >= SERVER_ERROR:
            refusal = marked_by(headers, status) if status in REFUSAL_STATUSES else None
            note_refusal(refusal)
            if refusal is not None:
                mark_rejected(self.span, refusal.entry_id)

    def follow(self, response: object) -> None:
        """End the call when ``response`` is let go, as :func:`letting_go` sees it."""
        try:
            setattr(response, _CALL, self)
        except Exception:  # noqa: BLE001  # a service's own response, which takes no attributes
            self.end()

    @fail_open("calling", None)
    def end(self, received: int = 0) -> None:
        """End it; only the first end counts.

        Args:
            received: bytes of the answer's body.
        """
        self._leave()
        span = self.span
        if span.is_recording():
            add_cost(bytes=self.sent + received, span=span)
            if self._whole:
                span.set_attribute("http.request.body.size", self.sent)
                span.set_attribute("http.response.body.size", received)
        if self._whole:
            self._whole = False
            span.end()

    def _leave(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            detach(token)

    def __del__(self) -> None:
        if self._whole:
            _ABANDONED.append(self.span)


class Calls:
    """Opens the calls of one library.

    Args:
        library: as OpenTelemetry calls its instrumentation.
        services: of the runtime.
        contrib: OpenTelemetry's own instrumentation of that library, if it can be around ours.

    A patch that another library has patched since can't be taken out. It stays and does nothing,
    because its calls are not those in use any more.
    """

    _in_use: ClassVar[dict[str, "Calls"]] = {}

    def __init__(
        self, library: str, services: Services, contrib: OtelContrib | None = None
    ) -> None:
        self._library = library
        self._in_use[library] = self
        self._contrib = contrib
        self._scope, self._their_scope = _OURS + library, _THEIRS + library
        self._propagator = services.propagator
        self._headers = services.propagator.headers
        self._tracer = PROVIDER.get_tracer(self._scope)

    @classmethod
    def retire(cls, library: str) -> None:
        """Make no spans of a library any more."""
        cls._in_use.pop(library, None)

    @fail_open("calling", None)
    def begin(
        self, method: str, url: str, host: str, port: int | None, sent: int = 0
    ) -> Call | None:
        """Open the span of a call; ``None`` if it is not to be seen, or seen already.

        Args:
            method: of HTTP.
            url: whole.
            host: of the URL.
            port: of the URL, if it has one.
            sent: bytes of the request's body, as far as they are known.
        """
        if self._in_use.get(self._library) is not self:
            return None
        context = get_current()
        around = get_current_span(context)
        if getattr(around, "kind", None) is SpanKind.CLIENT:
            scope = _scope_of(around)
            if scope == self._their_scope:
                return self._join(around, sent, context)
            if scope in _SCOPES:
                return None
        if self._contrib is not None and self._contrib.active:
            return None  # it works inside of ours, or has chosen to make no span
        if context.get(_SUPPRESS_INSTRUMENTATION_KEY) or context.get(
            _SUPPRESS_HTTP_INSTRUMENTATION_KEY
        ):
            return None
        while _ABANDONED:
            _ABANDONED.popleft().end()
        attributes: Attributes = {
            "http.request.method": method,
            "server.address": host,
            "url.full": url if "@" not in url else _without_credentials(url),
        }
        if port is not None:
            attributes["server.port"] = port
        span = self._tracer.open(method_name(method), SpanKind.CLIENT, attributes, context)
        within = set_span_in_context(span, context)
        call = Call(span, sent, attach(within))
        call.headers = self._headers(within)
        return call

    def _join(self, theirs: Span, sent: int, context: Context) -> Call:
        """A call whose span OpenTelemetry's instrumentation has opened, and written headers of."""
        call = Call(theirs, sent)
        if get_global_textmap() is self._propagator:
            call.headers = self._headers(context)
        return call

    @fail_open("calling", None)
    def address(self, headers: MutableMapping[str, str], host: str) -> None:
        """Fit the headers of a request to the host it goes to: first or by a redirect.

        Args:
            headers: of the request that is about to be sent; a mapping that ignores case.
            host: that it goes to; not every host is told the user.
        """
        span = get_current_span()
        if _scope_of(span) != self._scope:
            return
        if attributes_of(span).get("server.address") != host:
            span.set_attribute("server.address", host)
        for name in {name.lower() for name in headers if is_propagation_field(name)}:
            del headers[name]
        headers.update(self._headers(get_current()))


def _scope_of(span: Span) -> str:
    return str(getattr(getattr(span, "instrumentation_scope", None), "name", ""))


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def letting_go(received: Callable[[R], int]) -> Wrapper:
    """A patch of the method by which a response lets its connection go: its call ends then.

    Args:
        received: tells how many bytes of body the response has read.
    """

    def wrap(original: Original) -> Original:
        @wraps(original)
        def let_go(response: R, *args: object, **kwargs: object) -> object:
            try:
                return original(response, *args, **kwargs)
            finally:
                end_of(response, received)

        return let_go

    return wrap


def reading(received: Callable[[R], int]) -> Wrapper:
    """A patch of a method that reads a response, and lets go of it before it counts what it read.

    Args:
        received: as for :func:`letting_go`.
    """

    def wrap(original: Original) -> Original:
        @wraps(original)
        def read(response: R, *args: object, **kwargs: object) -> object:
            call: Call | None = response.__dict__.get(_CALL)
            if call is None:
                return original(response, *args, **kwargs)
            call.held += 1
            try:
                return original(response, *args, **kwargs)
            finally:
                call.held -= 1
                if call.due:
                    end_of(response, received)

        return read

    return wrap


def abandoning(original: Original) -> Original:
    """A patch of ``__del__`` where a response lets go there: nothing may be sent from within it."""

    @wraps(original)
    def collected(response: object) -> None:
        response.__dict__.pop(_CALL, None)
        original(response)

    return collected


@fail_open("calling", None)
def end_of(response: R, received: Callable[[R], int]) -> None:
    """End the call that ``response`` answers, if it is still under way."""
    call: Call | None = response.__dict__.get(_CALL)
    if call is None:
        return
    if call.held:
        call.due = True
        return
    del response.__dict__[_CALL]
    if not getattr(response, "_finalizing", False):  # Python's own __del__ of files
        call.end(received(response))
