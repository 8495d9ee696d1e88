"""``/metrics``: the collector's own, for Prometheus. ``/api/metrics``: what services sent."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import PlainTextResponse

from heatshield_collector.api.answers import Metrics
from heatshield_collector.ports import Ports
from heatshield_collector.query.metrics import latest_sample
from heatshield_collector.store.protocol import SampleQuery

__all__ = ["router"]

LONGEST_LOOKBACK_S: Final = 86_400.0
"""A series whose newest sample is older says nothing of now."""


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter()

    @routes.get("/metrics", response_class=PlainTextResponse, tags=["health"])
    def own_metrics(request: Request) -> Response:
        """The collector's own metrics and the bounded series that rules and dashboards read."""
        body, content_type = ports.metrics(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    @routes.get("/api/metrics", tags=["metrics"])
    def latest(
        name: Annotated[str | None, Query(description="of the metric, exactly")] = None,
        service: Annotated[str | None, Query(description="the service that sent it")] = None,
        since_s: Annotated[
            float, Query(gt=0, le=LONGEST_LOOKBACK_S, description="received how long ago at most")
        ] = 300.0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    ) -> Metrics:
        """The newest sample of each series that services sent, and exemplars."""
        since_ns = max(0, ports.clock.time_ns() - round(since_s * 1e9))
        query = SampleQuery(since_ns, name or None, service or None, limit)
        return Metrics([latest_sample(row) for row in ports.store.latest_samples(query)])

    return routes
