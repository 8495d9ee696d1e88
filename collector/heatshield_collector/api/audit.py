"""``/api/audit``: every change of the breaker state, and every refusal, with its evidence."""

import json
from typing import Annotated

from fastapi import APIRouter, Query

from heatshield_collector.api.answers import Audit, AuditRecord
from heatshield_collector.ports import Ports

__all__ = ["Audit", "AuditRecord", "router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])

    @routes.get("/api/audit")
    def audit(limit: Annotated[int, Query(ge=1, le=1_000)] = 50) -> Audit:
        """Each change of a breaker and each refusal, with issuer and evidence; newest first."""
        rows = ports.store.recent("audit", limit)
        return Audit([AuditRecord(**{**row, "entry": json.loads(row["entry"])}) for row in rows])

    return routes
