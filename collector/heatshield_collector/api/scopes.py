"""Asks the authenticator on every route of the API, its documentation too.

A route that only reads needs :attr:`Scope.READ`, any other :attr:`Scope.CONTROL`, unless
:data:`SCOPES` says otherwise; so a new route is never open by an oversight.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI, Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from heatshield import names
from heatshield_collector.api.errors import documented
from heatshield_collector.http_caller import HttpCaller
from heatshield_collector.ports import Authenticator, Principal, Scope

__all__ = ["REFUSALS", "SCOPES", "ask", "asks", "guard_documentation", "scope_of"]

REFUSALS: Final = documented(_401="not an admin token")
"""How a route that changes something may refuse, for its documentation."""

SCOPES: Final[dict[tuple[str, str], Scope]] = {
    ("GET", names.BREAKERS_PATH): Scope.ENFORCE,
    ("GET", names.BREAKER_STREAM_PATH): Scope.ENFORCE,
    ("POST", names.BREAKER_REPORT_PATH): Scope.ENFORCE,
    ("GET", "/healthz"): Scope.HEALTH,
    ("GET", "/readyz"): Scope.HEALTH,
}
"""What (method, path) needs, where it is not what the method says."""

READING: Final = frozenset({"GET", "HEAD"})


def scope_of(method: str, path: str) -> Scope:
    """What a request needs."""
    return SCOPES.get((method, path)) or (Scope.READ if method in READING else Scope.CONTROL)


def asks(authenticator: Authenticator) -> Callable[[Request], Awaitable[Principal]]:
    """A FastAPI dependency that returns the principal of a request, or refuses it.

    Raises:
        AccessError: the caller is not let through.
    """

    async def principal(request: Request) -> Principal:
        return ask(authenticator, request.scope)

    return principal


def guard_documentation(app: FastAPI, authenticator: Authenticator) -> None:
    """Ask also on the routes that FastAPI itself adds; dependencies don't reach them."""
    for route in app.routes:
        if isinstance(route, Route):
            route.app = _Guarded(route.app, authenticator)


class _Guarded:
    """An ASGI application behind the authenticator."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        ask(self._authenticator, connection)
        await self._app(connection, receive, send)


def ask(authenticator: Authenticator, connection: Connection) -> Principal:
    """The principal of a request.

    Raises:
        AccessError: the caller is not let through.
    """
    scope = scope_of(connection["method"], connection["path"])
    return authenticator.authenticate(HttpCaller(connection), scope)
