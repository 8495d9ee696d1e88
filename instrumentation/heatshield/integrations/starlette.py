"""Starlette and FastAPI: every application that builds its middleware gets heatshield's layers.

The method that builds the stack is patched, not an application, so it does not matter whether an
application was made before or after ``instrument()``: the stack is built at the first message.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from heatshield.counters import COUNTERS
from heatshield.identity import Identity
from heatshield.settings import ServiceSettings

__all__ = ["NAME", "install", "remove"]

NAME: Final = "starlette"

_PATCHED: Final = "_heatshield_original"


def install(
    settings: ServiceSettings,
    identity: Identity,
    *,
    serving: Callable[[], object],
    flush: Callable[[], object],
) -> None:
    """Patch Starlette, and FastAPI where it builds its own stack; replaces an earlier patch.

    Args:
        settings: which paths make no spans.
        identity: reads users from requests.
        serving: called when an application starts to serve.
        flush: called when a server shuts down.

    Raises:
        ImportError: if Starlette is not installed.
    """

    def wrap(stack: Any) -> Any:
        serving()
        return _layers(stack, settings, identity, flush)

    for cls in _applications():
        _patch(cls, wrap)


def remove() -> None:
    """Leave applications alone that start from now on."""
    for cls in _applications():
        built = cls.__dict__.get("build_middleware_stack")
        if built is not None:
            cls.build_middleware_stack = getattr(built, _PATCHED, built)


def _applications() -> list[Any]:
    from starlette.applications import Starlette

    try:
        from fastapi import FastAPI
    except ImportError:
        return [Starlette]
    return [Starlette, FastAPI]


def _patch(cls: Any, wrap: Callable[[Any], Any]) -> None:
    built = cls.__dict__.get("build_middleware_stack")
    if built is None:
        return
    original = getattr(built, _PATCHED, built)

    @wraps(original)
    def build_middleware_stack(app: Any) -> Any:
        if getattr(app, "_heatshield_building", False):
            return original(app)  # FastAPI's method may call Starlette's
        app._heatshield_building = True  # noqa: SLF001  # our own mark
        kept = app.user_middleware
        try:
            app.user_middleware = _around(kept)
            stack = original(app)
        finally:
            app.user_middleware = kept
            del app._heatshield_building  # noqa: SLF001  # our own mark
        try:
            return wrap(stack)
        except Exception:  # noqa: BLE001  # the service must start without us, too
            COUNTERS.error("starlette")
            return stack

    setattr(build_middleware_stack, _PATCHED, original)
    cls.build_middleware_stack = build_middleware_stack


def _around(user_middleware: list[Any]) -> list[Any]:
    from starlette.middleware import Middleware

    from heatshield.integrations.asgi import Enforcement, Refusals

    return [Middleware(Refusals), *user_middleware, Middleware(Enforcement)]


def _layers(
    stack: Any, settings: ServiceSettings, identity: Identity, flush: Callable[[], object]
) -> Any:
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    from heatshield.integrations.asgi import Entry, describe, name_user

    traced = OpenTelemetryMiddleware(
        stack,
        default_span_details=describe,
        server_request_hook=name_user(identity),
        exclude_spans=["send", "receive"],
    )
    return Entry(traced, stack, settings.excluded_paths, flush)
