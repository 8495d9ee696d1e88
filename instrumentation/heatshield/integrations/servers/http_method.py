"""Methods of HTTP as names of spans have them."""

from typing import Final

__all__ = ["METHODS", "method_name"]

METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"}
)
"""Any other is named ``HTTP``, as OpenTelemetry does: methods are chosen by the caller and must not
make names."""


def method_name(method: str) -> str:
    """The first word of a span's name."""
    return method if method in METHODS else "HTTP"
