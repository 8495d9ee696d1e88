"""``/api/mode``: whether entries are enforced at all."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from heatshield.contract import PlatformMode
from heatshield_collector.api.admin import REFUSALS, admin_only
from heatshield_collector.api.parts import Parts

__all__ = ["router"]


@dataclass(frozen=True, slots=True)
class Mode:
    """What the platform does with its entries."""

    mode: PlatformMode


@dataclass(frozen=True, slots=True)
class ModeChange:
    """The mode that is wanted, and by whom."""

    mode: PlatformMode
    by: Annotated[str, Field(min_length=1, max_length=200)] = "api"


def router(parts: Parts) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])
    admin = [Depends(admin_only(parts.admin_token))]

    @routes.get("/api/mode")
    def get_mode() -> Mode:
        """The platform's mode."""
        return Mode(parts.breakers.mode())

    @routes.put("/api/mode", dependencies=admin, responses=REFUSALS)
    def put_mode(change: ModeChange) -> Mode:
        """Switch between deciding only (shadow) and enforcing (protect)."""
        parts.breakers.set_mode(change.mode, change.by)
        return Mode(parts.breakers.mode())

    return routes
