"""``/api/findings``: what the detectors said."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from heatshield_collector.api.parts import Parts
from heatshield_collector.store.protocol import Row

__all__ = ["Finding", "router"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``load`` is the lower bound of the cost per second that was seen."""

    id: str
    klass: Annotated[str, Field(serialization_alias="class")]
    user: str
    service: str
    call: str
    cost: str
    window: str
    load: float
    at_ns: int
    trace_ids: Sequence[str]
    reason: str


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings, newest first."""

    findings: Sequence[Finding]


def router(parts: Parts) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["alerts"])

    @routes.get("/api/findings")
    def findings(limit: Annotated[int, Query(ge=1, le=1_000)] = 50) -> Findings:
        """What the detectors found, newest first."""
        return Findings([_finding(row) for row in parts.store.recent("findings", limit)])

    return routes


def _finding(row: Row) -> Finding:
    fields = {**row, "trace_ids": json.loads(row["trace_ids"] or "[]")}
    return Finding(klass=fields.pop("class"), **fields)
