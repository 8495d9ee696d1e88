"""Flask: every application, whether it was made before or after ``instrument()``.

Our own patches of the class and not OpenTelemetry's subclass, which misses applications that exist,
names what has no route by its path, and ends a span before a streamed body is out. Where the
service has instrumented an application so itself, that span is joined.
"""

from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final, cast

from heatshield.counters import fail_open
from heatshield.identity.credentials import header_bytes
from heatshield.integrations.admission import Refusal
from heatshield.integrations.patches import Original, Patches, Wrapper
from heatshield.integrations.servers.flask_login import logged_in
from heatshield.integrations.servers.refusal import answer_to
from heatshield.integrations.servers.server_request import KEY, RequestLifecycle, ServerRequest
from heatshield.integrations.servers.wsgi import (
    Environ,
    ServerMiddleware,
    StartResponse,
    headers_of,
)
from heatshield.integrations.services import Services
from heatshield.rejection import BreakerOpen, refusal_in

if TYPE_CHECKING:
    from flask import Flask, Response

__all__ = ["NAME", "install", "remove"]

NAME: Final = "flask"

_FILE: Final = "<path:filename>"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch Flask's class and Werkzeug's server; replaces an earlier patch.

    Raises:
        ImportError: if Flask is not installed.
    """
    from flask.app import Flask
    from werkzeug.serving import BaseWSGIServer

    _PATCHES.undo()
    lifecycle = RequestLifecycle(NAME, services)
    entering = _entering(ServerMiddleware(lifecycle, services))
    _PATCHES.wrap(Flask, "__call__", entering)
    _PATCHES.wrap(Flask, "wsgi_app", entering)  # what a middleware may have been given
    asks_user = services.settings.user_scope
    _PATCHES.wrap(Flask, "dispatch_request", _dispatching(lifecycle, asks_user=asks_user))
    _PATCHES.wrap(Flask, "handle_user_exception", _handling_user_exception)
    _PATCHES.wrap(Flask, "handle_exception", _handling_exception(lifecycle))
    _PATCHES.wrap(BaseWSGIServer, "serve_forever", _serving_forever(services))


def remove() -> None:
    """Take all of it out again."""
    _PATCHES.undo()
    RequestLifecycle.retire(NAME)


def _entering(middleware: ServerMiddleware) -> Wrapper:
    def wrap(original: Original) -> Original:
        call = cast("Callable[..., Iterable[bytes]]", original)

        @wraps(original)
        def enter(app: object, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            __traceback_hide__ = True  # for Werkzeug's debugger
            if getattr(app, "_is_instrumented_by_opentelemetry", False):
                return call(app, environ, start_response)
            return middleware.enter(partial(call, app), environ, start_response)

        return enter

    return wrap


def _dispatching(lifecycle: RequestLifecycle, *, asks_user: bool) -> Wrapper:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def dispatch_request(app: "Flask", *args: object, **kwargs: object) -> object:
            __traceback_hide__ = True  # for Werkzeug's debugger
            refusal = _admit(lifecycle, asks_user=asks_user)
            answer = None if refusal is None else _answered(app, refusal)
            return original(app, *args, **kwargs) if answer is None else answer

        return dispatch_request

    return wrap


@fail_open(NAME, None)
def _admit(lifecycle: RequestLifecycle, *, asks_user: bool) -> Refusal | None:
    from flask import request as proxy

    # A proxy looks the request up each time; typed as the request, it does not show its own method.
    request = getattr(proxy, "_get_current_object")()  # noqa: B009
    environ = request.environ
    served: ServerRequest | None = environ.get(KEY)
    if served is None:
        query = header_bytes(environ.get("QUERY_STRING", ""))
        headers = headers_of(environ, lifecycle.wanted)
        served = environ[KEY] = lifecycle.join(request.method, headers, query)
    if served is None:
        return None
    if request.url_rule is None:
        lifecycle.no_route(served)
        return None
    parameters = request.view_args or {}
    user = (request.remote_user or logged_in()) if asks_user else None
    rule = str(request.url_rule.rule)
    # Flask and its blueprints give this name to the rule of their static folder.
    static = str(request.endpoint).rpartition(".")[2] == "static" and rule.endswith(_FILE)
    return lifecycle.admit(served, rule, parameters, user, static=static)


def _handling_user_exception(original: Original) -> Original:
    @wraps(original)
    def handle_user_exception(app: "Flask", *args: Any, **kwargs: Any) -> object:
        __traceback_hide__ = True  # as above
        _, error = _split(args, kwargs)
        answer = None if error is None or _is_expected(app, error) else _answered(app, error)
        return original(app, *args, **kwargs) if answer is None else answer

    return handle_user_exception


def _split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """The arguments before the error that a method of Flask's takes last, and the error."""
    if "e" in kwargs:
        return args, kwargs["e"]
    return args[:-1], args[-1] if args else None


def _handling_exception(lifecycle: RequestLifecycle) -> Wrapper:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def handle_exception(app: Any, *args: Any, **kwargs: Any) -> object:
            __traceback_hide__ = True  # for Werkzeug's debugger
            before, error = _split(args, kwargs)  # what comes before it differs by version
            if error is not None:
                answer = _answered(app, error)
                if answer is not None:
                    return app.finalize_request(*before, answer, from_error_handler=True)
                _note(lifecycle, error)
            return original(app, *args, **kwargs)

        return handle_exception

    return wrap


@fail_open(NAME, False)
def _is_expected(app: "Flask", error: BaseException) -> bool:
    """Whether the service has an error handler for rejections, and answers them itself.

    One for every exception is not meant for decisions.
    """
    handlers = app.error_handler_spec.values()
    return refusal_in(error) is not None and any(
        BreakerOpen in by_class for by_code in handlers for by_class in by_code.values()
    )


@fail_open(NAME, None)
def _answered(app: "Flask", error: BaseException) -> "Response | None":
    answer = answer_to(error)
    if answer is None:
        return None
    return app.response_class(answer.body, answer.status, answer.headers)


@fail_open(NAME, None)
def _note(lifecycle: RequestLifecycle, error: BaseException) -> None:
    from flask import request

    served = request.environ.get(KEY)
    if served is not None:
        lifecycle.failed(served, error)


def _serving_forever(services: Services) -> Wrapper:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def serve_forever(*args: object, **kwargs: object) -> object:
            services.serving()
            try:
                return original(*args, **kwargs)
            finally:
                services.flush()

        return serve_forever

    return wrap
