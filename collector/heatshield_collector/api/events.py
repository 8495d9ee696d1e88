"""``/api/events``: what happens, as it happens."""

from collections.abc import AsyncIterator

from fastapi import APIRouter

from heatshield_collector.api.errors import documented
from heatshield_collector.api.stream import PING, PING_S, EventStream
from heatshield_collector.events import Subscription
from heatshield_collector.ports import Ports

__all__ = ["router"]


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["events"])

    @routes.get(
        "/api/events",
        status_code=200,  # FastAPI can't learn it from EventStream's own signature
        response_class=EventStream,
        responses=documented(_503="too many listen, or the collector is shutting down"),
    )
    async def events() -> EventStream:
        """Server-sent events from now on: finding, alert, breaker, applied, instance, mode.

        A listener that does not keep up is cut off; what happened meanwhile is in
        `/api/findings`, `/api/alerts` and `/v1/breakers`.
        """
        subscription = ports.events.subscribe()
        return EventStream(_events(subscription), subscription.close)

    return routes


async def _events(subscription: Subscription) -> AsyncIterator[bytes]:
    yield PING  # so that the headers and a first sign of life go out at once
    while not subscription.ended:
        event = await subscription.next(PING_S)
        if event is not None or not subscription.ended:
            yield event or PING
