"""Spans as parents: of another process, and whose ids are asked for without making objects."""

from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceState

from heatshield.tracing.span import SAMPLED, UNSAMPLED, Span

__all__ = ["RemoteSpan", "ids_of", "is_sampled"]


class RemoteSpan(trace.NonRecordingSpan):
    """A span of another process: the parent of what this one does."""

    def __init__(
        self, trace_id: int, span_id: int, trace_state: str, *, sampled: bool = True
    ) -> None:
        self.trace_id, self.span_id, self.trace_state = trace_id, span_id, trace_state
        self.sampled = sampled

    def __repr__(self) -> str:
        return f"RemoteSpan({self.get_span_context()!r})"

    def get_span_context(self) -> SpanContext:
        """Its ids, as an object."""
        state = TraceState.from_header([self.trace_state]) if self.trace_state else None
        flags = SAMPLED if self.sampled else UNSAMPLED
        return SpanContext(self.trace_id, self.span_id, True, flags, state)


def is_sampled(span: trace.Span) -> bool:
    """Whether callers wish a span's trace to be stored."""
    if isinstance(span, Span | RemoteSpan):
        return span.sampled
    context = span.get_span_context()
    return context.trace_flags.sampled or not context.is_valid


def ids_of(span: trace.Span) -> tuple[int, int, str]:
    """Trace id, span id and trace state of a span, whoever made it; zeros if it is none."""
    if isinstance(span, Span | RemoteSpan):
        return span.trace_id, span.span_id, span.trace_state
    if span is trace.INVALID_SPAN:
        return 0, 0, ""
    context = span.get_span_context()
    if not context.is_valid:
        return 0, 0, ""
    return context.trace_id, context.span_id, context.trace_state.to_header()
