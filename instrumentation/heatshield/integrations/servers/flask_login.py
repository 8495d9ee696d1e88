"""Flask-Login: with ``user_scope``, the user who is logged in, read where that costs nothing.

At a request's admission the user is the one whom its session names, or whom the service has loaded
already; nothing is loaded, and the session does not count as accessed, which would add ``Vary:
Cookie`` to every answer. A user who comes by another way (a remember-me cookie, a token that a
``request_loader`` reads) is named when the service loads that user.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from heatshield.breakers.gate import GATE
from heatshield.context.request import request_in
from heatshield.counters import fail_open
from heatshield.integrations.patches import Original, Patches
from heatshield.integrations.services import Services
from heatshield.rejection import BreakerOpen
from heatshield.tracing.stamp import stamp_user

__all__ = ["NAME", "install", "logged_in", "remove"]

NAME: Final = "flask_login"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch its manager, if the settings ask for the user; replaces an earlier patch.

    Raises:
        ImportError: if Flask-Login is not installed.
    """
    from flask_login import LoginManager

    _PATCHES.undo()
    if services.settings.user_scope:
        _PATCHES.wrap(LoginManager, "_update_request_context_with_user", _loading(services))


def remove() -> None:
    """Take the patch out again."""
    _PATCHES.undo()


@fail_open(NAME, None)
def logged_in() -> object:
    """The id of the user who is logged in, as ``get_id`` has it; ``None`` if none is known yet."""
    if NAME not in sys.modules:
        return None
    from flask import g
    from flask.globals import request_ctx

    user = g.get("_login_user")
    if user is not None:
        return _id_of(user)
    context = getattr(request_ctx, "_get_current_object")()  # noqa: B009  # it is a proxy
    session = vars(context).get("_session", vars(context).get("session"))
    # Past the session's own methods, which note that it was accessed.
    return dict.get(session, "_user_id") if isinstance(session, dict) else None


def _loading(services: Services) -> Callable[[Original], Original]:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def update(self: object, *args: object, **kwargs: object) -> object:
            answer = original(self, *args, **kwargs)
            refusal = _name(services)
            if refusal is not None:
                raise refusal
            return answer

        return update

    return wrap


@fail_open(NAME, None)
def _name(services: Services) -> BreakerOpen | None:
    """Name the user who has just been loaded; returns why the view must not go on."""
    from flask import g

    request, user = request_in(), _id_of(g.get("_login_user"))
    if request is None or user is None:
        return None
    services.identity.on_route(request, {}, user)
    stamp_user(request.span, request)
    return GATE.refusal(request.call, request.user) if request.entered else None


def _id_of(user: Any) -> object:
    return user.get_id() if getattr(user, "is_authenticated", False) else None
