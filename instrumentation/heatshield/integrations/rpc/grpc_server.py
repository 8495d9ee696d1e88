"""The server side of gRPC, sync and aio: a span an RPC, its user, refusal before its handler runs.

Interceptors of our own and not OpenTelemetry's, which break handlers: those of aio that are plain
functions or write to their context, those that switch compression off, and servers that are given
their interceptors by position. Where the service has activated OpenTelemetry's, the span is theirs.

From the outside in: :class:`CallInterceptor` (span, user), the service's own interceptors, which
may be what names the user, :class:`AdmissionInterceptor` (refusal), the handler. Either answers a
:class:`~heatshield.rejection.BreakerOpen` that comes from within, as an interceptor in
between may take it for a failure.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from contextvars import Token
from typing import Any, Final

import grpc
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)

from heatshield.context.attachment import attach, detach
from heatshield.context.deadline import MAX_S, TIME, Deadline, deadline_in, with_deadline
from heatshield.context.propagator import HEADERS
from heatshield.context.request import Request, request_in
from heatshield.counters import fail_open
from heatshield.identity.credentials import header_bytes
from heatshield.integrations.admission import PlaceInLine, Refusal, admit_in_line
from heatshield.integrations.rpc.grpc_calls import (
    CANCELLED,
    REFUSALS,
    SERVER_FAILURES,
    UNKNOWN,
    answer_to,
    attributes_for,
    is_abort,
    is_theirs,
    metadata_of,
    name_of,
    number_of,
)
from heatshield.integrations.rpc.grpc_stages import surrounded
from heatshield.integrations.services import Services
from heatshield.names import BREAKER_HEADER, CALL
from heatshield.rejection import BreakerOpen
from heatshield.tracing.failure import fail, mark_refusal, mark_rejected
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.span import Span as OurSpan
from heatshield.tracing.stamp import add_cost, stamp_user

__all__ = [
    "AdmissionInterceptor",
    "AsyncAdmissionInterceptor",
    "AsyncCallInterceptor",
    "CallInterceptor",
    "IncomingCalls",
]

_TRACER: Final = PROVIDER.get_tracer("heatshield.grpc")


class IncomingCalls:
    """Reads what each call says of itself.

    Args:
        services: of the runtime.
    """

    def __init__(self, services: Services) -> None:
        self._read = services.propagator.read
        self._identity = services.identity
        self._wanted = frozenset(HEADERS) | {
            name.decode("latin-1") for name in services.identity.headers
        }
        self._excluded_paths = services.settings.excluded_paths
        self._deadlines = services.settings.deadlines and not services.settings.edge

    @fail_open("grpc", None)
    def take(self, details: Any) -> "Rpc | None":
        """The call that comes in; ``None`` if it is not to be seen."""
        if get_current().get(_SUPPRESS_INSTRUMENTATION_KEY):
            return None
        if self._excluded_paths and details.method.startswith(self._excluded_paths):
            return None
        headers: dict[str, str] = {}
        for name, value in details.invocation_metadata or ():
            if name in self._wanted and isinstance(value, str):
                headers[name] = f"{headers[name]},{value}" if name in headers else value
        inbound = self._read(headers.get)
        request = inbound.request()
        request.call = name_of(details.method)
        self._name(request, headers)
        # Not on top of the current context: that is the one in which the server was started.
        context = inbound.context(request, Context())
        return Rpc(request, context, deadlines=self._deadlines)

    def _name(self, request: Request, headers: dict[str, str]) -> None:
        if self._identity.headers:
            named = {n.encode(): header_bytes(v) for n, v in headers.items()}
            self._identity.on_entry(request, named)


class Rpc:
    """One call on its way through this server; the outer stage.

    Args:
        request: what is known of it.
        context: that it runs in.
        deadlines: heed how long its caller waits.
    """

    def __init__(self, request: Request, context: Context, *, deadlines: bool) -> None:
        self._request = request
        self._deadlines = deadlines
        self._deadline: Deadline | None = None
        self._span: Span = INVALID_SPAN
        self._joined = False
        self._code = self._messages = 0
        self.context = context

    async def enter_async(self, servicer: Any) -> None:
        """The same; the inner stage waits."""
        self.enter(servicer)

    @fail_open("grpc", None)
    def enter(self, servicer: Any) -> None:
        """Open the span, if OpenTelemetry's interceptor has not."""
        theirs = get_current_span()
        if is_theirs(theirs, SpanKind.SERVER):
            self._join(theirs)
            return
        request, call = self._request, self._request.call
        attributes = attributes_for(call)
        peer = servicer.peer().partition(":")[2]
        attributes["client.address"] = peer.rpartition(":")[0].strip("[]") or peer
        span = _TRACER.open(call, SpanKind.SERVER, attributes, self.context)
        request.enter(call, span)
        stamp_user(span, request)
        self._span = span
        self.context = set_span_in_context(span, self._with_deadline(servicer))

    def _join(self, theirs: Span) -> None:
        self._joined, self._span = True, theirs
        seen, request = self._request, request_in()
        if request is None:
            return
        if seen.user is not None:
            request.user, request.source = seen.user, seen.source
            request.raw_user, request.aliases = seen.raw_user, seen.aliases
        request.enter(seen.call, theirs)
        theirs.update_name(seen.call)
        if not isinstance(theirs, OurSpan):  # it was stamped with another name when it began
            theirs.set_attribute(CALL, seen.call)
        stamp_user(theirs, request)

    def _with_deadline(self, servicer: Any) -> Context:
        left_s = servicer.time_remaining() if self._deadlines else None
        if left_s is None or left_s > MAX_S:  # where there is none, sync gRPC has a far one
            return self.context
        self._deadline = Deadline(TIME.monotonic() + left_s)
        return with_deadline(self._deadline, self.context)

    def within(self) -> AbstractContextManager[object]:
        """The call's context is the current one."""
        return _NOTHING if self._joined else _Attached(self.context)

    def passed(self) -> None:
        """One more message of a stream."""
        self._messages += 1

    @fail_open("grpc", None)
    def caught(self, error: BaseException) -> None:
        """Say on the span what left the handler."""
        answer = answer_to(error)
        mark_refusal(self._span, error)
        if answer is not None:
            self._code = number_of(answer.code)
        elif not isinstance(error, Exception):
            self._code = CANCELLED
        elif not is_abort(error):
            self._code = UNKNOWN
            if not self._joined:
                fail(self._span, error)

    @fail_open("grpc", None)
    def leave(self, servicer: Any) -> None:
        """End the span, with the call's status."""
        if self._deadline is not None:
            self._deadline.lift()
        add_cost(elements=self._messages, span=self._span)
        if self._joined:
            return
        try:
            # A handler on aio's server that is a plain function can't ask for its status.
            said = number_of(servicer.code()) if hasattr(servicer, "code") else 0
            code = said or self._code
            self._span.set_attribute("rpc.grpc.status_code", code)
            if code in SERVER_FAILURES:
                self._span.set_status(StatusCode.ERROR)
            if said in REFUSALS and self._request.refused_below is not None:
                self._pass_on(self._request.refused_below, servicer)
        finally:
            self._span.end()

    def _pass_on(self, refusal: BreakerOpen, servicer: Any) -> None:
        """The handler gave another service's answer on, by its status: it is a refusal still.

        Where aio's server aborts, its answer is out by now, and lacks the marks.
        """
        mark_rejected(self._span, refusal.entry_id)
        theirs = tuple(servicer.trailing_metadata() or ())
        if BREAKER_HEADER not in {name for name, _ in theirs}:
            servicer.set_trailing_metadata((*theirs, *metadata_of(refusal)))


class Admission:
    """The inner stage: right before the handler, the call is admitted or refused."""

    def enter(self, servicer: Any) -> None:
        """Refuse the call to a tripped user, and one whose caller has stopped waiting.

        Raises:
            BreakerOpen: the refusal.
            DeadlineExceeded: no time is left.
        """
        del servicer
        refusal = _admission(0.0)
        if isinstance(refusal, Refusal):
            raise refusal

    async def enter_async(self, servicer: Any) -> None:
        """The same, after the wait for a paced user's turn."""
        del servicer
        found = _admission(math.inf)
        refusal = await found.wait() if isinstance(found, PlaceInLine) else found
        if refusal is not None:
            raise refusal

    def within(self) -> AbstractContextManager[object]:
        """The outer stage has set the context."""
        return _NOTHING

    def passed(self) -> None:
        """The outer stage counts."""

    @fail_open("grpc", None)
    def caught(self, error: BaseException) -> None:
        """Mark what is answered here, so that the outer stage gets to see an abort only."""
        request = request_in()
        if request is not None:
            mark_refusal(request.span, error)

    def leave(self, servicer: Any) -> None:
        """The outer stage ends."""


@fail_open("grpc", None)
def _admission(most_wait_s: float) -> Refusal | PlaceInLine | None:
    request = request_in()
    if request is None or request.entered:
        return None
    call, span = request.call, request.span
    return admit_in_line(request, span, call, deadline_in(), most_wait_s=most_wait_s)


class _Attached:
    """Makes a context the current one."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        self._token = attach(self._context)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            detach(self._token)


_NOTHING: Final[AbstractContextManager[object]] = nullcontext()
_ADMISSION: Final = Admission()


class CallInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc publishes no types
    """The outermost interceptor of a server."""

    def __init__(self, calls: IncomingCalls) -> None:
        self._calls = calls

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Find the handler within the call's context, and surround it."""
        rpc = self._calls.take(handler_call_details)
        if rpc is None:
            return continuation(handler_call_details)
        with _Attached(rpc.context):
            handler = continuation(handler_call_details)
        return surrounded(handler, rpc)


class AdmissionInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc publishes no types
    """The innermost interceptor of a server."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Surround the handler."""
        return surrounded(continuation(handler_call_details), _ADMISSION)


class AsyncCallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc publishes no types
    """The outermost interceptor of an aio server."""

    def __init__(self, calls: IncomingCalls) -> None:
        self._calls = calls

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Find the handler within the call's context, and surround it."""
        rpc = self._calls.take(handler_call_details)
        if rpc is None:
            return await continuation(handler_call_details)
        with _Attached(rpc.context):
            handler = await continuation(handler_call_details)
        return surrounded(handler, rpc)


class AsyncAdmissionInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc publishes no types
    """The innermost interceptor of an aio server."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Surround the handler."""
        return surrounded(await continuation(handler_call_details), _ADMISSION)
