"""Django, over WSGI and ASGI: every handler, whether it was made before or after ``instrument()``.

Our own patches and not OpenTelemetry's middleware, which configures the settings by itself where
they are not configured yet, and is sync, so that under ASGI each request takes turns in one thread.
Where the service has it, its spans are joined. A call is named by the route as Django writes it,
with a slash in front: ``GET /users/<int:pk>/``.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial, wraps
from typing import Any, Final, TypedDict

from heatshield.counters import fail_open
from heatshield.identity.credentials import header_bytes
from heatshield.integrations.import_hooks import ImportHooks, ImportPatch
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Patches
from heatshield.integrations.servers.asgi import ASGI
from heatshield.integrations.servers.asgi import ServerMiddleware as AsgiMiddleware
from heatshield.integrations.servers.django_user import ask, ask_async, patches, user_at_hand
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
_HOOKS: Final = ImportHooks(NAME)
_RUNSERVER_FILES: Final = "django.contrib.staticfiles.handlers"
_THEIRS: Final = OtelContrib("django", "DjangoInstrumentor")
_THEIR_MIDDLEWARE: Final = (
    "opentelemetry.instrumentation.django.middleware.otel_middleware._DjangoMiddleware"
)

_FILES: Final = re.compile(r"django\.views\.static|django\.contrib\.staticfiles\.views")
"""Modules whose views send files: static ones and media."""

_VARIABLES: Final = re.compile(r"<[^<>]*>|\[[^\]]*\]|\\[A-Za-z]|\?P|\{[^{}]*\}")
"""What stands in a route for something else: converters, names of groups, classes of characters."""

_WORDS: Final = re.compile(r"\w")

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
    asks = services.settings.user_scope
    _PATCHES.wrap(base.BaseHandler, "make_view_atomic", _guarding(lifecycle, asks=asks))
    _PATCHES.wrap(exception, "response_for_exception", _answering(lifecycle))
    files = ImportPatch(_RUNSERVER_FILES, "StaticFilesHandlerMixin", "serve", _serving(lifecycle))
    _HOOKS.install((files, *(patches(partial(_named, lifecycle)) if asks else ())))


def remove() -> None:
    """Take all of it out again."""
    _HOOKS.remove()
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


def _guarding(lifecycle: RequestLifecycle, *, asks: bool) -> Wrapper:
    """Surround views where they are made atomic: after all middleware, right before they run.

    Middleware that looks at a view, or compares it, has seen the service's own by then.
    """

    def wrap(original: Callable[..., View]) -> Callable[..., View]:
        @wraps(original)
        def make_view_atomic(handler: Any, view: View) -> View:
            from asgiref.sync import iscoroutinefunction

            atomic = original(handler, view)
            if iscoroutinefunction(atomic):
                return _guarded_async(lifecycle, atomic, asks=asks)
            return _guarded(lifecycle, atomic, asks=asks)

        return make_view_atomic

    return wrap


def _guarded(lifecycle: RequestLifecycle, view: View, *, asks: bool) -> View:
    def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
        __traceback_hide__ = True  # for Django's debug page
        user = user_at_hand(request) if asks else None
        if asks and user is None and _must_ask(lifecycle, request):
            user = ask(request)
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


def _guarded_async(lifecycle: RequestLifecycle, view: View, *, asks: bool) -> View:
    async def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
        __traceback_hide__ = True  # as above
        user = user_at_hand(request) if asks else None
        if asks and user is None and _must_ask(lifecycle, request):
            user = await ask_async(request)
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


@fail_open(NAME, False)
def _must_ask(lifecycle: RequestLifecycle, request: Any) -> bool:
    """Whether it must be known before the view who asks."""
    served, match = _entered(lifecycle, request), request.resolver_match
    return (
        served is not None
        and match is not None
        and lifecycle.must_know_user(static=_route_of(match)["static"])
    )


@fail_open(NAME, None)
def _named(lifecycle: RequestLifecycle, request: Any, user: object) -> None:
    """Name the user that Django has looked up for a request."""
    served = _served_in(_carrier_of(request))
    if served is not None:
        lifecycle.authenticated(served, user)


def _serving(lifecycle: RequestLifecycle) -> Wrapper:
    """The static files of ``runserver``, which are sent without a route."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def serve(handler: Any, request: Any) -> Any:
            refusal = _admit_file(lifecycle, handler, request)
            return original(handler, request) if refusal is None else refusal

        return serve

    return wrap


@fail_open(NAME, None)
def _admit_file(lifecycle: RequestLifecycle, handler: Any, request: Any) -> Any:
    served = _served_in(_carrier_of(request))
    if served is None:
        return None
    refusal = lifecycle.admit(served, f"{handler.base_url.path}<path:path>", {}, static=True)
    return None if refusal is None else _answered(refusal)


@fail_open(NAME, None)
def _admit(lifecycle: RequestLifecycle, request: Any, user: Any) -> Any:
    """What answers a request whose view must not run."""
    served, match = _entered(lifecycle, request), request.resolver_match
    if served is None or match is None:
        return None
    refusal = lifecycle.admit(served, parameters=match.kwargs, user=user, **_route_of(match))
    return None if refusal is None else _answered(refusal)


def _entered(lifecycle: RequestLifecycle, request: Any) -> ServerRequest | None:
    """What is known of a request; another instrumentation's is joined."""
    carrier = _carrier_of(request)
    served = _served_in(carrier)
    if served is None:
        query = header_bytes(request.META.get("QUERY_STRING", ""))
        headers = headers_of(request.META, lifecycle.wanted)
        served = carrier[KEY] = lifecycle.join(request.method, headers, query)
    return served


class _Route(TypedDict):
    """What names a call, as a lifecycle takes it."""

    template: str
    view: str
    static: bool


def _route_of(match: Any) -> _Route:
    template = "/" + str(match.route or "").removeprefix("^").removeprefix("/")
    return {
        "template": template,
        "view": "" if _has_words(template) else str(match.view_name or ""),
        "static": _FILES.fullmatch(str(getattr(match.func, "__module__", ""))) is not None,
    }


def _has_words(template: str) -> bool:
    """Whether a route says anything; one that takes every path (``<path:page>``) does not."""
    return template == "/" or _WORDS.search(_VARIABLES.sub("", template)) is not None


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
