"""httpx: client spans through OpenTelemetry's instrumentation; a rejection is marked as one."""

from typing import Any, Final

from opentelemetry.trace import Span

from heatshield.breakers.gate import mark_rejected
from heatshield.breakers.rejection import MAX_ID_LENGTH, UNAVAILABLE
from heatshield.counters import fail_open
from heatshield.integrations.equipment import Equipment
from heatshield.names import BREAKER_HEADER

__all__ = ["NAME", "install", "remove"]

NAME: Final = "httpx"


def install(equipment: Equipment) -> None:
    """Instrument every client.

    Raises:
        ImportError: if httpx is not installed.
    """
    del equipment
    import httpx  # noqa: F401  # absent: say so before the instrumentation logs an error
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    instrumentor = HTTPXClientInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument(
            response_hook=_mark, async_response_hook=_mark_async, skip_dep_check=True
        )


def remove() -> None:
    """Take the instrumentation out again."""
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    instrumentor = HTTPXClientInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


@fail_open("httpx", None)
def _mark(span: Span, _request: Any, response: Any) -> None:
    if response.status_code != UNAVAILABLE or response.headers is None:
        return
    import httpx

    entry_id = httpx.Headers(response.headers).get(BREAKER_HEADER)
    if entry_id:
        mark_rejected(span, entry_id[:MAX_ID_LENGTH])


async def _mark_async(span: Span, request: Any, response: Any) -> None:
    _mark(span, request, response)
