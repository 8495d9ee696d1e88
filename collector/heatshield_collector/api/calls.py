"""``/api/calls``: calls by load."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from heatshield_collector.api.answers import Calls
from heatshield_collector.api.queries import ViewAsker
from heatshield_collector.ports import Ports, WindowName

__all__ = ["router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["loads"])

    @routes.get("/api/calls", response_model=Calls)
    async def calls(
        asker: ViewAsker,
        window: Annotated[WindowName, Query(description="over how long")] = "10s",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
    ) -> Response:
        """Calls by load: rate, errors, busy time, elements, latency."""
        return await asker.answer(Calls, lambda: Calls(window, ports.loads.calls(window, limit)))

    return routes
