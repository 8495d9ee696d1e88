"""What a request goes through on its way to its handler, in frameworks that are not ASGI's.

A framework's integration says when; this says what: :meth:`Serving.open` where a request comes in,
:meth:`Serving.cross` right before its handler, :meth:`Serving.close` when the answer is out. Where
somebody else has opened the server span, that one is joined: it is named and marked here, and ended
by whoever began it.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, NamedTuple

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)

from heatshield.breakers.expiry import EXPIRED_STATUS, DeadlineExceeded, expiry_in
from heatshield.breakers.gate import mark_rejected
from heatshield.context.deadline import Deadline, left_s, with_deadline
from heatshield.context.finished import KEY
from heatshield.context.request import Request, request_in, with_request
from heatshield.counters import fail_open
from heatshield.integrations.servers.deadline_header import Arrivals
from heatshield.integrations.servers.http_method import method_name
from heatshield.integrations.servers.route import name_call, refusal_of
from heatshield.integrations.services import Equipment
from heatshield.names import BREAKER_HEADER
from heatshield.rejection import MAX_ID_LENGTH, UNAVAILABLE, BreakerOpen, refusal_in
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.stamp import add_cost, stamp_user

__all__ = ["KEY", "LISTS", "SERVER_ERROR", "Answer", "Header", "Served", "Serving", "answer_to"]

SERVER_ERROR: Final = 500

LISTS: Final = frozenset({"baggage", "tracestate"})
"""Headers that may come in several lines, which are one list; of any other the first counts."""

Header = Callable[[str], str | None]
"""From the lower-case name of a header to its value."""


class Served:
    """One request on its way through an application.

    Attributes:
        request: what this process knows of it.
        method: the first word of its call's name.
        span: the server span.
        ours: its span was opened here, and is to be ended here.
        within: its span is of another integration of ours, around this framework.
        context: the request's; ``None`` if it is the current one.
        deadline: how long its caller waits, if that is known and heeded.
        failure: the identity of what left its handler last.
        prefix: what stands before its route's template.
        root: the path under which the whole application is served.
        status: of the answer; 0 before there is one.
        received: bytes of its body.
        sent: bytes of the answer's body, so far.
    """

    __slots__ = (
        "context", "deadline", "failure", "method", "ours", "prefix", "received", "request",
        "root", "sent", "span", "status", "within",
    )  # fmt: skip

    def __init__(
        self, request: Request, method: str, span: Span, context: Context | None, *, ours: bool
    ) -> None:
        self.request, self.method, self.span, self.context = request, method, span, context
        self.ours, self.within = ours, False
        self.deadline: Deadline | None = None
        self.failure = 0
        self.prefix = self.root = ""
        self.status = self.received = self.sent = 0


class Answer(NamedTuple):
    """What a request is answered with that is refused or came too late."""

    status: int
    headers: dict[str, str]
    body: bytes


def answer_to(error: BaseException) -> Answer | None:
    """The answer that an error stands for which is a decision and no failure; marks the span."""
    refusal = refusal_in(error)
    if refusal is not None:
        request = request_in()
        span = request.span if request is not None else get_current_span()
        mark_rejected(span, refusal.entry_id)
        return _answer(UNAVAILABLE, refusal)
    expiry = expiry_in(error)
    return None if expiry is None else _answer(EXPIRED_STATUS, expiry)


def _answer(status: int, error: BreakerOpen | DeadlineExceeded) -> Answer:
    body = json.dumps({"detail": str(error)}).encode()
    return Answer(status, {**error.headers, "content-type": "application/json"}, body)


class Serving:
    """Sees the requests of one framework through.

    Args:
        framework: names the tracer.
        equipment: of the runtime.

    Attributes:
        excluded_paths: prefixes of paths that make no spans.

    A patch can't be taken out from under somebody else's. One that is left then stays out of the
    way, because its serving is not the one in use any more.
    """

    _in_use: ClassVar[dict[str, "Serving"]] = {}

    def __init__(self, framework: str, equipment: Equipment) -> None:
        self._framework = framework
        self._in_use[framework] = self
        settings = equipment.settings
        self._tracer = PROVIDER.get_tracer(f"heatshield.{framework}")
        self._read = equipment.propagator.read
        self._identity = equipment.identity
        self._arrivals = Arrivals(settings)
        self.excluded_paths = settings.excluded_paths

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

    @fail_open("serving", None)
    def open(
        self, method: str, attributes: dict[str, Any], header: Header, query: str = ""
    ) -> Served | None:
        """Open the span of a request, or join the one it has; ``None`` if it is not to be seen.

        Args:
            method: of HTTP.
            attributes: of the span; plain values, taken over.
            header: reads the request's headers.
            query: of its address.
        """
        here = get_current()
        if self.is_retired or here.get(_SUPPRESS_INSTRUMENTATION_KEY):
            return None
        served = _joined(method) or self._begun(method, attributes, header, here)
        self._name(served, header, query)
        return served

    @fail_open("serving", None)
    def join(self, method: str, header: Header, query: str = "") -> Served | None:
        """Join the span that somebody else has opened for the request that runs here."""
        served = None if self.is_retired else _joined(method)
        if served is not None:
            self._name(served, header, query)
        return served

    @fail_open("serving", None)
    def cross(
        self, served: Served, template: str, parameters: Mapping[str, Any], user: object = None
    ) -> BreakerOpen | DeadlineExceeded | None:
        """Say which handler is about to run; what is returned is why it must not.

        Args:
            served: the request.
            template: of its route; low cardinality.
            parameters: of its path.
            user: whom the framework has authenticated.
        """
        request, template = served.request, served.prefix + template
        if request.entered:
            return None
        call = f"{served.method} {template}"
        request.call = call
        name_call(served.span, call, template)
        if self._identity.reads_route:
            self._identity.on_route(request, parameters, user)
            stamp_user(served.span, request)
        refusal = refusal_of(served.method, template, request)
        if refusal is not None:
            return refusal
        left = left_s(time.monotonic())
        if left is not None and left <= 0:
            return DeadlineExceeded()
        request.entered = True
        return None

    def no_route(self, served: Served) -> None:
        """There is no handler for the request: its path, which anybody can choose, is no name."""
        if not served.ours and not served.request.entered:
            served.span.update_name(served.method)

    @fail_open("serving", None)
    def answered(self, served: Served, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Note the head of the answer.

        A service may answer a rejection in its own words; a header says that it is one.
        """
        served.status = status
        if status == UNAVAILABLE:
            for name, value in headers:
                if name.lower() == BREAKER_HEADER:
                    mark_rejected(served.span, value[:MAX_ID_LENGTH])

    @fail_open("serving", None)
    def failed(self, served: Served, error: BaseException) -> None:
        """Note what left the handler, unless whoever opened the span does."""
        if not served.ours or served.failure == id(error):
            return
        served.failure = id(error)
        if refusal_in(error) is None:
            served.span.record_exception(error)
            served.span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")

    def close(self, served: Served) -> None:
        """Say what it cost, and end the span; only the first time counts."""
        self._conclude(served)
        if served.ours:
            served.span.end()

    @fail_open("serving", None)
    def _conclude(self, served: Served) -> None:
        if served.deadline is not None:
            served.deadline.lift()
        span = served.span
        if not span.is_recording() or served.within:  # which counts itself what it moves
            return
        add_cost(bytes=served.received + served.sent, span=span)
        if not served.ours:
            return
        if served.received:
            span.set_attribute("http.request.body.size", served.received)
        if served.status:
            span.set_attribute("http.response.status_code", served.status)
            span.set_attribute("http.response.body.size", served.sent)
            if served.status >= SERVER_ERROR:
                span.set_status(StatusCode.ERROR)

    def _begun(
        self, method: str, attributes: dict[str, Any], header: Header, here: Context
    ) -> Served:
        inbound = self._read(header)
        request = inbound.request()
        if not inbound.trace_id:  # what the server was started in is no part of its requests
            here = set_span_in_context(INVALID_SPAN, here)
        context = inbound.context(request, here)
        name = method_name(method)
        span = self._tracer.open(name, SpanKind.SERVER, attributes, context)
        if not request.call:
            request.enter(name, span)  # where the service's own sampler made no span
        deadline = self._arrivals.deadline(_read(header, self._arrivals.headers))
        if deadline is not None:
            context = with_deadline(deadline, context)
        served = Served(request, name, span, set_span_in_context(span, context), ours=True)
        served.deadline = deadline
        return served

    def _name(self, served: Served, header: Header, query: str) -> None:
        """Name the user by what the request says of itself, as far as the settings want it."""
        identity = self._identity
        if identity.headers or identity.reads_query:
            raw_query = query.encode("latin-1", "replace") if identity.reads_query else b""
            identity.on_entry(served.request, _read(header, identity.headers), raw_query)
            stamp_user(served.span, served.request)


def _read(header: Header, names: Iterable[bytes]) -> dict[bytes, bytes]:
    values = ((name, header(name.decode("latin-1"))) for name in names)
    return {name: value.encode("latin-1", "replace") for name, value in values if value}


def _joined(method: str) -> Served | None:
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
    served = Served(request, method_name(method), request.span, context, ours=False)
    scope = getattr(request.span, "instrumentation_scope", None)
    served.within = str(getattr(scope, "name", "")).startswith("heatshield.")
    return served
