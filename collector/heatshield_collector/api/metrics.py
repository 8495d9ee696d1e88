"""``/metrics``: for Prometheus, in OpenMetrics or its older text format as it asks."""

from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse

from heatshield_collector.api.parts import Parts

__all__ = ["router"]


def router(parts: Parts) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["health"])

    @routes.get("/metrics", response_class=PlainTextResponse)
    def metrics(request: Request) -> Response:
        """The collector's own metrics and the bounded series that rules and dashboards read."""
        body, content_type = parts.metrics(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return routes
