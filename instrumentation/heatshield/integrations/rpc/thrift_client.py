"""The client side of thriftpy2, sync and async: a span a call; trace and user travel on with it."""

from collections.abc import Awaitable, Callable
from contextvars import Token
from functools import wraps
from typing import Any, Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from heatshield.context.attachment import attach, detach
from heatshield.context.request import note_refusal
from heatshield.counters import fail_open
from heatshield.integrations.rpc.thrift_field import FIELD, Attributed, WithField, note_rejection
from heatshield.integrations.services import Services
from heatshield.tracing.failure import fail, mark_rejected
from heatshield.tracing.provider import PROVIDER

__all__ = ["Calling"]

_TRACER: Final = PROVIDER.get_tracer("heatshield.thrift")
_NO_HEADERS: Final[dict[str, str]] = {}


class Calling:
    """Makes the patches of clients.

    Args:
        services: of the runtime.
    """

    def __init__(self, services: Services) -> None:
        self._headers = services.propagator.headers

    def calling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Around a call and its answer."""

        @wraps(original)
        def req(client: Any, _api: str, *args: Any, **kwargs: Any) -> Any:
            opened = _open(client, _api)
            if opened is None:
                return original(client, _api, *args, **kwargs)
            try:
                answer = original(client, _api, *args, **kwargs)
            except BaseException as error:
                _end(*opened, error)
                raise
            _end(*opened)
            return answer

        return req

    def calling_async(
        self, original: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        """Around a call of an async client."""

        @wraps(original)
        async def req(client: Any, _api: str, *args: Any, **kwargs: Any) -> Any:
            opened = _open(client, _api)
            if opened is None:
                return await original(client, _api, *args, **kwargs)
            try:
                answer = await original(client, _api, *args, **kwargs)
            except BaseException as error:
                _end(*opened, error)
                raise
            _end(*opened)
            return answer

        return req

    def sending(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Around the writing of a call; it may be a coroutine's."""

        @wraps(original)
        def send(client: Any, _api: str, **kwargs: Any) -> Any:
            headers = self._carried()
            if not headers:
                return original(client, _api, **kwargs)
            widened = Attributed(client, {"_service": WithField(client._service)})  # noqa: SLF001  # named so for subclasses
            return original(widened, _api, **kwargs, **{FIELD: headers})

        return send

    @fail_open("thrift", _NO_HEADERS)
    def _carried(self) -> dict[str, str]:
        context = get_current()
        return {} if context.get(_SUPPRESS_INSTRUMENTATION_KEY) else self._headers(context)


@fail_open("thrift", None)
def _open(client: Any, api: str) -> tuple[Span, Token[Context]] | None:
    context = get_current()
    if context.get(_SUPPRESS_INSTRUMENTATION_KEY):
        return None
    service = client._service.__name__  # noqa: SLF001  # as above
    attributes = {"rpc.system": "thrift", "rpc.service": service, "rpc.method": api}
    attributes.update(_server(client))
    span = _TRACER.open(f"{service}/{api}", SpanKind.CLIENT, attributes, context)
    return span, attach(set_span_in_context(span, context))


@fail_open("thrift", _NO_HEADERS)
def _server(client: Any) -> dict[str, Any]:
    """Whom it calls, where its transports tell: those in C hide what they write to."""
    transport = client._oprot.trans  # noqa: SLF001  # as above
    for _ in range(MAX_TRANSPORTS):
        host = getattr(transport, "host", None)
        if host:
            return {"server.address": str(host), "server.port": int(transport.port)}
        transport = getattr(transport, "trans", None) or getattr(transport, "_trans", None)
    return {}


MAX_TRANSPORTS: Final = 4
"""How many may stand around a socket: a buffer, a frame, an authentication."""


@fail_open("thrift", None)
def _end(span: Span, token: Token[Context], error: BaseException | None = None) -> None:
    detach(token)
    try:
        if error is None:
            return
        rejection = note_rejection(error)
        note_refusal(rejection)
        if rejection is not None:
            mark_rejected(span, rejection.entry_id)
        elif isinstance(error, Exception):
            fail(span, error)
    finally:
        span.end()
