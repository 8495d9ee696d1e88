"""``/api/audit``: every change of the breaker state, and every refusal, with its evidence."""

import json
from typing import Annotated

from fastapi import APIRouter, Query, Response

from heatshield_collector.api.answers import Audit, AuditRecord
from heatshield_collector.api.queries import QueryAsker
from heatshield_collector.ports import Ports
from heatshield_collector.store.protocol import Row

__all__ = ["Audit", "AuditRecord", "router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])

    @routes.get("/api/audit", response_model=Audit)
    async def audit(
        asker: QueryAsker, limit: Annotated[int, Query(ge=1, le=1_000)] = 50
    ) -> Response:
        """Each change of a breaker and each refusal, with issuer and evidence; newest first."""
        return await asker.answer(
            Audit,
            lambda: Audit([_record(row) for row in ports.store.recent("audit", limit)]),
        )

    return routes


def _record(row: Row) -> AuditRecord:
    return AuditRecord(**{**row, "entry": json.loads(row["entry"])})
