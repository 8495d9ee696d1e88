"""``/api/alerts``: the alerts there are."""

from fastapi import APIRouter, Response

from heatshield_collector.api.answers import Alert, Alerts
from heatshield_collector.api.queries import ViewAsker
from heatshield_collector.ports import Ports

__all__ = ["router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["alerts"])

    @routes.get("/api/alerts", response_model=Alerts)
    async def alerts(asker: ViewAsker) -> Response:
        """The alerts and the state each is in."""
        return await asker.answer(
            Alerts, lambda: Alerts([Alert(**alert.to_json()) for alert in ports.alerts()])
        )

    return routes
