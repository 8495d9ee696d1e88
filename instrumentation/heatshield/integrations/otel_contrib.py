"""Whether OpenTelemetry's own instrumentation of a library is active: then that makes the spans.

Asked at every call, as a service may activate it at any time after heatshield.
"""

import sys
from collections.abc import Callable
from typing import Final, Protocol, cast

__all__ = ["OtelContrib"]

_PACKAGE: Final = "opentelemetry.instrumentation."


class _Instrumentor(Protocol):
    is_instrumented_by_opentelemetry: bool


class OtelContrib:
    """One of OpenTelemetry's instrumentations.

    Args:
        module: its module in ``opentelemetry.instrumentation``.
        instrumentor: its class.
    """

    def __init__(self, module: str, instrumentor: str) -> None:
        self._module = _PACKAGE + module
        self._instrumentor = instrumentor

    @property
    def active(self) -> bool:
        """Whether the service has activated it."""
        module = sys.modules.get(self._module)
        if module is None:
            return False
        found = getattr(module, self._instrumentor, None)
        if found is None:
            return False
        instrumentor = cast("Callable[[], _Instrumentor]", found)()
        return instrumentor.is_instrumented_by_opentelemetry is True
