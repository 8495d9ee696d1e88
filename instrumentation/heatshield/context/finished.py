"""Finds the request of a log record that a server writes after the request's context has ended.

A server reports the exception that left the application after the application has returned, and
some servers write their access log then. The exception's stack still holds heatshield's own frame
of the request, and with it the ASGI scope or WSGI environ that names the request. heatshield sets
no attribute on the exception, because the service owns it and may pickle it.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context

from heatshield.context.request import Request, with_request

__all__ = ["KEY", "context_after", "context_in"]

KEY: Final = "heatshield"
"""Key, in an ASGI scope or a WSGI environ, of the object with the ``request`` and its server
``span``."""

MAX_FRAMES: Final = 64
"""Frames of an exception that are searched, from the outside in: ours is among the outermost."""

_OURS: Final = "heatshield.integrations."


def context_in(carrier: object) -> Context | None:
    """The context of the request whose scope or environ this is; ``None`` if it holds none."""
    if not isinstance(carrier, Mapping):
        return None
    served = carrier.get(KEY)
    request, span = getattr(served, "request", None), getattr(served, "span", None)
    if not isinstance(request, Request) or not isinstance(span, Span):
        return None
    return set_span_in_context(span, with_request(request, Context()))


def context_after(error: object) -> Context | None:
    """The context of the request that raised an exception; ``None`` if no frame names one."""
    step: TracebackType | None = getattr(error, "__traceback__", None)
    for _ in range(MAX_FRAMES):
        if step is None:
            return None
        frame = step.tb_frame
        if str(frame.f_globals.get("__name__", "")).startswith(_OURS):
            found = frame.f_locals
            context = context_in(found.get("scope")) or context_in(found.get("environ"))
            if context is not None:
                return context
        step = step.tb_next
    return None
