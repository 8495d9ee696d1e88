"""``/api/findings``: what the detectors said, as it stands now and as it ended."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from heatshield_collector.api.answers import Finding, Findings, Victims, WorstMoment
from heatshield_collector.api.queries import QueryAsker
from heatshield_collector.ports import FindingClass, Ports
from heatshield_collector.store.protocol import FindingQuery, Row

__all__ = ["Finding", "router"]

Text = Annotated[str | None, Query(max_length=8192)]

_OBJECTS: Final = ("figures", "thresholds", "victims", "worst", "trace_ids")


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["alerts"])

    @routes.get("/api/findings", response_model=Findings)
    async def findings(
        asker: QueryAsker,
        klass: Annotated[FindingClass | None, Query(alias="class")] = None,
        user: Text = None,
        service: Text = None,
        is_open: Annotated[bool | None, Query(alias="open")] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
    ) -> Response:
        """What the detectors found, open and closed findings, newest first."""
        query = FindingQuery(klass=klass, user=user, service=service, limit=limit)
        return await asker.answer(Findings, lambda: Findings(_found(ports, query, is_open=is_open)))

    return routes


def _found(ports: Ports, query: FindingQuery, *, is_open: bool | None) -> Sequence[Finding]:
    """Those that are open as they are now; of the others what was written last."""
    now = ports.findings()
    found: list[Finding] = []
    if is_open is not False:
        found += [_finding(row, is_open=True) for row in now if _is_wanted(row, query)]
    if not is_open:
        ids = [row["id"] for row in now]
        closed = FindingQuery(query.klass, query.user, query.service, ids, query.limit)
        found += [_finding(_read(row), is_open=False) for row in ports.store.findings(closed)]
    return sorted(found, key=lambda one: (one.opened_ns, one.id), reverse=True)[: query.limit]


def _is_wanted(row: Mapping[str, Any], query: FindingQuery) -> bool:
    wanted = {"class": query.klass, "user": query.user, "service": query.service}
    return all(value is None or row[name] == value for name, value in wanted.items())


def _read(row: Row) -> Row:
    """A row of the journal; what an older version wrote lacks most of it."""
    objects = {name: json.loads(row[name]) if row[name] else None for name in _OBJECTS}
    return {
        **row,
        **objects,
        "action": row["action"] or "none",
        "resource": row["resource"] or "",
        "baseline": row["baseline"] or 0.0,
        "opened_ns": row["at_ns"] if row["opened_ns"] is None else row["opened_ns"],
        "updated_ns": row["at_ns"] if row["updated_ns"] is None else row["updated_ns"],
        "trace_ids": objects["trace_ids"] or [],
        "figures": objects["figures"] or {},
        "thresholds": objects["thresholds"] or {},
    }


def _finding(row: Mapping[str, Any], *, is_open: bool) -> Finding:
    fields = dict(row)
    worst = fields.pop("worst")
    return Finding(
        klass=fields.pop("class"),
        victims=_victims(fields.pop("victims")),
        worst=None if worst is None else _worst(worst),
        open=is_open,
        **fields,
    )


def _worst(row: Mapping[str, Any]) -> WorstMoment:
    fields = dict(row)
    return WorstMoment(klass=fields.pop("class"), victims=_victims(fields.pop("victims")), **fields)


def _victims(said: Mapping[str, Any] | None) -> Victims | None:
    return None if said is None else Victims(**said)
