"""Puts the routes together into one ASGI application."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from fastapi import Depends, FastAPI
from starlette.routing import BaseRoute

from heatshield_collector.api import (
    alerts,
    audit,
    breakers,
    calls,
    events,
    findings,
    health,
    known,
    metrics,
    mode,
    policy,
    requests,
    users,
    watch,
)
from heatshield_collector.api.errors import add_error_handlers, documented
from heatshield_collector.api.frequent import frequent_routes
from heatshield_collector.api.queries import add_queries
from heatshield_collector.api.scopes import asks, guard_documentation
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
    known,
    mode,
    policy,
    events,
    health,
    metrics,
)
"""In the order of /docs."""

MAX_BODY_BYTES: Final = 1024 * 1024
"""A larger body is answered 413, in plain text, before a route sees it. The largest body is a
client's report, some 100 bytes for each entry held."""


def create_app(ports: Ports, intake: Sequence[BaseRoute] = ()) -> FastAPI:
    """The collector's HTTP face; it starts nothing and owns nothing.

    Args:
        ports: what it stands on. Close ``ports.events`` to end its streams.
        intake: routes that take in telemetry, mounted as they are; they ask the authenticator
            themselves.
    """
    app = FastAPI(
        title="heatshield collector",
        version=version("heatshield"),
        description="Finds the one user who burns the platform, and cuts just that user's call.",
        responses=documented(_422="a parameter or a field is impossible; it says which and why"),
    )
    guard_documentation(app, ports.authenticator)
    # Routes are tried in order, and telemetry is most of what comes.
    app.router.routes[:0] = [*intake, *frequent_routes(ports), watch.stream_route(ports)]
    asked = [Depends(asks(ports.authenticator))]
    for area in AREAS:
        app.include_router(area.router(ports), dependencies=asked, max_body_size=MAX_BODY_BYTES)
    add_error_handlers(app)
    add_queries(app)
    return app
