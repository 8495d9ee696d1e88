"""The server side of thriftpy2, sync and async: a span a call, its user, refusal before it runs.

A processor reads a call's arguments by the classes of its service and calls its handler by name. It
is given a service whose arguments have the field of
:mod:`heatshield.integrations.rpc.thrift_field`, and a handler around its own that takes that field
off again.
"""

from collections.abc import Callable, Mapping
from contextvars import Token
from functools import partial, wraps
from typing import Any, Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current
from opentelemetry.trace import Span, SpanKind, get_current_span, set_span_in_context

from heatshield.context.attachment import attach, detach
from heatshield.context.request import Request, request_in
from heatshield.counters import fail_open
from heatshield.identity.identify import HEADER, Found
from heatshield.integrations.admission import admit
from heatshield.integrations.rpc.thrift_field import Attributed, WithField, rejection
from heatshield.integrations.services import Services
from heatshield.rejection import BreakerOpen, refusal_in
from heatshield.tracing.failure import fail, mark_refusal
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.stamp import stamp_user
from heatshield.tracing.values import Attributes

__all__ = ["Processing", "answering", "noticing"]

_TRACER: Final = PROVIDER.get_tracer("heatshield.thrift")
_REJECTION: Final = "_heatshield_rejection"
"""Attribute of a result: what is to be answered instead."""

Function = Callable[..., Any]


class Processing:
    """Makes the patches of processors.

    Args:
        services: of the runtime.
    """

    def __init__(self, services: Services) -> None:
        self._read = services.propagator.read
        self._identity = services.identity
        self._user = _Path(services.settings.user_thrift_field)
        self._excluded_paths = services.settings.excluded_paths

    def reading(self, original: Function) -> Function:
        """Around the reading of a call."""
        return self._around(original, self._serve)

    def reading_async(self, original: Function) -> Function:
        """Around the reading of a call whose handler is async."""
        return self._around(original, self._serve_async)

    def _around(self, original: Function, serve: Function) -> Function:
        @wraps(original)
        def process_in(processor: Any, *args: Any, **kwargs: Any) -> Any:
            return original(_widened(processor, serve), *args, **kwargs)

        return process_in

    def _serve(self, method: Function, service: Any, api: str, *values: Any) -> Any:
        call = self._open(service, api, values)
        if call is None:
            return method(*values[:-1])
        try:
            call.enter()
            return method(*values[:-1])
        except BaseException as error:
            call.caught(error)
            refusal = refusal_in(error)
            if refusal is None or refusal is error:
                raise
            raise refusal from error
        finally:
            call.leave()

    async def _serve_async(self, method: Function, service: Any, api: str, *values: Any) -> Any:
        call = self._open(service, api, values)
        if call is None:
            return await method(*values[:-1])
        try:
            call.enter()
            return await method(*values[:-1])
        except BaseException as error:
            call.caught(error)
            refusal = refusal_in(error)
            if refusal is None or refusal is error:
                raise
            raise refusal from error
        finally:
            call.leave()

    @fail_open("thrift", None)
    def _open(self, service: Any, api: str, values: tuple[Any, ...]) -> "Call | None":
        name = f"{service.__name__}/{api}"
        context = get_current()
        if context.get(_SUPPRESS_INSTRUMENTATION_KEY):
            return None
        if self._excluded_paths and f"/{name}".startswith(self._excluded_paths):
            return None
        headers = values[-1] if isinstance(values[-1], Mapping) else {}
        request = _joined()
        if request is None:
            inbound = self._read(headers.get)
            request = inbound.request()
            # Not on top of the current context: that is the one in which the server was started.
            context = inbound.context(request, Context())
        user = self._user.in_arguments(service, api, values)
        if user is not None:
            self._identity.name(request, Found(user, HEADER))
        declared = _declared(service, api)
        return Call(name, request, context, declared)


def _joined() -> Request | None:
    """The request that a server around this one has opened: Thrift over HTTP."""
    if getattr(get_current_span(), "kind", None) is SpanKind.SERVER:
        return request_in()
    return None


def _widened(processor: Any, serve: Function) -> Any:
    """The processor, as it reads its calls."""
    known = vars(processor)
    own: dict[str, Any] = {}
    if "processors" in known:  # it is multiplexed
        own["processors"] = {
            name: _widened(one, serve) for name, one in processor.processors.items()
        }
    if "_service" in known:
        service = known["_service"]
        own["_service"] = WithField(service)
        own["_handler"] = _Handler(known["_handler"], service, serve)
    return Attributed(processor, own)


class _Handler:
    """A handler whose methods take one argument more."""

    __slots__ = ("_handler", "_serve", "_service")

    def __init__(self, handler: Any, service: Any, serve: Function) -> None:
        self._handler, self._service, self._serve = handler, service, serve

    def __getattr__(self, api: str) -> Any:
        return partial(self._serve, getattr(self._handler, api), self._service, api)


class _Path:
    """Where in a call's arguments the user stands: ``user`` or ``context.user.id``."""

    def __init__(self, path: str) -> None:
        self._argument, _, rest = path.partition(".")
        self._rest = rest.split(".") if rest else []

    def in_arguments(self, service: Any, api: str, values: tuple[Any, ...]) -> Any:
        """The user; ``None`` if this call has no such argument."""
        if not self._argument:
            return None
        spec = getattr(service, f"{api}_args").thrift_spec
        for (_, name, *_rest), value in zip(spec.values(), values, strict=False):
            if name == self._argument:
                for part in self._rest:
                    value = getattr(value, part, None)  # noqa: PLW2901  # deeper and deeper
                return value
        return None


def _declared(service: Any, api: str) -> tuple[type, ...]:
    """The exceptions that a call may answer with: those say no, and nothing has failed."""
    spec = getattr(service, f"{api}_result").thrift_spec
    return tuple(field[2] for field in spec.values() if field[1] != "success")


class Call:
    """One call on its way through this server.

    Args:
        name: of its span.
        request: what is known of it.
        context: that it runs in.
        declared: exceptions that are answers.
    """

    __slots__ = ("_context", "_declared", "_name", "_request", "_span", "_token")

    def __init__(
        self, name: str, request: Request, context: Context, declared: tuple[type, ...]
    ) -> None:
        service, _, method = name.partition("/")
        attributes: Attributes = {
            "rpc.system": "thrift",
            "rpc.service": service,
            "rpc.method": method,
        }
        self._name, self._request, self._declared = name, request, declared
        self._span: Span = _TRACER.open(name, SpanKind.SERVER, attributes, context)
        request.enter(name, self._span)
        stamp_user(self._span, request)
        self._context = set_span_in_context(self._span, context)
        self._token: Token[Context] | None = None

    def enter(self) -> None:
        """Make its context the current one.

        Raises:
            BreakerOpen: if its user is tripped.
        """
        self._token = attach(self._context)
        refusal = admit(self._request, self._span, self._name)
        if refusal is not None:
            raise refusal

    @fail_open("thrift", None)
    def caught(self, error: BaseException) -> None:
        """Say on the span what left the handler."""
        if mark_refusal(self._span, error) or not isinstance(error, Exception):
            return
        if isinstance(error, self._declared):  # an answer of the call's own, and no failure
            self._span.set_attribute("error.type", type(error).__qualname__)
        else:
            fail(self._span, error)

    @fail_open("thrift", None)
    def leave(self) -> None:
        """End it."""
        token, self._token = self._token, None
        if token is not None:
            detach(token)
        self._span.end()


# -- refusals --------------------------------------------------------------------------------------


def noticing(original: Function) -> Function:
    """Around the handling of what a handler raised: a refusal is answered, too."""

    @wraps(original)
    def handle_exception(processor: Any, e: Exception, result: Any) -> Any:
        if isinstance(e, BreakerOpen):
            setattr(result, _REJECTION, rejection(e))
            return True
        return original(processor, e, result)

    return handle_exception


def answering(original: Function) -> Function:
    """Around the sending of a result, which may be a refusal; it may be a coroutine's."""

    @wraps(original)
    def send_result(processor: Any, oprot: Any, api: str, result: Any, seqid: int) -> Any:
        refused = getattr(result, _REJECTION, None)
        if refused is not None:
            return processor.send_exception(oprot, api, refused, seqid)
        return original(processor, oprot, api, result, seqid)

    return send_result
