"""``/api/users/hot``: users by load."""

from typing import Annotated

from fastapi import APIRouter, Query

from heatshield_collector.api.parts import CostName, HotUsersView, Parts, WindowName

__all__ = ["router"]


def router(parts: Parts) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["loads"])

    @routes.get("/api/users/hot")
    def hot_users(
        cost: Annotated[CostName, Query(description="what the load counts")] = "busy",
        window: Annotated[WindowName, Query(description="over how long")] = "10s",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 20,
    ) -> HotUsersView:
        """Users by load, the highest first, one row for each user and call."""
        return parts.loads.hot_users(cost, window, limit)

    return routes
