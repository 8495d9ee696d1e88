"""The metrics of an instrumented service, for Prometheus and for the collector."""

from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["asgi_app", "wsgi_app"]


def asgi_app() -> Callable[[Any, Any, Any], Awaitable[None]]:
    """``/metrics`` as an ASGI application, to be mounted; in multi-process mode of all workers."""
    from heatshield.metrics.exposition import asgi_app as make

    return make()


def wsgi_app() -> Callable[[Any, Any], Any]:
    """``/metrics`` as a WSGI application, to be mounted; in multi-process mode of all workers."""
    from heatshield.metrics.exposition import wsgi_app as make

    return make()
