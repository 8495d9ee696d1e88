"""Join the tracer provider that the service has set, or sets later, instead of replacing it.

OpenTelemetry lets a provider be set once. Under ``heatshield run`` ours would be first, and the
service's own would be refused with a warning and its exporters would fall silent. So ours can have
a successor: the service's provider takes its place, tracers that were handed out already lead to
it, and heatshield reads along as one more span processor.
"""

import random
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.util._once import Once

from heatshield.counters import COUNTERS, fail_open
from heatshield.fork_hooks import in_child
from heatshield.tracing.provider import PROVIDER

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.sdk.trace import Span as SdkSpan

__all__ = ["settle"]

_PROXY: Final = trace.ProxyTracerProvider


class _Succession(Once):
    """Lets one more provider be set, and joins it."""

    def do_once(self, func: Callable[[], None]) -> bool:
        if not super().do_once(func):
            return False
        _join(trace.get_tracer_provider())
        return True


def settle(
    outlet: "Callable[[ReadableSpan], object]", seen: Callable[[trace.Span], object]
) -> None:
    """Become the tracer provider, or join the one that is set.

    Args:
        outlet: takes each span that ends of a provider that the service has set.
        seen: takes each of its spans that starts.
    """
    _READER.outlet, _READER.seen = outlet, seen
    current = trace.get_tracer_provider()
    if current is PROVIDER or _READERS.get(id(current)) is current:
        return
    if isinstance(current, _PROXY):
        trace.set_tracer_provider(PROVIDER)
        trace._TRACER_PROVIDER_SET_ONCE = _Succession()  # noqa: SLF001  # nothing public undoes it
    else:
        _join(current)


class _Reader:
    """Where the spans of the service's own provider go; outlives a runtime."""

    def __init__(self) -> None:
        self.outlet: Callable[[ReadableSpan], object] = id
        self.seen: Callable[[trace.Span], object] = id

    def processor(self) -> "SpanProcessor":
        """A span processor that leads here; the SDK is imported only where it is in use."""
        from opentelemetry.sdk.trace import SpanProcessor

        from heatshield.tracing.stamp import stamp

        reader = self

        class Reader(SpanProcessor):
            """Stamps and exports what the service's own provider makes."""

            @fail_open("span start", None)
            def on_start(self, span: "SdkSpan", parent_context: Context | None = None) -> None:
                stamp(span, parent_context)
                reader.seen(span)

            @fail_open("span end", None)
            def on_end(self, span: "ReadableSpan") -> None:
                reader.outlet(span)

        return Reader()


_READER: Final = _Reader()

_READERS: Final[dict[int, object]] = {}
"""Providers that are joined already, by identity."""


def _join(provider: trace.TracerProvider) -> None:
    """Lead our tracers to a provider if its spans can be read; else make our own beside it."""
    if id(provider) not in _READERS:
        if "opentelemetry.sdk.trace" not in sys.modules:
            return  # OpenTelemetry's no-op, or an unknown provider
        try:
            provider.add_span_processor(_READER.processor())  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001  # a provider that is not the SDK's can't be read
            COUNTERS.error("foreign tracer provider")
            return
        _READERS[id(provider)] = provider
        in_child(random.seed)  # its ids come from there; Python does so after its own forks alone
    PROVIDER.successor = provider
