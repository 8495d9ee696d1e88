"""Puts the routes together into one ASGI application."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from starlette.routing import BaseRoute

from heatshield_collector.api import (
    alerts,
    audit,
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
from heatshield_collector.api.errors import add_error_handlers, documented
from heatshield_collector.ports import Ports

__all__ = ["create_app"]

AREAS: Final = (
    requests,
    users,
    calls,
    findings,
    alerts,
    audit,
    watch,
    breakers,
    mode,
    events,
    health,
    metrics,
)
"""In the order of /docs."""

MAX_BODY_BYTES: Final = 1024 * 1024
"""Beyond it 413, in plain text, for it is answered before we see the request. The largest
body is a client's report, some 100 bytes for each entry held."""


def create_app(ports: Ports, intake: Sequence[BaseRoute] = ()) -> FastAPI:
    """The collector's HTTP face; it starts nothing and owns nothing.

    Args:
        ports: what it stands on. Close ``ports.events`` to have its streams end.
        intake: routes that take in telemetry, mounted as they are.
    """
    app = FastAPI(
        title="heatshield collector",
        version=version("heatshield"),
        description="Finds the one user who is burning the platform, and cuts just his call.",
        responses=documented(_422="a parameter or a field is impossible; it says which and why"),
    )
    # Routes are tried in order, and telemetry is most of what comes.
    app.router.routes[:0] = intake
    for area in AREAS:
        app.include_router(area.router(ports), max_body_size=MAX_BODY_BYTES)
    add_error_handlers(app)
    return app
