"""Starlette: every application, whether it was made before or after ``instrument()``.

Classes are patched, not applications: ``__call__`` for the span, the routes' ``handle`` for the
call's name and refusal, and ``build_middleware_stack``, which runs at an application's first
message, for the answer to a :class:`~heatshield.rejection.BreakerOpen`.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from heatshield.integrations.patches import Patches
from heatshield.integrations.servers.asgi import Door, Threshold
from heatshield.integrations.servers.asgi_refusals import Refusals, answer
from heatshield.integrations.services import Equipment

__all__ = ["NAME", "handling", "install", "install_application", "remove"]

NAME: Final = "starlette"

_PATCHES: Final = Patches()


def install(equipment: Equipment) -> None:
    """Patch Starlette's applications and routes; replaces an earlier patch.

    Raises:
        ImportError: if Starlette is not installed.
    """
    from starlette.applications import Starlette
    from starlette.routing import Host, Mount, Route, WebSocketRoute

    _PATCHES.undo()
    threshold = Threshold(equipment)
    install_application(Starlette, equipment, _PATCHES)
    for route in (Route, WebSocketRoute):
        _PATCHES.wrap(route, "handle", handling(threshold, lambda one, _: one.path_format))
    for mount in (Mount, Host):
        _PATCHES.wrap(mount, "handle", _mounting(threshold))


def remove() -> None:
    """Take all of it out again."""
    _PATCHES.undo()


def install_application(
    cls: Any,
    equipment: Equipment,
    patches: Patches,
    prepare: Callable[[Any], object] = lambda _: None,
) -> None:
    """Patch a class of applications.

    Args:
        cls: the class.
        equipment: of the runtime.
        patches: keeps what is replaced.
        prepare: called with the application before each of its requests.
    """
    door = Door(equipment)

    def calling(original: Callable[..., Any]) -> Callable[..., Any]:
        async def called(app: Any, scope: Any, receive: Any, send: Any) -> None:
            async def inner(scope: Any, receive: Any, send: Any) -> None:
                await original(app, scope, receive, send)

            traced = getattr(app, "_is_instrumented_by_opentelemetry", False)
            if traced and scope["type"] != "lifespan":  # somebody else makes the span
                await original(app, scope, receive, send)
                return
            prepare(app)
            await door.enter(inner, scope, receive, send)

        return wraps(original)(called)

    patches.wrap(cls, "__call__", calling)
    patches.wrap(cls, "build_middleware_stack", _building(equipment.serving))


def _building(serving: Callable[[], object]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def build_middleware_stack(app: Any) -> Any:
            from starlette.middleware import Middleware

            serving()
            kept = app.user_middleware
            if any(middleware.cls is Refusals for middleware in kept):
                return original(app)  # FastAPI's method may call Starlette's
            try:
                app.user_middleware = [Middleware(Refusals), *kept, Middleware(Refusals)]
                return original(app)
            finally:
                app.user_middleware = kept

        return build_middleware_stack

    return wrap


def handling(
    threshold: Threshold, template_of: Callable[[Any, Any], str]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Wraps a route's ``handle``: the request crosses the threshold, or is answered as refused."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def handle(route: Any, scope: Any, receive: Any, send: Any) -> None:
            refusal = threshold.cross(scope, template_of(route, scope))
            if refusal is not None:
                await answer(refusal, scope, send)
                return
            await original(route, scope, receive, send)

        return handle

    return wrap


def _mounting(threshold: Threshold) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def handle(mount: Any, scope: Any, receive: Any, send: Any) -> None:
            threshold.pass_mount(scope, getattr(mount, "path", ""))
            if not getattr(mount, "routes", ()):  # no router of ours inside: this is the call
                refusal = threshold.cross(scope, "/{path}", final=False)
                if refusal is not None:
                    await answer(refusal, scope, send)
                    return
            await original(mount, scope, receive, send)

        return handle

    return wrap
