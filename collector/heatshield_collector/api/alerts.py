"""``/api/alerts``: the alerts there are."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from heatshield_collector.api.parts import Alert, Parts

__all__ = ["router"]


@dataclass(frozen=True, slots=True)
class Alerts:
    """Pending and firing alerts, and those that were resolved lately."""

    alerts: Sequence[Alert]


def router(parts: Parts) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["alerts"])

    @routes.get("/api/alerts")
    def alerts() -> Alerts:
        """The alerts and the state each is in."""
        return Alerts(parts.alerts())

    return routes
