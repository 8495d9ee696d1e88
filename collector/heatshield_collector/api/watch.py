"""How clients learn of breakers: ``GET /v1/breakers``, at once or as a long poll, and its stream.

The stream says ``snapshot``, ``delta`` or ``heartbeat`` (heatshield/contract.py); which of them a
client is told, and when, is up to :mod:`heatshield_collector.api.fanout`.

Reading changes nothing: which instances live, and what they can compute, the collector learns from
their spans and reports.
"""

import asyncio
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Header, Query
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from heatshield import names
from heatshield.clock import Clock
from heatshield.contract import ContractError, Snapshot, StateVersion
from heatshield_collector.api.answers import BreakerState
from heatshield_collector.api.fanout import Fanout, Watcher
from heatshield_collector.api.scopes import ask
from heatshield_collector.api.stream import EVENTS_BEGIN, EventStream, Waker
from heatshield_collector.events import EventHub
from heatshield_collector.ports import Authenticator, BreakerService, Ports

__all__ = ["router", "stream_route"]

LONGEST_WAIT_S: Final = 60.0
"""Seconds a long poll may ask for; proxies cut what is silent for longer."""


SIGNED_S: Final = 0.25
"""Seconds for which a signed state is answered again. With 100 entries, writing it out takes 4 ms:
for 10,000 clients that renew every 10 s, four cores. Shorter than the shortest time between two
renewals of one client, which takes only a later one for a renewal."""


def router(ports: Ports) -> APIRouter:
    """The routes of this file."""
    routes = APIRouter(tags=["breakers"])
    breakers, hub, clock = ports.breakers, ports.events, ports.clock
    state = _State(ports)

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
        return state.unless(known)

    @routes.get(names.BREAKER_STREAM_PATH, status_code=200, response_class=EventStream)
    async def stream_breakers() -> None:
        """Server-sent events: a snapshot, then deltas; a heartbeat every 2 s.

        With a `Last-Event-ID` that is still remembered the first event is the delta from there.
        """
        raise NotImplementedError("only documents the route of `stream_route`, which is before it")

    return routes


def stream_route(ports: Ports) -> BaseRoute:
    """The breaker stream, to be mounted before the routes of :func:`router`."""
    fanout = Fanout(ports.breakers, ports.events, ports.clock, ports.signer)
    route = Route(
        names.BREAKER_STREAM_PATH, _Stream(fanout, ports.authenticator), include_in_schema=False
    )
    route.methods = {"GET"}  # Starlette would add HEAD, of a response that never ends
    return route


class _Stream:
    """``GET /v1/breakers/stream``, speaking ASGI itself.

    Thousands of clients hold one open each, and come back together when the collector was
    restarted; FastAPI's and Starlette's objects a request would be most of what each costs.
    """

    def __init__(self, fanout: Fanout, authenticator: Authenticator) -> None:
        self._fanout = fanout
        self._authenticator = authenticator

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Send events until the client leaves, does not read or is to come back later."""
        ask(self._authenticator, connection)
        last = Headers(scope=connection).get("last-event-id", "")
        watcher = self._fanout.join(_version(last))
        leaving = asyncio.create_task(_end_with(watcher, receive))
        try:
            async with watcher.patience:
                await send(EVENTS_BEGIN)
                while (event := await watcher.next()) is not None:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            return  # it left or, as a TimeoutError, was cut off: then the server closes
        finally:
            leaving.cancel()
            self._fanout.leave(watcher)


async def _end_with(watcher: Watcher, receive: Receive) -> None:
    """End a stream when its client leaves."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        watcher.end()


class _State:
    """The whole state, as it is answered to each client that asks."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._signed: tuple[StateVersion, float, bytes] | None = None

    def unless(self, known: set[str]) -> Response:
        """The state; 304 where it is at one of the ``known`` ETags."""
        state = self._ports.breakers.snapshot()
        headers = {"ETag": state.at.etag, "Cache-Control": "no-cache"}
        if state.at.etag in known:
            return Response(status_code=304, headers=headers)
        text = self._text(state) if self._ports.signer is None else self._lately(state)
        return Response(text, headers=headers, media_type="application/json")

    def _lately(self, state: Snapshot) -> bytes:
        """As it was signed a moment ago: clients that want it signed are never answered 304."""
        now_s = self._ports.clock.monotonic()
        if self._signed is not None:
            at, signed_s, text = self._signed
            if at == state.at and now_s - signed_s < SIGNED_S:
                return text
        self._signed = state.at, now_s, self._text(state)
        return self._signed[2]

    def _text(self, state: Snapshot) -> bytes:
        ports, shown = self._ports, state.to_json()
        left_s = ports.breakers.left_s()
        entries = [{**one, "left_s": left_s.get(one["id"], 0.0)} for one in shown["entries"]]
        refused = [
            {"user": key.user or "", "service": key.service, "call": key.call, "done": done}
            for key, done in ports.not_cut()
        ]
        enforcing = {"not_cut": refused, "not_enforcing": ports.breakers.not_enforcing()}
        signed = shown if ports.signer is None else ports.signer.sign(shown, "snapshot")
        said = {**signed, "entries": entries, **enforcing}
        # orjson, as the stream: what is no number in JSON is null; Starlette's answer would fail
        return orjson.dumps(said, default=str, option=orjson.OPT_SERIALIZE_NUMPY)


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
