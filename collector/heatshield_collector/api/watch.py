"""How clients learn of breakers: ``GET /v1/breakers``, at once or as a long poll, and its stream.

The stream says ``snapshot``, ``delta`` or ``heartbeat`` (heatshield/contract.py). A change wakes
each stream, which then looks up what is new since what it last sent; so streams hold no queue, and
however fast changes come, a slow client gets them as one.

Reading changes nothing: which instances live, and what they can compute, the collector learns from
their spans and reports.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import JSONResponse, Response

from heatshield import names
from heatshield.clock import Clock
from heatshield.contract import (
    HEARTBEAT_S,
    ContractError,
    StateVersion,
)
from heatshield_collector.api.answers import BreakerState
from heatshield_collector.api.stream import EventStream, Waker, encode_event
from heatshield_collector.events import EventHub, HubClosedError
from heatshield_collector.ports import BreakerService, Ports

__all__ = ["next_event", "router"]

LONGEST_WAIT_S: Final = 60.0
"""Seconds a long poll may ask for; proxies cut what is silent for longer."""


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])
    breakers, hub, clock = ports.breakers, ports.events, ports.clock

    @routes.get(
        names.BREAKERS_PATH,
        response_model=BreakerState,
        responses={304: {"description": "still at the version of If-None-Match"}},
    )
    async def get_breakers(
        wait: Annotated[
            float, Query(ge=0, le=LONGEST_WAIT_S, description="long poll: seconds to wait")
        ] = 0.0,
        if_none_match: Annotated[str, Header()] = "",
    ) -> Response:
        """The breaker state, or 304 if it is still the one that `If-None-Match` names."""
        known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        if wait and breakers.at().etag in known:
            await _changed(breakers, hub, clock, known, wait)
        return _state_unless(known, ports)

    @routes.get(names.BREAKER_STREAM_PATH, status_code=200, response_class=EventStream)
    async def stream_breakers(request: Request) -> EventStream:
        """Server-sent events: a snapshot, then deltas; a heartbeat every 2 s.

        With a `Last-Event-ID` that is still remembered the first event is the delta from there.
        """
        if hub.closed:
            raise HubClosedError("the collector is shutting down")
        waker = Waker(breakers.subscribe, hub.closing.subscribe, clock=clock)
        sent = _version(request.headers.get("last-event-id", ""))
        return EventStream(_events(breakers, hub, waker, sent), waker.close)

    return routes


def next_event(breakers: BreakerService, sent: StateVersion | None) -> tuple[bytes, StateVersion]:
    """What a client is to be told, and the version it then is at.

    Args:
        breakers: the state.
        sent: the version the client is at; ``None`` when it has none.
    """
    if sent is not None:
        if breakers.at() == sent:
            return encode_event("heartbeat", {}, str(sent)), sent
        delta = breakers.delta_since(sent)
        if delta is not None:
            return encode_event("delta", delta.to_json(), str(delta.at)), delta.at
    state = breakers.snapshot()
    return encode_event("snapshot", state.to_json(), str(state.at)), state.at


async def _events(
    breakers: BreakerService,
    hub: EventHub,
    waker: Waker,
    sent: StateVersion | None,
) -> AsyncIterator[bytes]:
    while not hub.closed:
        event, sent = next_event(breakers, sent)
        yield event
        await waker.wait(HEARTBEAT_S)


def _state_unless(known: set[str], ports: Ports) -> Response:
    breakers = ports.breakers
    state = breakers.snapshot()
    headers = {"ETag": state.at.etag, "Cache-Control": "no-cache"}
    if state.at.etag in known:
        return Response(status_code=304, headers=headers)
    left_s = breakers.left_s()
    shown = state.to_json()
    entries = [{**one, "left_s": left_s.get(one["id"], 0.0)} for one in shown["entries"]]
    refused = [
        {"user": key.user or "", "service": key.service, "call": key.call, "done": done}
        for key, done in ports.not_cut()
    ]
    more = {"entries": entries, "not_cut": refused, "not_enforcing": breakers.not_enforcing()}
    return JSONResponse({**shown, **more}, headers=headers)


async def _changed(
    breakers: BreakerService, hub: EventHub, clock: Clock, known: set[str], timeout_s: float
) -> None:
    """Return when the state is at none of the ``known`` ETags, or after ``timeout_s``."""
    waker = Waker(breakers.subscribe, hub.closing.subscribe, clock=clock)
    try:
        # The change may have come between the first look and the subscription.
        if breakers.at().etag in known and not hub.closed:
            await waker.wait(timeout_s)
    finally:
        waker.close()


def _version(text: str) -> StateVersion | None:
    try:
        return StateVersion.parse(text)
    except ContractError:
        return None
