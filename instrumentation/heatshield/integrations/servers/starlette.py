"""Starlette: every application, whether it was made before or after ``instrument()``.

Classes are patched, not applications: ``__call__`` for the span, the routes' ``handle`` for the
call's name and refusal, and ``build_middleware_stack``, which runs at an application's first
message, for the answer to a :class:`~heatshield.rejection.BreakerOpen`.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, cast

from heatshield.charges.steps import stepped
from heatshield.integrations.patches import AsyncOriginal, AsyncWrapper, Original, Patches, Wrapper
from heatshield.integrations.servers.asgi import ASGI, RouteGuard, ServerMiddleware
from heatshield.integrations.servers.asgi_refusal import Refusals, send_refusal
from heatshield.integrations.servers.asgi_types import Receive, Scope, Send
from heatshield.integrations.servers.server_request import RequestLifecycle
from heatshield.integrations.services import Services

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["NAME", "handling", "install", "install_application", "remove"]

NAME: Final = "starlette"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch Starlette's applications and routes; replaces an earlier patch.

    Raises:
        ImportError: if Starlette is not installed.
    """
    from starlette.applications import Starlette
    from starlette.routing import Host, Mount, Route, WebSocketRoute

    _PATCHES.undo()
    lifecycle = RequestLifecycle(NAME, services, ASGI)
    guard = RouteGuard(lifecycle)
    install_application(lifecycle, Starlette, services, _PATCHES)
    for route in (Route, WebSocketRoute):
        _PATCHES.wrap(route, "handle", handling(guard, lambda one, _: one.path_format))
    for mount in (Mount, Host):
        _PATCHES.wrap(mount, "handle", _mounting(guard))


def remove() -> None:
    """Take all of it out again."""
    _PATCHES.undo()


def install_application(
    lifecycle: RequestLifecycle,
    cls: type,
    services: Services,
    patches: Patches,
    prepare: Callable[[object], object] = lambda _: None,
) -> None:
    """Patch a class of applications.

    Args:
        lifecycle: of the framework's requests.
        cls: the class.
        services: of the runtime.
        patches: keeps what is replaced.
        prepare: called with the application before each of its requests.
    """
    middleware = ServerMiddleware(lifecycle, services)

    def calling(original: AsyncOriginal) -> AsyncOriginal:
        async def called(app: object, scope: Scope, receive: Receive, send: Send) -> None:
            async def inner(scope: Scope, receive: Receive, send: Send) -> None:
                await original(app, scope, receive, send)

            traced = getattr(app, "_is_instrumented_by_opentelemetry", False)
            if traced and scope["type"] != "lifespan":  # OpenTelemetry's middleware makes the span
                await original(app, scope, receive, send)
                return
            prepare(app)
            await middleware.enter(inner, scope, receive, send)

        return wraps(original)(called)

    patches.wrap(cls, "__call__", calling)
    patches.wrap(cls, "build_middleware_stack", _building(services.serving))


def _building(serving: Callable[[], object]) -> Wrapper:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def build_middleware_stack(app: "Starlette") -> object:
            from starlette.middleware import Middleware

            serving()
            kept = app.user_middleware
            if any(cast("object", middleware.cls) is Refusals for middleware in kept):
                return original(app)  # FastAPI's method may call Starlette's
            try:
                app.user_middleware = [Middleware(Refusals), *kept, Middleware(Refusals)]
                return original(app)
            finally:
                app.user_middleware = kept

        return build_middleware_stack

    return wrap


def handling(guard: RouteGuard, template_of: Callable[[Any, Scope], str]) -> AsyncWrapper:
    """Wraps a route's ``handle``: the request is admitted, or answered as refused."""

    def wrap(original: AsyncOriginal) -> AsyncOriginal:
        @wraps(original)
        async def handle(route: object, scope: Scope, receive: Receive, send: Send) -> None:
            refusal = await guard.admit(scope, template_of(route, scope))
            if refusal is not None:
                await send_refusal(refusal, scope, send)
                return
            # A middleware of the service may run this in a task of its own.
            await stepped(original(route, scope, receive, send), guard.request_of(scope))

        return handle

    return wrap


def _mounting(guard: RouteGuard) -> AsyncWrapper:
    def wrap(original: AsyncOriginal) -> AsyncOriginal:
        @wraps(original)
        async def handle(mount: object, scope: Scope, receive: Receive, send: Send) -> None:
            guard.pass_mount(scope, getattr(mount, "path", ""))
            if not getattr(mount, "routes", ()):  # no router of ours inside: this is the call
                static = _sends_files(getattr(mount, "app", None))
                refusal = await guard.admit(scope, "/{path}", final=False, static=static)
                if refusal is not None:
                    await send_refusal(refusal, scope, send)
                    return
            await original(mount, scope, receive, send)

        return handle

    return wrap


def _sends_files(app: object) -> bool:
    module = sys.modules.get("starlette.staticfiles")
    return module is not None and isinstance(app, module.StaticFiles)
