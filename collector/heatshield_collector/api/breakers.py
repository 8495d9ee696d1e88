"""``/v1/breakers`` as people change it and clients report on it; watch.py is how they read it."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from starlette.exceptions import HTTPException

from heatshield import names
from heatshield.contract import BreakerEntry, Report
from heatshield_collector.api.answers import Cleared, Reported
from heatshield_collector.api.errors import documented
from heatshield_collector.api.scopes import REFUSALS
from heatshield_collector.daemon_thread import in_daemon_thread
from heatshield_collector.ports import Ports, TripRequest

__all__ = ["router"]

By = Annotated[str, Query(min_length=1, max_length=200, description="the person who clears it")]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])

    @routes.post(
        names.BREAKERS_PATH,
        status_code=201,
        responses=REFUSALS | documented(_409="the policy does not allow it"),
    )
    async def trip(request: TripRequest) -> BreakerEntry:
        """Trip a breaker around one user's one call, in every instance of the service."""
        # It is kept on the disk before it is answered; the loop answers others meanwhile.
        return await in_daemon_thread(lambda: ports.breakers.trip(request), "heatshield-trip")

    @routes.delete(
        names.BREAKERS_PATH + "/{entry_id}",
        responses=REFUSALS | documented(_404="no such entry"),
    )
    async def clear(entry_id: str, by: By = "api") -> Cleared:
        """Clear an entry; the rule that made it is held off for a while."""
        entry = await in_daemon_thread(
            lambda: ports.breakers.clear(entry_id, by), "heatshield-clear"
        )
        if entry is None:
            raise HTTPException(404, f"no breaker entry {entry_id} is held")
        return Cleared(entry)

    @routes.post(names.BREAKER_REPORT_PATH, responses=documented(_400="not a report"))
    async def report(body: Annotated[dict[str, Any], Body(examples=[_REPORT])]) -> Reported:
        """What a client enforces and refused since its last report."""
        answer = ports.breakers.report(Report.from_json(body))
        return Reported(str(answer.at), dict(answer.shares), answer.spread_ms)

    return routes


_REPORT = {
    "service": "shop",
    "instance": "c0ffee",
    "workers": 1,
    "applied": "3.18",
    "rejected": [
        {"id": "b-8", "count": 12, "user": "u-1", "service": "shop", "call": "POST /purchases"}
    ],
}
