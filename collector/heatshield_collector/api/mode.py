"""``/api/mode``: whether entries are enforced at all."""

from fastapi import APIRouter

from heatshield_collector.api.answers import Mode, ModeChange
from heatshield_collector.api.scopes import REFUSALS
from heatshield_collector.daemon_thread import in_daemon_thread
from heatshield_collector.ports import Ports

__all__ = ["router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])

    @routes.get("/api/mode")
    async def get_mode() -> Mode:
        """The platform's mode."""
        return Mode(ports.breakers.mode(), ports.cold_start_left_s())

    @routes.put("/api/mode", responses=REFUSALS)
    async def put_mode(change: ModeChange) -> Mode:
        """Switch between deciding only (shadow) and enforcing (protect)."""
        # It is kept on the disk, which may be busy for seconds; breakers hear of it at once.
        await in_daemon_thread(
            lambda: ports.breakers.set_mode(change.mode, change.by), "heatshield-mode"
        )
        return Mode(ports.breakers.mode(), ports.cold_start_left_s())

    return routes
