"""Celery's messages: a span for each that is published; trace and user travel in its headers."""

from collections.abc import Mapping
from contextvars import Token
from functools import wraps
from typing import Final, cast

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from heatshield.context.attachment import attach, detach
from heatshield.context.propagator import is_propagation_field
from heatshield.counters import fail_open
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Original
from heatshield.integrations.services import Services
from heatshield.tracing.failure import fail
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.values import Attributes

__all__ = ["CONTRIB", "TRACER", "Publishing"]

CONTRIB: Final = OtelContrib("celery", "CeleryInstrumentor")
TRACER: Final = PROVIDER.get_tracer("heatshield.celery")


_Opened = tuple[Span, Token[Context], dict[str, object]]
"""A span, what gives the context before it back, and the message's headers."""


class Publishing:
    """Makes the patch of an application.

    Args:
        services: of the runtime.
    """

    def __init__(self, services: Services) -> None:
        self._headers = services.propagator.headers

    def sending(self, original: Original) -> Original:
        """A patch of ``send_task``, which sends every task that is not run at once."""

        @wraps(original)
        def send_task(app: object, name: str, *args: object, **options: object) -> object:
            opened = self._open(name, options.get("headers"))
            if opened is None:
                return original(app, name, *args, **options)
            span, token, headers = opened
            try:
                sent = original(app, name, *args, **{**options, "headers": headers})
            except BaseException as error:
                _end(span, token, error)
                raise
            _end(span, token, sent=sent)
            return sent

        return send_task

    @fail_open("celery", None)
    def _open(self, name: str, given: object) -> _Opened | None:
        context = get_current()
        if context.get(_SUPPRESS_INSTRUMENTATION_KEY) or CONTRIB.active:
            return None
        attributes: Attributes = {
            "messaging.system": "celery",
            "messaging.operation.type": "send",
            "celery.task_name": name,
        }
        span = TRACER.open(f"publish {name}", SpanKind.PRODUCER, attributes, context)
        within = set_span_in_context(span, context)
        own = cast("Mapping[str, object]", given or {})
        kept = {key: value for key, value in own.items() if not is_propagation_field(key)}
        headers = {**kept, **self._headers(within)}
        return span, attach(within), headers


@fail_open("celery", None)
def _end(
    span: Span, token: Token[Context], error: BaseException | None = None, sent: object = None
) -> None:
    detach(token)
    try:
        task_id = getattr(sent, "id", None)
        if task_id:
            span.set_attribute("messaging.message.id", str(task_id))
        if isinstance(error, Exception):
            fail(span, error)
    finally:
        span.end()
