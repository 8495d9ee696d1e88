"""Celery's messages: a span for each that is published; trace and user travel in its headers."""

import sys
from collections.abc import Callable
from contextvars import Token
from functools import wraps
from typing import Any, Final

from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY,
    Context,
    attach,
    detach,
    get_current,
)
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from heatshield.counters import fail_open
from heatshield.integrations.services import Services
from heatshield.tracing.failure import fail
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.values import Attributes

__all__ = ["TRACER", "Publishing", "has_theirs"]

TRACER: Final = PROVIDER.get_tracer("heatshield.celery")


def has_theirs() -> bool:
    """Whether the service has activated OpenTelemetry's own instrumentation: its spans are used."""
    module = sys.modules.get("opentelemetry.instrumentation.celery")
    return module is not None and module.CeleryInstrumentor().is_instrumented_by_opentelemetry


class Publishing:
    """Makes the patch of an application.

    Args:
        services: of the runtime.
    """

    def __init__(self, services: Services) -> None:
        self._headers = services.propagator.headers

    def sending(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Around ``send_task``, by which every task is sent that is not run at once."""

        @wraps(original)
        def send_task(app: Any, name: str, *args: Any, **options: Any) -> Any:
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
    def _open(self, name: str, given: Any) -> tuple[Span, Token[Context], dict[str, Any]] | None:
        context = get_current()
        if context.get(_SUPPRESS_INSTRUMENTATION_KEY) or has_theirs():
            return None
        attributes: Attributes = {
            "messaging.system": "celery",
            "messaging.operation.type": "send",
            "celery.task_name": name,
        }
        span = TRACER.open(f"publish {name}", SpanKind.PRODUCER, attributes, context)
        within = set_span_in_context(span, context)
        headers = {**(given or {}), **self._headers(within)}
        return span, attach(within), headers


@fail_open("celery", None)
def _end(
    span: Span, token: Token[Context], error: BaseException | None = None, sent: Any = None
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
