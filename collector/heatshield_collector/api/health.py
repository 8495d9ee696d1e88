"""``/healthz`` and ``/readyz``: for those who restart us and those who send us work."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Response

from heatshield_collector.api.parts import Parts

__all__ = ["router"]


@dataclass(frozen=True, slots=True)
class Health:
    """The event loop runs, or nobody would answer."""

    status: str = "ok"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether telemetry is taken in, and if not, why."""

    ready: bool
    reasons: Sequence[str]


def router(parts: Parts) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz")
    async def healthz() -> Health:
        """Alive: 200 as long as the event loop runs."""
        return Health()

    @routes.get("/readyz", responses={503: {"model": Readiness}})
    async def readyz(response: Response) -> Readiness:
        """Ready: 200 when the store and the commit loop take work, else 503 with the reasons."""
        reasons = list(parts.ready())
        if reasons:
            response.status_code = 503
        return Readiness(not reasons, reasons)

    return routes
