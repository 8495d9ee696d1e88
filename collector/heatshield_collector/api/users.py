"""``/api/users/hot``: users by load."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from heatshield_collector.api.queries import ViewAsker
from heatshield_collector.ports import CostName, GroupName, HotUsersView, Ports, WindowName

__all__ = ["router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["loads"])

    @routes.get("/api/users/hot", response_model=HotUsersView)
    async def hot_users(
        asker: ViewAsker,
        cost: Annotated[CostName, Query(description="what the load counts")] = "busy",
        window: Annotated[WindowName, Query(description="over how long")] = "10s",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
        by: Annotated[
            GroupName, Query(description="a row for each user and call, or for each user")
        ] = "call",
        *,
        own: Annotated[bool, Query(description="the collector's own calls, too")] = False,
    ) -> Response:
        """Users by load, the highest first; ``by=user`` over all their calls."""
        return await asker.answer(
            HotUsersView, lambda: ports.loads.hot_users(cost, window, limit, by, own=own)
        )

    return routes
