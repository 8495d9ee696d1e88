"""``/api/mode``: whether entries are enforced at all."""

from fastapi import APIRouter, Depends

from heatshield_collector.api.admin import REFUSALS, admin_only
from heatshield_collector.api.answers import Mode, ModeChange
from heatshield_collector.ports import Ports

__all__ = ["router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])
    admin = [Depends(admin_only(ports.admin_token))]

    @routes.get("/api/mode")
    def get_mode() -> Mode:
        """The platform's mode."""
        return Mode(ports.breakers.mode())

    @routes.put("/api/mode", dependencies=admin, responses=REFUSALS)
    def put_mode(change: ModeChange) -> Mode:
        """Switch between deciding only (shadow) and enforcing (protect)."""
        ports.breakers.set_mode(change.mode, change.by)
        return Mode(ports.breakers.mode())

    return routes
