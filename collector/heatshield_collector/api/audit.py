"""``/api/audit``: every change of the breaker state, and every refusal, with its evidence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query

from heatshield_collector.api.parts import Parts

__all__ = ["Audit", "AuditRecord", "router"]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One change. ``version`` is the state's epoch.version after it; ``entry`` has the evidence."""

    at_ns: int
    change: str
    entry_id: str
    issuer: str
    reason: str
    version: str
    entry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Audit:
    """Changes, newest first."""

    changes: Sequence[AuditRecord]


def router(parts: Parts) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])

    @routes.get("/api/audit")
    def audit(limit: Annotated[int, Query(ge=1, le=1_000)] = 50) -> Audit:
        """Who was cut, by whom, why, and what was refused; newest first."""
        rows = parts.store.recent("audit", limit)
        return Audit([AuditRecord(**{**row, "entry": json.loads(row["entry"])}) for row in rows])

    return routes
