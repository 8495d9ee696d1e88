"""``/api/calls``: calls by load."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query

from heatshield_collector.api.parts import CallLoad, Parts, WindowName

__all__ = ["router"]


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls by busy load, the highest first."""

    window: WindowName
    calls: Sequence[CallLoad]


def router(parts: Parts) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["loads"])

    @routes.get("/api/calls")
    def calls(
        window: Annotated[WindowName, Query(description="over how long")] = "10s",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
    ) -> Calls:
        """Calls by load: rate, errors, busy time, elements, latency."""
        return Calls(window, parts.loads.calls(window, limit))

    return routes
