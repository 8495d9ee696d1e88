"""``/metrics``: the collector's own, for Prometheus. ``/api/metrics``: what services sent."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import PlainTextResponse

from heatshield_collector.api.answers import Metrics
from heatshield_collector.api.queries import QueryAsker, ViewAsker
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
    async def own_metrics(asker: ViewAsker, request: Request) -> Response:
        """The collector's own metrics and the bounded series that rules and dashboards read."""
        accept = request.headers.get("accept", "")

        def render() -> Response:
            body, content_type = ports.metrics(accept)
            return Response(body, headers={"Content-Type": content_type})

        return await asker.respond(render)

    @routes.get("/api/metrics", response_model=Metrics, tags=["metrics"])
    async def latest(
        asker: QueryAsker,
        name: Annotated[str | None, Query(description="of the metric, exactly")] = None,
        service: Annotated[str | None, Query(description="the service that sent it")] = None,
        since_s: Annotated[
            float, Query(gt=0, le=LONGEST_LOOKBACK_S, description="received how long ago at most")
        ] = 300.0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    ) -> Response:
        """The newest sample of each series that services sent, and exemplars."""
        since_ns = max(0, ports.clock.time_ns() - round(since_s * 1e9))
        query = SampleQuery(since_ns, name or None, service or None, limit)
        return await asker.answer(
            Metrics,
            lambda: Metrics([latest_sample(row) for row in ports.store.latest_samples(query)]),
        )

    return routes
