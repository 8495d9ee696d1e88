"""What a request goes through on its way to its handler, in every HTTP framework.

A framework's integration says when; this file says what::

    open      the server span begins, the user is named, the deadline is read
    admit     the router has chosen: the call has its name, and is refused or admitted
    answered  the head of the answer is out
    failed    an error has left the handler
    close     the answer is out: what it moved is counted, the span ends

Where another instrumentation has opened the server span, that one is joined: it is named and marked
here, and ended where it was begun.
"""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current, set_value
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)

from heatshield.breakers.gate import GATE
from heatshield.context.deadline import Deadline, deadline_in, with_deadline
from heatshield.context.finished import KEY
from heatshield.context.propagator import HEADERS
from heatshield.context.request import GUARD_KEY, Request, request_in, with_request
from heatshield.context.span_like import attributes_of
from heatshield.counters import fail_open
from heatshield.integrations.admission import PlaceInLine, Refusal, admit_in_line
from heatshield.integrations.servers.deadline_header import DeadlineHeader
from heatshield.integrations.servers.http_method import method_name
from heatshield.integrations.services import Services
from heatshield.names import BREAKER_HEADER, CALL, COST_BYTES, STATIC, STATIC_CALL
from heatshield.rejection import MAX_ID_LENGTH, REFUSAL_STATUSES
from heatshield.tracing.failure import fail, mark_rejected
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.span import Span as OurSpan
from heatshield.tracing.stamp import stamp_user
from heatshield.tracing.values import Attributes

__all__ = ["KEY", "LISTS", "SERVER_ERROR", "Headers", "RequestLifecycle", "ServerRequest"]

SERVER_ERROR: Final = 500

LISTS: Final = frozenset({b"baggage", b"tracestate"})
"""Headers that may come in several lines, which are one list; of any other the first counts."""

_NO_HEADERS: Final[Mapping[str, str]] = {}

Headers = Mapping[bytes, bytes]
"""Headers of a request by lower-case name; :attr:`RequestLifecycle.wanted` are enough."""


class ServerRequest:
    """One request on its way through an application.

    Attributes:
        request: what this process knows of it.
        method: the first word of its call's name.
        span: the server span, ours or another instrumentation's.
        ours: its span was opened here, and is ended here.
        within: its span is of another integration of ours, around this framework.
        context: the request's; ``None`` if it is the current one.
        deadline: when its caller stops waiting, if that is known and heeded; lifted at the end.
        failure: the identity of the error that left its handler last.
        place: in the line of its user's calls, where it is to wait before it runs.
        prefix: the templates of the mounts it has come through.
        root: the path under which the whole application is served.
        status: of the answer; 0 before there is one.
        received: bytes of its body.
        sent: bytes of the answer's body, so far.
    """

    __slots__ = (
        "context", "deadline", "failure", "method", "ours", "place", "prefix", "received",
        "request", "root", "sent", "span", "status", "within",
    )  # fmt: skip

    def __init__(
        self, request: Request, method: str, span: Span, context: Context | None, *, ours: bool
    ) -> None:
        self.request, self.method, self.span, self.context = request, method, span, context
        self.ours, self.within = ours, False
        self.deadline: Deadline | None = None
        self.failure = 0
        self.place: PlaceInLine | None = None
        self.prefix = self.root = ""
        self.status = self.received = self.sent = 0


class RequestLifecycle:
    """Sees the requests of one framework through.

    Args:
        framework: whose.
        services: of the runtime.
        scope: names the tracer, where that is not the framework.

    Attributes:
        excluded_paths: prefixes of paths that make no spans.
        wanted: lower-case names of the headers that are looked at.

    A patch can't be taken out from under another library's. One that is left then stays out of the
    way, because its lifecycle is not the one in use any more.
    """

    _in_use: ClassVar[dict[str, "RequestLifecycle"]] = {}

    def __init__(self, framework: str, services: Services, scope: str = "") -> None:
        self._framework = framework
        self._in_use[framework] = self
        settings = services.settings
        self._tracer = PROVIDER.get_tracer(f"heatshield.{scope or framework}")
        self._read = services.propagator.read
        self._identity = services.identity
        self._names_users = bool(services.identity.headers or services.identity.reads_query)
        self._deadlines = DeadlineHeader(settings)
        self.excluded_paths = settings.excluded_paths
        names = (name.encode() for name in HEADERS)
        self.wanted = services.identity.headers.union(names, self._deadlines.names)

    @classmethod
    def retire(cls, framework: str) -> None:
        """See no requests of a framework any more."""
        cls._in_use.pop(framework, None)

    @property
    def is_retired(self) -> bool:
        """Whether another one, or none, is in use by now."""
        return self._in_use.get(self._framework) is not self

    def is_excluded(self, path: str) -> bool:
        """Whether requests of this path make no spans."""
        return bool(self.excluded_paths) and path.startswith(self.excluded_paths)

    def open(
        self, method: str, attributes: Attributes, headers: Headers, query: bytes = b""
    ) -> ServerRequest | None:
        """Join the span that a request has, or open one; ``None`` if it is not to be seen.

        Args:
            method: of HTTP.
            attributes: of the span; plain values, taken over.
            headers: of the request.
            query: of its address.
        """
        if self.is_retired or get_current().get(_SUPPRESS_INSTRUMENTATION_KEY):
            return None
        joined = self.join(method, headers, query)
        return joined or self.begin(method_name(method), attributes, headers, query)

    def begin(
        self,
        name: str,
        attributes: Attributes,
        headers: Headers,
        query: bytes = b"",
        *,
        outer: Request | None = None,
        waits: bool = True,
    ) -> ServerRequest:
        """Open the span of a request.

        Args:
            name: of its method, as the first word of its call's name.
            attributes: of the span; plain values, taken over.
            headers: of the request.
            query: of its address.
            outer: the request that it was made within, if it came from this process.
            waits: its caller waits for one answer.
        """

        def header(name: str) -> str | None:
            value = headers.get(name.encode())
            return None if value is None else value.decode("latin-1")

        inbound = self._read(header)
        request = inbound.request()
        context = inbound.context(request, _base(request, outer, root=not inbound.trace_id))
        span = self._tracer.open(name, SpanKind.SERVER, attributes, context)
        if not request.call:
            request.enter(name, span)  # where the service's own sampler made no span
        deadline = self._deadlines.deadline(headers) if waits else None
        if deadline is not None:
            context = with_deadline(deadline, context)
        served = ServerRequest(request, name, span, set_span_in_context(span, context), ours=True)
        served.deadline = deadline
        if self._names_users:
            self.name_user(served, headers, query)
        return served

    def join(self, method: str, headers: Headers, query: bytes = b"") -> ServerRequest | None:
        """Join the span that another instrumentation has opened for the request that runs here."""
        served = None if self.is_retired else _joined(method)
        if served is not None:
            self.name_user(served, headers, query)
        return served

    def name_user(self, served: ServerRequest, headers: Headers, query: bytes) -> None:
        """Name the user by what the request says of itself, as far as the settings want it."""
        if self._names_users:
            identity = self._identity
            identity.on_entry(served.request, headers, query if identity.reads_query else b"")
            stamp_user(served.span, served.request)

    def admit(
        self,
        served: ServerRequest,
        template: str,
        parameters: Mapping[str, object],
        user: object = None,
        *,
        final: bool = True,
        view: str = "",
        static: bool = False,
        waits: bool = False,
    ) -> Refusal | None:
        """Name the call, as its handler is about to run; returns why it must not.

        Where it can wait and is to, it has a :attr:`~ServerRequest.place` afterwards, which
        :meth:`turn` waits for.

        Args:
            served: the request.
            template: of its route below the mounts it has come through; low cardinality.
            parameters: of its path.
            user: that the framework has authenticated.
            final: the handler is next, and not an application that may have routes of its own.
            view: names the call beside a template that says nothing.
            static: the handler sends a file. All such requests of a service are one call.
            waits: the call can wait without holding a thread.
        """
        request, template = served.request, served.prefix + template
        if request.entered:
            return None
        call = STATIC_CALL if static else _call(served.method, template, view)
        request.call = call
        _name_call(served.span, call, template)
        if static:
            served.span.set_attribute(STATIC, True)
        if self._identity.reads_route:
            self._identity.on_route(request, parameters, user)
            stamp_user(served.span, request)
        # Where HEAD has no handler of its own, it runs that of GET.
        also = _call("GET", template, view) if served.method == "HEAD" and not static else ""
        span, ends, wait_s = served.span, deadline_in(), math.inf if waits else 0.0
        found = admit_in_line(request, span, call, ends, also=also, final=final, most_wait_s=wait_s)
        if not isinstance(found, PlaceInLine):
            return found
        served.place = found
        return None

    async def turn(self, served: ServerRequest) -> Refusal | None:
        """Wait until it is the turn of a request that has a place in line; ``None`` lets it run."""
        place, served.place = served.place, None
        return None if place is None else await place.wait()

    def must_know_user(self, *, static: bool = False) -> bool:
        """Whether a call is refused to some user, so that it must be known who asks.

        Any call of this service counts: which guards a handler comes to is not known before.

        Args:
            static: as for :meth:`admit`; then no other call can follow.
        """
        return GATE.watches(STATIC_CALL if static else None)

    def authenticated(self, served: ServerRequest, user: object) -> None:
        """Name the user that the framework has authenticated, when the service asked for it.

        Args:
            served: the request.
            user: the framework's.
        """
        if not self.is_retired:
            self._identity.on_route(served.request, {}, user)
            stamp_user(served.span, served.request)

    def no_route(self, served: ServerRequest) -> None:
        """Name a request without a handler: its path, which any caller can choose, is no name."""
        if not served.ours and not served.request.entered:
            served.span.update_name(served.method)

    def answered(
        self, served: ServerRequest, status: int, headers: Iterable[tuple[str, str]]
    ) -> Mapping[str, str]:
        """Note the head of the answer.

        A service may answer a rejection in its own words; a header says that it is one. Or it
        passes the answer of another service on, with its status and not with its headers: then the
        answer is to get them.

        Returns:
            Headers, by lower-case names, that are to be added.
        """
        served.status = status
        if status not in REFUSAL_STATUSES:
            return _NO_HEADERS
        said = {name.lower(): value for name, value in headers}
        marked = said.get(BREAKER_HEADER)
        if marked is not None:
            mark_rejected(served.span, marked[:MAX_ID_LENGTH])
        refusal = served.request.refused_below
        if refusal is None or marked not in {None, refusal.entry_id}:
            return _NO_HEADERS
        mark_rejected(served.span, refusal.entry_id)
        return {name: value for name, value in refusal.headers.items() if name not in said}

    @fail_open("serving", None)
    def failed(self, served: ServerRequest, error: BaseException) -> None:
        """Note what left the handler, unless the span's own instrumentation does."""
        if served.ours and served.failure != id(error):
            served.failure = id(error)
            fail(served.span, error)

    def close(self, served: ServerRequest) -> None:
        """Note what it cost, and end the span; only the first time counts."""
        self._conclude(served)
        if served.ours:
            served.span.end()

    @fail_open("serving", None)
    def _conclude(self, served: ServerRequest) -> None:
        if served.deadline is not None:
            served.deadline.lift()
        span = served.span
        if not span.is_recording() or served.within:  # which counts itself what it moves
            return
        moved = served.received + served.sent
        if moved:
            so_far = attributes_of(span).get(COST_BYTES, 0)
            span.set_attribute(COST_BYTES, moved + (so_far if type(so_far) is int else 0))
        if not served.ours:
            return
        if served.received:
            span.set_attribute("http.request.body.size", served.received)
        if served.status:
            span.set_attribute("http.response.status_code", served.status)
            span.set_attribute("http.response.body.size", served.sent)
            if served.status >= SERVER_ERROR:
                span.set_status(StatusCode.ERROR)


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


def _call(method: str, template: str, view: str) -> str:
    return f"{method} {template} ({view})" if view else f"{method} {template}"


def _name_call(span: Span, call: str, template: str) -> None:
    """Name a server span after the call that it turned out to be.

    One of the SDK was stamped when it began, with the method alone.
    """
    span.set_attribute("http.route", template)
    span.update_name(call)
    if not isinstance(span, OurSpan):
        span.set_attribute(CALL, call)


def _joined(method: str) -> ServerRequest | None:
    request, context = request_in(), None
    if request is None:
        span = get_current_span()
        if getattr(span, "kind", None) is not SpanKind.SERVER:
            return None
        # Opened in a context that was read from the headers and not made the current one.
        known = getattr(span, "request", None)
        request = known if isinstance(known, Request) else Request()
        request.enter(str(getattr(span, "name", "")), span)
        context = with_request(request)
    if not request.span.is_recording():
        return None
    served = ServerRequest(request, method_name(method), request.span, context, ours=False)
    scope = getattr(request.span, "instrumentation_scope", None)
    served.within = str(getattr(scope, "name", "")).startswith("heatshield.")
    return served
