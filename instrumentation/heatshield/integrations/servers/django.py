"""Django, over WSGI and ASGI: every handler, whether it was made before or after ``instrument()``.

Our own patches and not OpenTelemetry's middleware, which configures the settings by itself where
they are not configured yet, and is sync, so that under ASGI each request takes turns in one thread.
Where the service has it, its spans are joined. A call is named by the route as Django writes it,
with a slash in front: ``GET /users/<int:pk>/``.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial, wraps
from typing import Any, Final

from heatshield.counters import COUNTERS, fail_open
from heatshield.identity.credentials import header_bytes
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Patches
from heatshield.integrations.servers.asgi import ASGI
from heatshield.integrations.servers.asgi import ServerMiddleware as AsgiMiddleware
from heatshield.integrations.servers.refusal import answer_to
from heatshield.integrations.servers.server_request import (
    KEY,
    SERVER_ERROR,
    RequestLifecycle,
    ServerRequest,
)
from heatshield.integrations.servers.wsgi import ServerMiddleware, headers_of
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "django"
OVER_ASGI: Final = "django over asgi"
"""Names the lifecycle of requests that come over ASGI, whose middleware opens them."""

_PATCHES: Final = Patches()
_THEIRS: Final = OtelContrib("django", "DjangoInstrumentor")
_THEIR_MIDDLEWARE: Final = (
    "opentelemetry.instrumentation.django.middleware.otel_middleware._DjangoMiddleware"
)

View = Callable[..., Any]
Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


def install(services: Services) -> None:
    """Patch Django's handlers; replaces an earlier patch.

    Raises:
        ImportError: if Django is not installed.
    """
    from django.core.handlers import asgi, base, exception, wsgi

    _PATCHES.undo()
    lifecycle = RequestLifecycle(NAME, services)
    _PATCHES.wrap(wsgi.WSGIHandler, "__call__", _entering(ServerMiddleware(lifecycle, services)))
    entering = _entering_async(
        lifecycle,
        AsgiMiddleware(RequestLifecycle(OVER_ASGI, services, ASGI), services),
        services.serving,
    )
    _PATCHES.wrap(asgi.ASGIHandler, "__call__", entering)
    guarding = _guarding(lifecycle, ask_user=services.settings.user_scope)
    _PATCHES.wrap(base.BaseHandler, "make_view_atomic", guarding)
    _PATCHES.wrap(exception, "response_for_exception", _answering(lifecycle))


def remove() -> None:
    """Take all of it out again."""
    _PATCHES.undo()
    RequestLifecycle.retire(NAME)
    RequestLifecycle.retire(OVER_ASGI)


def _entering(middleware: ServerMiddleware) -> Wrapper:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def enter(handler: Any, environ: Any, start_response: Any) -> Iterable[bytes]:
            if _has_theirs():
                answer: Iterable[bytes] = original(handler, environ, start_response)
                return answer
            return middleware.enter(partial(original, handler), environ, start_response)

        return enter

    return wrap


def _entering_async(
    lifecycle: RequestLifecycle, middleware: AsgiMiddleware, begin_serving: Callable[[], object]
) -> Wrapper:
    def wrap(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @wraps(original)
        async def enter(handler: Any, scope: Any, receive: Any, send: Any) -> None:
            if lifecycle.is_retired or _has_theirs():
                await original(handler, scope, receive, send)
                return
            begin_serving()  # a server asks for the lifespan first, before any request
            await middleware.enter(partial(original, handler), scope, receive, send)

        return enter

    return wrap


@fail_open(NAME, False)
def _has_theirs() -> bool:
    """Whether OpenTelemetry's middleware is among the service's."""
    if not _THEIRS.active:
        return False
    from django.conf import settings

    return _THEIR_MIDDLEWARE in settings.MIDDLEWARE


def _guarding(lifecycle: RequestLifecycle, *, ask_user: bool) -> Wrapper:
    """Surround views where they are made atomic: after all middleware, right before they run.

    Middleware that looks at a view, or compares it, has seen the service's own by then.
    """

    def wrap(original: Callable[..., View]) -> Callable[..., View]:
        @wraps(original)
        def make_view_atomic(handler: Any, view: View) -> View:
            from asgiref.sync import iscoroutinefunction

            atomic = original(handler, view)
            if iscoroutinefunction(atomic):
                return _guarded_async(lifecycle, atomic, ask_user=ask_user)
            return _guarded(lifecycle, atomic, ask_user=ask_user)

        return make_view_atomic

    return wrap


def _guarded(lifecycle: RequestLifecycle, view: View, *, ask_user: bool) -> View:
    def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
        __traceback_hide__ = True  # for Django's debug page
        user = getattr(request, "user", None) if ask_user else None
        refusal = _admit(lifecycle, request, user)
        if refusal is not None:
            return refusal
        try:
            return view(request, *args, **kwargs)
        except Exception as error:
            answer = _answered(error)
            if answer is None:
                raise
            return answer

    return guarded


def _guarded_async(lifecycle: RequestLifecycle, view: View, *, ask_user: bool) -> View:
    async def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
        __traceback_hide__ = True  # as above
        user = await _user_of(request) if ask_user else None
        refusal = _admit(lifecycle, request, user)
        if refusal is not None:
            return refusal
        try:
            return await view(request, *args, **kwargs)
        except Exception as error:
            answer = _answered(error)
            if answer is None:
                raise
            return answer

    return guarded


async def _user_of(request: Any) -> Any:
    """Whom Django has authenticated, asked in the way that may wait for the database."""
    try:
        return await request.auser() if hasattr(request, "auser") else None
    except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
        COUNTERS.error(NAME)
        return None


@fail_open(NAME, None)
def _admit(lifecycle: RequestLifecycle, request: Any, user: Any) -> Any:
    """What answers a request whose view must not run."""
    carrier = _carrier_of(request)
    served = _served_in(carrier)
    if served is None:
        query = header_bytes(request.META.get("QUERY_STRING", ""))
        headers = headers_of(request.META, lifecycle.wanted)
        served = carrier[KEY] = lifecycle.join(request.method, headers, query)
    match = request.resolver_match
    if served is None or match is None:
        return None
    template = "/" + str(match.route or "").removeprefix("^").removeprefix("/")
    refusal = lifecycle.admit(served, template, match.kwargs, user)
    return None if refusal is None else _answered(refusal)


@fail_open(NAME, None)
def _answered(error: BaseException) -> Any:
    answer = answer_to(error)
    if answer is None:
        return None
    from django.http import HttpResponse

    response = HttpResponse(answer.body, status=answer.status, headers=answer.headers)
    # Or Django would log each as an error, and mail it to the service's admins.
    response._has_been_logged = True  # noqa: SLF001  # what Django itself sets
    return response


def _answering(lifecycle: RequestLifecycle) -> Wrapper:
    """What leaves a middleware, which may be a rejection, too; and what ends as a 500."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def response_for_exception(request: Any, exc: BaseException) -> Any:
            __traceback_hide__ = True  # as above
            answer = _answered(exc)
            if answer is not None:
                return answer
            response = original(request, exc)
            if response.status_code >= SERVER_ERROR:
                _note(lifecycle, request, exc)
            return response

        return response_for_exception

    return wrap


@fail_open(NAME, None)
def _note(lifecycle: RequestLifecycle, request: Any, error: BaseException) -> None:
    served = _served_in(_carrier_of(request))
    if served is not None:
        lifecycle.failed(served, error)


def _carrier_of(request: Any) -> Any:
    """Where what is known of a request stands: its ASGI scope or WSGI environ."""
    scope = getattr(request, "scope", None)
    return request.META if scope is None else scope


def _served_in(carrier: Any) -> ServerRequest | None:
    served: ServerRequest | None = carrier.get(KEY)
    return served
