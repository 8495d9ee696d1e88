"""Reads ids and attributes of spans, heatshield's own or an SDK's.

heatshield's spans, local and remote, hold their ids as plain numbers; an SDK's span makes an object
at each question. The functions here read both.
"""

from typing import Any, ClassVar, TypeGuard

from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

__all__ = [
    "SAMPLED",
    "UNSAMPLED",
    "RemoteSpan",
    "SpanLike",
    "attributes_of",
    "ids_of",
    "is_sampled",
]

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)


class SpanLike(trace.Span):
    """A span whose ids stand in plain attributes.

    Attributes:
        trace_id: 128 bits.
        span_id: 64 bits.
        trace_state: W3C's, as text.
        sampled: whether callers wish its trace to be stored.
    """

    __slots__ = ()

    has_plain_ids: ClassVar[bool] = True
    """Asked in place of :func:`isinstance`, which takes five times as long for abstract classes."""

    trace_id: int
    span_id: int
    trace_state: str
    sampled: bool

    @property
    def raw_attributes(self) -> dict[str, Any]:
        """The attributes of the span, not copied."""
        return {}


class RemoteSpan(SpanLike, trace.NonRecordingSpan):
    """A span of another process: the parent of what this one does."""

    def __init__(
        self, trace_id: int, span_id: int, trace_state: str, *, sampled: bool = True
    ) -> None:
        self.trace_id, self.span_id, self.trace_state = trace_id, span_id, trace_state
        self.sampled = sampled

    def __repr__(self) -> str:
        return f"RemoteSpan({self.get_span_context()!r})"

    def get_span_context(self) -> SpanContext:
        """The ids and flags, as OpenTelemetry's object."""
        state = TraceState.from_header([self.trace_state]) if self.trace_state else None
        flags = SAMPLED if self.sampled else UNSAMPLED
        return SpanContext(self.trace_id, self.span_id, True, flags, state)


def _is_span_like(span: trace.Span) -> TypeGuard[SpanLike]:
    return bool(getattr(span, "has_plain_ids", False))


def is_sampled(span: trace.Span) -> bool:
    """Whether callers wish a span's trace to be stored."""
    if _is_span_like(span):
        return span.sampled
    context = span.get_span_context()
    return context.trace_flags.sampled or not context.is_valid


def ids_of(span: trace.Span) -> tuple[int, int, str]:
    """Trace id, span id and trace state of any span; zeros if the span is invalid."""
    if _is_span_like(span):
        return span.trace_id, span.span_id, span.trace_state
    if span is trace.INVALID_SPAN:
        return 0, 0, ""
    context = span.get_span_context()
    if not context.is_valid:
        return 0, 0, ""
    return context.trace_id, context.span_id, context.trace_state.to_header()


def attributes_of(span: trace.Span) -> dict[str, Any]:
    """The attributes that a span has so far; empty if it does not expose them."""
    if _is_span_like(span):
        return span.raw_attributes
    return dict(getattr(span, "attributes", None) or {})
