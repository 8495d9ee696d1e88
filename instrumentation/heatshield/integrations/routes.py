"""The route of a request before routing happens: its template is the name of the call.

Routes are matched the way Starlette's router will match them again. FastAPI keeps included routers
as one route that knows its effective routes; mounted applications are looked into.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Final, NamedTuple

from starlette.routing import BaseRoute, Host, Match, Mount

__all__ = ["Found", "call_name", "find_route"]

Scope = MutableMapping[str, Any]

METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)
"""RFC 9110's and PATCH. Any other is named ``HTTP``, as OpenTelemetry does: methods are chosen by
the caller and must not make names."""

MAX_MOUNTS: Final = 8
"""Mounts within mounts that are looked into."""


class Found(NamedTuple):
    """A route's template, empty if none matches, and the parameters of the path."""

    template: str
    path_params: Mapping[str, Any]


NOTHING: Final = Found("", {})


def call_name(scope: Scope, template: str) -> str:
    """``POST /purchases/{user}``; the method alone if no route matches, as the path is endless."""
    method = scope.get("method", "") if scope["type"] == "http" else "WS"
    if method not in METHODS and method != "WS":
        method = "HTTP"
    return f"{method} {template}" if template else str(method)


def find_route(routes: Sequence[BaseRoute], scope: Scope, depth: int = 0) -> Found:
    """The route that will handle the request."""
    partial = NOTHING
    for route in _flat(routes):
        match, child = route.matches(scope)
        if match is Match.FULL:
            return _described(route, {**scope, **child}, depth)
        if match is Match.PARTIAL and not partial.template:
            partial = Found(str(getattr(route, "path", "")), child.get("path_params", {}))
    return partial


def _flat(routes: Iterable[BaseRoute]) -> Iterator[Any]:
    for route in routes:
        effective = getattr(route, "effective_route_contexts", None)
        if effective is None:
            yield route
        else:
            for context in effective():
                yield getattr(context, "starlette_route", None) or context


def _described(route: Any, scope: Scope, depth: int) -> Found:
    params = scope.get("path_params", {})
    if isinstance(route, Mount | Host):
        prefix = route.path if isinstance(route, Mount) else ""
        inner = getattr(route.app, "routes", None)
        if inner is None or depth >= MAX_MOUNTS:
            return Found(f"{prefix}/{{path}}", params)
        found = find_route(inner, scope, depth + 1)
        return Found(f"{prefix}{found.template or '/{path}'}", {**params, **found.path_params})
    return Found(str(getattr(route, "path", "")), params)
