"""Puts the routes together into one ASGI application."""

from importlib.metadata import version
from typing import Final

from fastapi import FastAPI

from heatshield_collector.api import (
    alerts,
    breakers,
    calls,
    events,
    findings,
    health,
    metrics,
    mode,
    requests,
    users,
    watch,
)
from heatshield_collector.api.errors import add_error_handlers
from heatshield_collector.api.parts import Parts

__all__ = ["create_app"]

AREAS: Final = (
    requests,
    users,
    calls,
    findings,
    alerts,
    watch,
    breakers,
    mode,
    events,
    health,
    metrics,
)
"""In the order of /docs."""


def create_app(parts: Parts) -> FastAPI:
    """The collector's HTTP face; it starts nothing and owns nothing.

    Args:
        parts: what it stands on. Close ``parts.events`` to have its streams end.
    """
    app = FastAPI(
        title="heatshield collector",
        version=version("heatshield"),
        description="Finds the one user who is burning the platform, and cuts just his call.",
    )
    for area in AREAS:
        app.include_router(area.router(parts))
    app.router.routes.extend(parts.intake)
    add_error_handlers(app)
    return app
