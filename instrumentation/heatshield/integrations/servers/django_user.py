"""Whom Django has authenticated, named when the service asks for it.

Asking reads the session and the user, two queries as a rule, and makes the page vary by cookie, so
that no cache keeps it. So it is left to the service; only while some call of the service, be it a
guard within a view, is refused to some user must it be known before the view who asks. Then the
session is read without a trace: what the service does afterwards costs and varies as it would.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, cast

from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.import_hooks import ImportPatch

__all__ = ["ask", "ask_async", "patches", "user_at_hand"]

_MODULE: Final = "django.contrib.auth"
_MIDDLEWARE: Final = "django.contrib.auth.middleware"

Named = Callable[[Any, object], object]
"""Takes a request and the user that Django has found for it."""


def patches(named: Named) -> tuple[ImportPatch, ...]:
    """Have ``named`` called whenever Django looks a request's user up."""

    def looking_up(original: Callable[..., object]) -> Callable[..., object]:
        @wraps(original)
        def get_user(request: Any) -> object:
            user = original(request)
            named(request, user)
            return user

        return get_user

    def looking_up_async(
        original: Callable[..., Awaitable[object]],
    ) -> Callable[..., Awaitable[object]]:
        @wraps(original)
        async def aget_user(request: Any) -> object:
            user = await original(request)
            named(request, user)
            return user

        return aget_user

    return (
        ImportPatch(_MODULE, "", "get_user", looking_up),
        ImportPatch(_MODULE, "", "aget_user", looking_up_async),
    )


@fail_open("django", None)
def user_at_hand(request: Any) -> object:
    """The user of a request, if it is known already; ``None`` if it had to be looked up."""
    from django.utils.functional import LazyObject, empty

    user: Any = getattr(request, "user", None)
    if issubclass(type(user), LazyObject):
        user = None if user._wrapped is empty else user  # noqa: SLF001  # nothing public tells
    return getattr(request, "_acached_user", None) if user is None else user


@fail_open("django", None)
def ask(request: Any) -> object:
    """Look the user of a request up, before the service does."""
    if not _is_djangos(request):
        return getattr(request, "user", None)  # the service's own way; it is not known how
    from django.contrib import auth

    with _unseen(request):
        return cast("object", auth.get_user(request))


async def ask_async(request: Any) -> object:
    """:func:`ask`, in the way that may wait for the database."""
    try:
        if not _is_djangos(request):
            return await request.auser() if hasattr(request, "auser") else None
        from asgiref.sync import sync_to_async
        from django.contrib import auth

        look_up = getattr(auth, "aget_user", None) or sync_to_async(auth.get_user)
        with _unseen(request):
            return cast("object", await look_up(request))
    except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
        COUNTERS.error("django")
        return None


def _is_djangos(request: Any) -> bool:
    """Whether Django's own middleware would look the user up."""
    user = getattr(request, "user", None)
    setup = getattr(user, "__dict__", {}).get("_setupfunc")
    return getattr(setup, "__module__", "") == _MIDDLEWARE


@contextmanager
def _unseen(request: Any) -> Iterator[None]:
    """Read the session for a moment without it counting as read."""
    session = request.session
    before = session.accessed
    yield
    if not session.modified:
        session.accessed = before
