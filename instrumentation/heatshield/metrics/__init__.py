"""The metrics of an instrumented service, for Prometheus and for the collector."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from heatshield.metrics.exposition import AsgiApp

__all__ = ["asgi_app", "wsgi_app"]


def asgi_app() -> "AsgiApp":
    """``/metrics`` as an ASGI application, to be mounted; in multi-process mode of all workers."""
    from heatshield.metrics.exposition import asgi_app as make

    return make()


def wsgi_app() -> "WSGIApplication":
    """``/metrics`` as a WSGI application, to be mounted; in multi-process mode of all workers."""
    from heatshield.metrics.exposition import wsgi_app as make

    return make()
