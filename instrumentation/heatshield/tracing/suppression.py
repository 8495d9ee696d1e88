"""A context in which nobody traces: what heatshield sends is no work of the service's.

OpenTelemetry keeps the mark in its context, under a key of its API and, for older instrumentations,
under a plain name. The helper for it is in a package that services need for nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, set_value

from heatshield.context.attachment import attach, detach

__all__ = ["suppressed"]

_PLAIN_KEY: Final = "suppress_instrumentation"


@contextmanager
def suppressed() -> Iterator[None]:
    """Have no instrumentation, ours or OpenTelemetry's, make spans in this block."""
    marked = set_value(_PLAIN_KEY, True, set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    token = attach(marked)
    try:
        yield
    finally:
        detach(token)
