"""Which spans are calls, and how they went: what the collector's own counts are made by, too."""

from typing import Any

from opentelemetry.trace import SpanKind, StatusCode

from heatshield.context.span_like import attributes_of
from heatshield.metrics.red import RED, Outcome
from heatshield.names import GUARD, REJECTED
from heatshield.tracing.span import ENTRY_KINDS, Span

__all__ = ["count"]


def count(span: Any) -> None:
    """Count a span that ended, ours or the SDK's: a server's, a consumer's or a guard's."""
    enters = span.kind in ENTRY_KINDS
    if not enters and span.kind is not SpanKind.INTERNAL:
        return
    attributes = attributes_of(span)
    if not enters and GUARD not in attributes:
        return
    if type(span) is Span:
        code, trace_id = span.status_code, span.trace_id
    else:
        code, trace_id = _of_sdk(span)
    outcome: Outcome = "error" if code is StatusCode.ERROR else "ok"
    if REJECTED in attributes:
        outcome = "rejected"
    end_ns = span.end_time
    duration_s = max(0, end_ns - span.start_time) / 1e9
    RED.observe(span.name, outcome, duration_s, trace_id, end_ns, ends=enters)


def _of_sdk(span: Any) -> tuple[StatusCode, int]:
    """Status and trace id, 0 where nobody will find the request: it was not sampled."""
    context = span.get_span_context()
    return span.status.status_code, context.trace_id if context.trace_flags.sampled else 0
