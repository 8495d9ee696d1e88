"""Whether OpenTelemetry's own instrumentation of a library is active: then that makes the spans.

Asked for every call, as a service may activate it at any time after heatshield.
"""

import sys
from typing import Any, Final

__all__ = ["Theirs"]

_PACKAGE: Final = "opentelemetry.instrumentation."


class Theirs:
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
        module: Any = sys.modules.get(self._module)
        if module is None:
            return False
        instrumentor = getattr(module, self._instrumentor, None)
        return instrumentor is not None and instrumentor().is_instrumented_by_opentelemetry is True
