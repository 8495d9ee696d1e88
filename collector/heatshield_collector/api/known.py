"""``/api/known``: whether a breaker around a key would ever meet a call."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from heatshield_collector.api.queries import QueryAsker
from heatshield_collector.ports import Ports
from heatshield_collector.query.known import Known, known

__all__ = ["router"]

LONGEST: Final = 1_000
"""Characters of a name, more than linking keeps of one."""

Asked = Annotated[str, Query(max_length=LONGEST)]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])

    @routes.get("/api/known", response_model=Known)
    async def known_names(asker: QueryAsker, user: Asked, service: Asked, call: Asked) -> Response:
        """Whether any stored span has this user, this service and this call on it."""
        now_ns = ports.clock.time_ns()
        return await asker.answer(
            Known, lambda: known(ports.store, user, service, call, now_ns=now_ns)
        )

    return routes
