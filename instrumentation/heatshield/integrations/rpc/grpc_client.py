"""The client side of gRPC, sync and aio: a span a call; trace and user travel on in its metadata.

Calls themselves are patched, so every channel and stub is covered, whenever it was made, and what a
call returns is what it returned before. OpenTelemetry's interceptors return a bare generator for a
stream, which can't be cancelled, and lose metadata that has a key twice. Where the service has
activated them, spans are theirs.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import grpc
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_current
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span, set_span_in_context

from heatshield.context.propagator import RequestPropagator, is_propagation_field
from heatshield.context.request import request_in
from heatshield.counters import fail_open
from heatshield.integrations.rpc.grpc_calls import (
    at_once,
    attributes_for,
    is_theirs,
    name_of,
    number_of,
    server_of,
)
from heatshield.rejection import refusal_in
from heatshield.tracing.failure import fail, mark_refusal
from heatshield.tracing.provider import PROVIDER

__all__ = ["Calling"]

_TRACER: Final = PROVIDER.get_tracer("heatshield.grpc")

METADATA_AT: Final = 2
"""Where a call's metadata stands: after the request and the timeout."""

Call = Callable[..., Any]


class Calling:
    """Makes the patches of a stub's methods.

    Args:
        propagator: writes the trace and the user.
    """

    def __init__(self, propagator: RequestPropagator) -> None:
        self._headers = propagator.headers

    def blocking(self, original: Call) -> Call:
        """A method that returns the answer."""

        @wraps(original)
        def call(stub: Any, *args: Any, **kwargs: Any) -> Any:
            opened = self._open(stub, args, kwargs)
            if opened is None:
                return original(stub, *args, **kwargs)
            outgoing, args, kwargs = opened
            try:
                answer = original(stub, *args, **kwargs)
            except BaseException as error:
                outgoing.failed(error)
                raise
            outgoing.end(grpc.StatusCode.OK)
            return answer

        return call

    def starting(self, original: Call) -> Call:
        """A method that returns a call that goes on: a future, a stream."""

        @wraps(original)
        def call(stub: Any, *args: Any, **kwargs: Any) -> Any:
            opened = self._open(stub, args, kwargs)
            if opened is None:
                return original(stub, *args, **kwargs)
            outgoing, args, kwargs = opened
            try:
                made = original(stub, *args, **kwargs)
            except BaseException as error:
                outgoing.failed(error)
                raise
            outgoing.follow(made)
            return made

        return call

    @fail_open("grpc", None)
    def _open(
        self, stub: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> "tuple[OutgoingCall, tuple[Any, ...], dict[str, Any]] | None":
        context = get_current()
        if context.get(_SUPPRESS_INSTRUMENTATION_KEY) or _has_theirs(stub):
            return None
        theirs = get_current_span(context)
        if is_theirs(theirs, SpanKind.CLIENT):
            return OutgoingCall(theirs, ours=False), args, kwargs
        name = name_of(stub._method)  # noqa: SLF001  # a stub's method has no public name
        attributes = attributes_for(name) | server_of(stub)
        span = _TRACER.open(name, SpanKind.CLIENT, attributes, context)
        headers = self._headers(set_span_in_context(span, context))
        return OutgoingCall(span, ours=True), *_with_metadata(args, kwargs, headers)


def _has_theirs(stub: Any) -> bool:
    """Whether an aio stub runs OpenTelemetry's interceptors."""
    return any(
        type(one).__module__.startswith("opentelemetry.instrumentation.grpc")
        for one in getattr(stub, "_interceptors", None) or ()
    )


def _with_metadata(
    args: tuple[Any, ...], kwargs: dict[str, Any], headers: dict[str, str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call; what we send takes the place of what was copied from elsewhere."""
    by_position = len(args) > METADATA_AT
    given = args[METADATA_AT] if by_position else kwargs.get("metadata")
    metadata = (
        *((name, value) for name, value in given or () if not is_propagation_field(name)),
        # gRPC refuses the whole call for a value that is not printable ASCII.
        *((n, value) for n, value in headers.items() if value.isascii() and value.isprintable()),
    )
    if by_position:
        return (*args[:METADATA_AT], metadata, *args[METADATA_AT + 1 :]), kwargs
    return args, {**kwargs, "metadata": metadata}


class OutgoingCall:
    """One call to another service.

    Args:
        span: of the call.
        ours: whether to end it.
    """

    __slots__ = ("_ours", "_span")

    def __init__(self, span: Span, *, ours: bool) -> None:
        self._span = span
        self._ours = ours

    @fail_open("grpc", None)
    def follow(self, call: Any) -> None:
        """End when a call that was started does."""
        if isinstance(call, grpc.aio.Call):
            call.add_done_callback(self._ended_async)
        else:
            call.add_done_callback(self._ended)

    @fail_open("grpc", None)
    def _ended(self, call: Any) -> None:
        code = call.code()
        self.end(code, None if code is grpc.StatusCode.OK else call)

    @fail_open("grpc", None)
    def _ended_async(self, call: Any) -> None:
        try:
            code = at_once(call.code())
            error = _error(code, at_once(call.trailing_metadata()))
        except Exception as raised:  # noqa: BLE001  # by an interceptor of the service's
            code, error = None, raised
        self.end(code, error)

    @fail_open("grpc", None)
    def failed(self, error: BaseException) -> None:
        """End with what the call raised."""
        code = error.code() if isinstance(error, grpc.RpcError) and hasattr(error, "code") else None
        self.end(code, error)

    @fail_open("grpc", None)
    def end(self, code: Any, error: Any = None) -> None:
        """End the span.

        Args:
            code: gRPC's status; ``None`` if there was none.
            error: what the call raised or would raise; it may be a rejection.
        """
        span = self._span
        try:
            rejected = error is not None and mark_refusal(span, error)
            if error is not None:
                self._note(error)
            if not self._ours:
                return
            if code is not None:
                span.set_attribute("rpc.grpc.status_code", number_of(code))
            if error is None or rejected:
                return
            if code is not None:  # what gRPC answers is no exception of this service's
                span.set_status(StatusCode.ERROR, code.name)
            else:
                fail(span, error)
        finally:
            if self._ours:
                span.end()

    def _note(self, error: Any) -> None:
        """Note how it was refused; it may end in a thread of gRPC's own."""
        request = getattr(self._span, "request", None) or request_in()
        if request is not None:
            request.refused_below = refusal_in(error)


def _error(code: Any, metadata: Any) -> grpc.RpcError | None:
    """What an ended call of aio raises where it is awaited."""
    if code is None or code is grpc.StatusCode.OK:
        return None
    return grpc.aio.AioRpcError(code, trailing_metadata=metadata)
