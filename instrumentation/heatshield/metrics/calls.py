"""Which spans are calls, and how they went: what the collector's own counts are made by, too."""

from typing import Any

from opentelemetry.trace import SpanKind, StatusCode

from heatshield.counters import fail_open
from heatshield.metrics.red import RED, Outcome
from heatshield.names import GUARD, REJECTED
from heatshield.spans import attributes_of
from heatshield.tracing.span import ENTRY_KINDS, Span

__all__ = ["count"]


@fail_open("metrics", None)
def count(span: Any) -> None:
    """Count a span that ended, ours or the SDK's: a server's, a consumer's or a guard's."""
    kind = span.kind
    if kind in ENTRY_KINDS:
        RED.end()
    elif kind is not SpanKind.INTERNAL or GUARD not in attributes_of(span):
        return
    duration_s = max(0, span.end_time - span.start_time) / 1e9
    RED.observe(span.name, _outcome(span), duration_s, _trace_id(span), span.end_time)


def _outcome(span: Any) -> Outcome:
    if REJECTED in attributes_of(span):
        return "rejected"
    code = span.status_code if isinstance(span, Span) else span.status.status_code
    return "error" if code is StatusCode.ERROR else "ok"


def _trace_id(span: Any) -> int:
    """0 where nobody will find the request: the service's own provider did not sample it."""
    if isinstance(span, Span):
        return span.trace_id
    context = span.get_span_context()
    return int(context.trace_id) if context.trace_flags.sampled else 0
