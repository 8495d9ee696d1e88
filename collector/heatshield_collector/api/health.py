"""``/healthz`` and ``/readyz``: for what restarts the collector and what sends it work."""

from fastapi import APIRouter, Response

from heatshield_collector.api.answers import Health, Readiness
from heatshield_collector.ports import Ports

__all__ = ["router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz")
    async def healthz() -> Health:
        """Alive: 200 as long as the event loop runs."""
        return Health()

    @routes.get("/readyz", responses={503: {"model": Readiness}})
    async def readyz(response: Response) -> Readiness:
        """Ready: 200 when the store and the pipeline take work, else 503 with the reasons.

        What limits protection meanwhile, such as a rule that fails, stands in ``notes``: it is no
        reason to send the telemetry elsewhere.
        """
        reasons = list(ports.ready())
        if reasons:
            response.status_code = 503
        return Readiness(not reasons, reasons, list(ports.notes()))

    return routes
