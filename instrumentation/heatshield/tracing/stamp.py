"""What heatshield writes on spans of any library: user, call and cost."""

from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import get_current_span

from heatshield.context.request import Request, call_in, request_in
from heatshield.context.span_like import attributes_of
from heatshield.counters import fail_open
from heatshield.names import (
    CALL,
    COST_BYTES,
    COST_ELEMENTS,
    COST_ROWS,
    ENDUSER_ID,
    USER_SOURCE,
)
from heatshield.tracing.span import ENTRY_KINDS, Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span as SdkSpan

__all__ = ["add_cost", "stamp", "stamp_user"]

_ADDRESSES: Final = frozenset({"http.target", "http.url", "url.path", "url.query", "url.full"})
"""Attributes in which a path parameter stands as it came, by either of the conventions."""


@fail_open("stamp", None)
def stamp(span: "SdkSpan", context: Context | None) -> None:
    """Write user and call, found in its parent context, on a span of the SDK as it starts.

    Spans of ours know their request, so they need no stamp.
    """
    request = request_in(context)
    if span.kind in ENTRY_KINDS and request is not None and not request.call:
        request.enter(span.name, span)
    call = call_in(context) or (span.name if span.kind in ENTRY_KINDS else "")
    if call:
        span.set_attribute(CALL, call)
    if request is not None and request.user is not None:
        stamp_user(span, request)


def stamp_user(span: ApiSpan, request: Request) -> None:
    """Write the acting user on a span of the SDK; where a pseudonym stands, mask its addresses.

    A span of ours that belongs to no request, like a guard outside of a server, joins this one.
    """
    if request.user is None or not span.is_recording():
        return
    if isinstance(span, Span):
        span.request = span.request or request
        return
    span.set_attribute(ENDUSER_ID, request.user)
    if request.source and getattr(span, "kind", None) in ENTRY_KINDS:
        span.set_attribute(USER_SOURCE, request.source)
    attributes = attributes_of(span)
    if request.raw_user:
        for name in _ADDRESSES & attributes.keys():
            span.set_attribute(name, request.masked(str(attributes[name])))


@fail_open("cost", None)
def add_cost(
    elements: int = 0,
    rows: int = 0,
    bytes: int = 0,  # noqa: A002  # the public name of the cost
    span: ApiSpan | None = None,
) -> None:
    """Add to what a span, by default the current one, has cost so far."""
    span = get_current_span() if span is None else span
    if not span.is_recording():
        return
    attributes = attributes_of(span)
    for name, more in ((COST_ELEMENTS, elements), (COST_ROWS, rows), (COST_BYTES, bytes)):
        if more > 0:
            so_far = attributes.get(name, 0)
            span.set_attribute(name, int(more) + (so_far if isinstance(so_far, int) else 0))
