"""``/api/alerts``: the alerts there are."""

from fastapi import APIRouter

from heatshield_collector.api.answers import Alert, Alerts
from heatshield_collector.ports import Ports

__all__ = ["router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["alerts"])

    @routes.get("/api/alerts")
    def alerts() -> Alerts:
        """The alerts and the state each is in."""
        return Alerts([Alert(**alert.to_json()) for alert in ports.alerts()])

    return routes
