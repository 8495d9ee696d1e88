"""What each of thousands of clients asks every few seconds, answered without FastAPI's objects.

A renewal that finds nothing new, and a report. Both have a documented route (watch.py, breakers.py)
that answers the same; it also answers whatever is not matched here: other questions, states that
are news, bodies that are long or say that they are something else than JSON. There these took 0.4
and 1 ms of processor time: for 10,000 clients, more than a core.
"""

from typing import Final

import orjson
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from heatshield import names
from heatshield.contract import Report, decode
from heatshield_collector.api.scopes import ask
from heatshield_collector.ports import Authenticator, BreakerService, Ports

__all__ = ["ReportRoute", "UnchangedRoute", "frequent_routes"]

SHORT_BYTES: Final = 64 * 1024
"""Longest report that is read here: some 600 entries."""


def frequent_routes(ports: Ports) -> list[BaseRoute]:
    """The routes of this file, to be mounted before the documented ones."""
    return [
        UnchangedRoute(ports.breakers, ports.authenticator),
        ReportRoute(ports.breakers, ports.authenticator),
    ]


class UnchangedRoute(BaseRoute):
    """``GET /v1/breakers`` of a client that is at the newest version: 304.

    Args:
        breakers: the state.
        authenticator: asked at every request.
    """

    def __init__(self, breakers: BreakerService, authenticator: Authenticator) -> None:
        self._breakers = breakers
        self._authenticator = authenticator

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether nothing is new to this request."""
        if (
            scope["type"] == "http"
            and scope["path"] == names.BREAKERS_PATH
            and scope["method"] == "GET"
            and not scope["query_string"]
            and _known(scope) == self._breakers.at().etag
        ):
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Say so. What changed since it was matched, the stream has told."""
        ask(self._authenticator, scope)
        headers = [(b"etag", _known(scope).encode()), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


class ReportRoute(BaseRoute):
    """``POST /v1/breakers/report`` of ordinary length.

    Args:
        breakers: told of it.
        authenticator: asked before the body is read.
    """

    def __init__(self, breakers: BreakerService, authenticator: Authenticator) -> None:
        self._breakers = breakers
        self._authenticator = authenticator

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this is a short report as clients send it."""
        if (
            scope["type"] != "http"
            or scope["path"] != names.BREAKER_REPORT_PATH
            or scope["method"] != "POST"
        ):
            return Match.NONE, {}
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        is_short = length.isascii() and length.isdigit() and len(length) <= len(str(SHORT_BYTES))
        is_short = is_short and int(length) <= SHORT_BYTES
        if is_short and headers.get("content-type") == "application/json":
            return Match.FULL, {}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the report in.

        Raises:
            ContractError: when it is none.
        """
        ask(self._authenticator, scope)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = self._breakers.report(Report.from_json(decode(body)))
        text = orjson.dumps(answer.to_json())
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


def _known(scope: Scope) -> str:
    return Headers(scope=scope).get("if-none-match", "")
