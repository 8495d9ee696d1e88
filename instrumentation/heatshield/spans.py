"""Every span says whose it is and which call it is charged to; costs add up on it."""

from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span

from heatshield.breakers.rejection import BreakerOpen
from heatshield.counters import fail_open
from heatshield.current import Request, call_in, request_in
from heatshield.names import CALL, COST_BYTES, COST_ELEMENTS, COST_ROWS, ENDUSER_ID, REJECTED

__all__ = ["StampProcessor", "add_cost", "rejection_as_no_error", "stamp_user"]

_REJECTION_STATUS: Final = f"{BreakerOpen.__name__}: "
"""How OpenTelemetry describes the status of a span that a :class:`BreakerOpen` left."""

_ADDRESSES: Final = frozenset({"http.target", "http.url", "url.path", "url.query", "url.full"})
"""Attributes in which a path parameter stands as it came, by either of the conventions."""


class StampProcessor(SpanProcessor):
    """Stamps user and call on each span as it starts; both are in its parent context."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp; a server span is its own call and becomes the local root."""
        _stamp(span, parent_context)


@fail_open("stamp", None)
def _stamp(span: Span, context: Context | None) -> None:
    request = request_in(context)
    if span.kind is SpanKind.SERVER and request is not None:
        request.call = span.name
        request.span = span
    call = call_in(context) or (span.name if span.kind is SpanKind.SERVER else "")
    if call:
        span.set_attribute(CALL, call)
    if request is not None and request.user is not None:
        stamp_user(span, request)


def stamp_user(span: ApiSpan, request: Request) -> None:
    """Say on a span who acts, and no longer say it in its addresses where a pseudonym is in use."""
    if request.user is None or not span.is_recording():
        return
    span.set_attribute(ENDUSER_ID, request.user)
    if request.raw_user and isinstance(span, Span):
        for name in _ADDRESSES & (span.attributes or {}).keys():
            span.set_attribute(name, request.masked(str((span.attributes or {})[name])))


@fail_open("cost", None)
def add_cost(
    elements: int = 0,
    rows: int = 0,
    bytes: int = 0,  # noqa: A002  # the public name of the cost
    span: ApiSpan | None = None,
) -> None:
    """Add to what a span, by default the current one, has cost so far."""
    span = get_current_span() if span is None else span
    if not isinstance(span, Span) or not span.is_recording():
        return
    for name, more in ((COST_ELEMENTS, elements), (COST_ROWS, rows), (COST_BYTES, bytes)):
        if more > 0:
            so_far = (span.attributes or {}).get(name, 0)
            span.set_attribute(name, int(more) + (so_far if isinstance(so_far, int) else 0))


def rejection_as_no_error(span: ReadableSpan) -> ReadableSpan:
    """The span as it is, or with its status unset if its error is a breaker's rejection.

    HTTP instrumentations mark every 503 as an error, and every span that an exception leaves.
    """
    if span.status.status_code is not StatusCode.ERROR:
        return span
    marked = REJECTED in (span.attributes or {})
    if not marked and not (span.status.description or "").startswith(_REJECTION_STATUS):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=Status(StatusCode.UNSET),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
