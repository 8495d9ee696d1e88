"""Which spans are calls, and how they went; the collector counts by the same rules."""

from typing import TYPE_CHECKING, cast

from opentelemetry.trace import SpanKind, StatusCode

from heatshield.metrics.red import RED, Outcome
from heatshield.names import GUARD, REJECTED
from heatshield.tracing.span import ENTRY_KINDS, EndedSpan, Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["count"]


def count(span: EndedSpan) -> None:
    """Count a span that ended: a server's, a consumer's or a guard's.

    Args:
        span: ours, or one of the SDK, which has the same attributes.
    """
    enters = span.kind in ENTRY_KINDS
    if not enters and span.kind is not SpanKind.INTERNAL:
        return
    attributes = span.raw_attributes if type(span) is Span else span.attributes or {}
    if not enters and GUARD not in attributes:
        return
    if type(span) is Span:
        code, trace_id = span.status_code, span.trace_id
    else:
        code, trace_id = _of_sdk(cast("ReadableSpan", span))
    outcome: Outcome = "error" if code is StatusCode.ERROR else "ok"
    if REJECTED in attributes:
        outcome = "rejected"
    end_ns = span.end_time or 0
    duration_s = max(0, end_ns - (span.start_time or 0)) / 1e9
    RED.observe(span.name, outcome, duration_s, trace_id, end_ns, ends=enters)


def _of_sdk(span: "ReadableSpan") -> tuple[StatusCode, int]:
    """Status and trace id; 0 where the request was not sampled, so that no look-up finds it."""
    context = span.get_span_context()
    sampled = context is not None and context.trace_flags.sampled
    return span.status.status_code, context.trace_id if context is not None and sampled else 0
