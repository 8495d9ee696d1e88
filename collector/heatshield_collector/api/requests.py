"""``/api/requests``: search, and one linked request."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Response
from starlette.exceptions import HTTPException

from heatshield.identity.wire_id import wire_id
from heatshield_collector.api.answers import Requests
from heatshield_collector.api.errors import documented
from heatshield_collector.api.queries import QueryAsker
from heatshield_collector.ports import Ports
from heatshield_collector.query.answers import LinkedRequest
from heatshield_collector.query.request import link_request
from heatshield_collector.query.requests import Search, query_of, summary
from heatshield_collector.store.protocol import Store

__all__ = ["router"]

LONGEST_LOOKBACK_S: Final = 366 * 86_400.0

LONGEST_DURATION_MS: Final = LONGEST_LOOKBACK_S * 1e3
"""A number with room for any request; nanoseconds of it are 64 bits."""

TraceId = Annotated[
    str,
    Path(
        pattern=r"^([0-9a-fA-F]{16}|[0-9a-fA-F]{32})$",
        description="32 hexadecimal digits; 16 for Zipkin's short ids",
    ),
]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["requests"])

    @routes.get("/api/requests", response_model=Requests)
    async def search_requests(  # noqa: PLR0913  # the parameters of the route
        asker: QueryAsker,
        user: Annotated[str | None, Query(description="the acting user, exactly")] = None,
        service: Annotated[str | None, Query(description="a service that took part")] = None,
        call: Annotated[str | None, Query(description="name of a span in it")] = None,
        errors: Annotated[bool | None, Query(description="with, or without, an error")] = None,
        min_duration_ms: Annotated[
            float, Query(ge=0, le=LONGEST_DURATION_MS, allow_inf_nan=False)
        ] = 0.0,
        since_s: Annotated[
            float, Query(gt=0, le=LONGEST_LOOKBACK_S, description="how far back, seconds")
        ] = 3600.0,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
        *,
        own: Annotated[bool, Query(description="the collector's own requests, too")] = False,
    ) -> Response:
        """Search requests."""
        known_as = None if user is None else wire_id(user)
        search = Search(known_as, service, call, errors, min_duration_ms, since_s, limit, own)
        query = query_of(search, ports.clock.time_ns())
        return await asker.answer(
            Requests, lambda: Requests([summary(row) for row in ports.store.requests(query)])
        )

    @routes.get(
        "/api/requests/{trace_id}",
        response_model=LinkedRequest,
        responses=documented(_404="no such request"),
    )
    async def get_request(asker: QueryAsker, trace_id: TraceId) -> Response:
        """One request: spans in tree order, logs, user and cost."""
        return await asker.answer(LinkedRequest, lambda: _linked(ports.store, trace_id))

    return routes


def _linked(store: Store, trace_id: str) -> LinkedRequest:
    key = bytes.fromhex(trace_id.rjust(32, "0"))
    spans, logs = store.spans_of(key), store.logs_of(key)
    if not spans and not logs:
        raise HTTPException(404, f"no span or log of request {trace_id} is stored (any more)")
    return link_request(key, spans, logs, store.user_of(key))
