"""``/api/policy``: what rules may do, and the declared limits, as they are in force."""

from fastapi import APIRouter

from heatshield_collector.ports import PolicyView, Ports

__all__ = ["router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])

    @routes.get("/api/policy")
    async def policy() -> PolicyView:
        """The policy that is in force, and what is wrong with its file as it is."""
        return ports.policy()

    return routes
