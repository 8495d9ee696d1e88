"""FastAPI: what :mod:`~heatshield.integrations.servers.starlette` does, where FastAPI differs.

It overrides ``__call__``, ``build_middleware_stack`` and the handling of its routes; an included
router's routes are known by their effective context, which has the whole template. FastAPI traces
by itself where a tracer provider is set; that is switched off for an application that has not been
given a provider of its own. Its metrics and logs stay.
"""

from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakSet

from heatshield.integrations.patches import Patches
from heatshield.integrations.servers.asgi import ASGI, RouteGuard
from heatshield.integrations.servers.asgi_types import Scope
from heatshield.integrations.servers.server_request import RequestLifecycle
from heatshield.integrations.servers.starlette import handling, install_application
from heatshield.integrations.services import Services

if TYPE_CHECKING:
    from fastapi.routing import APIRoute

__all__ = ["NAME", "install", "remove"]

NAME: Final = "fastapi"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch FastAPI's applications and routes; replaces an earlier patch.

    Raises:
        ImportError: if FastAPI is not installed.
    """
    from fastapi.applications import FastAPI
    from fastapi.routing import APIRoute

    _PATCHES.undo()
    lifecycle = RequestLifecycle(NAME, services, ASGI)
    install_application(lifecycle, FastAPI, services, _PATCHES, _leave_tracing_to_us)
    if "handle" in vars(APIRoute):
        _PATCHES.wrap(APIRoute, "handle", handling(RouteGuard(lifecycle), _template))


def remove() -> None:
    """Take all of it out again."""
    _PATCHES.undo()
    for native in list(_SILENCED):
        native.config = {**native.config, "tracing": True}
    _SILENCED.clear()


class _Telemetry(Protocol):
    """What is used of FastAPI's own telemetry."""

    config: dict[str, object]

    def __hash__(self) -> int: ...


_SILENCED: Final[WeakSet[_Telemetry]] = WeakSet()
"""FastAPI's own telemetry of applications that traced by themselves."""


def _leave_tracing_to_us(app: object) -> None:
    native: _Telemetry | None = getattr(app, "_native_telemetry", None)
    config = getattr(native, "config", None)
    if (
        native is not None
        and config
        and config.get("tracing")
        and config.get("tracer_provider") is None
    ):
        native.config = {**config, "tracing": False}
        _SILENCED.add(native)


def _template(route: "APIRoute", scope: Scope) -> str:
    effective = scope.get("fastapi", {}).get("effective_route_context")
    if effective is not None and effective.original_route is route:
        return str(effective.path_format)
    return str(route.path_format)
