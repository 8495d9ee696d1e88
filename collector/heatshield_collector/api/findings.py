"""``/api/findings``: what the detectors said."""

import json
from typing import Annotated

from fastapi import APIRouter, Query, Response

from heatshield_collector.api.answers import Finding, Findings
from heatshield_collector.api.queries import QueryAsker
from heatshield_collector.ports import Ports
from heatshield_collector.store.protocol import Row

__all__ = ["Finding", "router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["alerts"])

    @routes.get("/api/findings", response_model=Findings)
    async def findings(
        asker: QueryAsker, limit: Annotated[int, Query(ge=1, le=1_000)] = 50
    ) -> Response:
        """What the detectors found, newest first."""
        return await asker.answer(
            Findings,
            lambda: Findings([_finding(row) for row in ports.store.recent("findings", limit)]),
        )

    return routes


def _finding(row: Row) -> Finding:
    fields = {**row, "trace_ids": json.loads(row["trace_ids"] or "[]")}
    return Finding(klass=fields.pop("class"), **fields)
