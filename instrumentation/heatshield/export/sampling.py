"""Which spans are sent where only a part of all traces is: the same traces by every service.

The decision depends on the trace's id alone, as OpenTelemetry's consistent probability sampling has
it: a trace is kept where the last 56 bits of its id, as a number, are at least
``(1 - ratio) * 2**56``. A service with a larger ratio keeps what one with a smaller one keeps, and
more. Failures, refusals and what is urgent are sent in any case.

Costs that no report tells are charged from spans, so none is left out while the collector takes no
charge reports.
"""

from collections.abc import Callable
from typing import Final

from opentelemetry.trace import StatusCode

from heatshield.names import REJECTED
from heatshield.tracing.span import EndedSpan, Span

__all__ = ["TraceSampling"]

RANDOM_BITS: Final = 56
"""Last bits of a trace id that W3C's Trace Context asks to be random."""


class TraceSampling:
    """Decides for spans that are not urgent.

    Args:
        ratio: of traces that are kept, 0 to 1.
        is_charged: whether the collector knows costs without spans.
    """

    def __init__(self, ratio: float, is_charged: Callable[[], bool]) -> None:
        self._first = round((1 - ratio) * (1 << RANDOM_BITS))
        self._is_charged = is_charged

    def keeps(self, trace_id: int) -> bool:
        """Whether all spans of a trace are sent."""
        return trace_id & ((1 << RANDOM_BITS) - 1) >= self._first

    def leaves_out(self, span: EndedSpan) -> bool:
        """Whether a span that is not urgent is not sent. Spans of the SDK always are."""
        return (
            self._first > 0
            and type(span) is Span
            and not self.keeps(span.trace_id)
            and span.status_code is not StatusCode.ERROR
            and REJECTED not in span.raw_attributes
            and self._is_charged()
        )
