"""A served request becomes a call once its route is known: named, and refused to a tripped user."""

from opentelemetry.trace import Span as ApiSpan

from heatshield.breakers.gate import GATE
from heatshield.context.request import Request
from heatshield.names import CALL
from heatshield.rejection import BreakerOpen
from heatshield.tracing.span import Span

__all__ = ["name_call", "refusal_of"]


def name_call(span: ApiSpan, call: str, template: str) -> None:
    """Name a server span after the call that it turned out to be.

    One of the SDK was stamped when it began, with the method alone.
    """
    span.set_attribute("http.route", template)
    span.update_name(call)
    if not isinstance(span, Span):
        span.set_attribute(CALL, call)


def refusal_of(method: str, template: str, request: Request) -> BreakerOpen | None:
    """Why a call must not run. Where HEAD has no handler of its own, it runs that of GET."""
    refusal = GATE.refusal(f"{method} {template}", request.user)
    if refusal is None and method == "HEAD":
        return GATE.refusal(f"GET {template}", request.user)
    return refusal
