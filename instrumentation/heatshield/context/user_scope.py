"""Names the acting user: from now on, or, in a ``with`` block, until the end of the block.

Without a block, the user belongs to the running request; outside of a request, to the thread or
task that named the user, which in a pool is wrong as soon as it does other work. The end of a block
restores the previous user.
"""

from contextlib import AbstractContextManager
from contextvars import Token
from dataclasses import replace
from types import TracebackType

from opentelemetry.context import Context, get_current

from heatshield.context.attachment import attach, detach
from heatshield.context.request import Request, with_request
from heatshield.counters import fail_open
from heatshield.identity.identify import Identity

__all__ = ["UserScope", "user_scope"]


class UserScope(AbstractContextManager[None]):
    """The result of naming a user; as a context manager it limits the user to a block.

    Args:
        known_as: the id that services send for the user; ``None`` if no user was named.
        request: the request for which the user was named.
        before: the request's previous user, raw user and source; ``None`` if the request was begun
            for this user.
        context: in which the request was begun, and is current; ``None`` if none was begun.
    """

    __slots__ = ("_before", "_context", "_request", "_token", "_within", "known_as")

    def __init__(
        self,
        known_as: str | None = None,
        request: Request | None = None,
        before: tuple[str | None, str, str] | None = None,
        context: Context | None = None,
    ) -> None:
        self.known_as = known_as
        self._request = request
        self._before = before
        self._within: Request | None = None
        self._context = context
        self._token: Token[Context] | None = None if context is None else attach(context)

    def __enter__(self) -> None:
        self._enter()

    @fail_open("user", None)
    def _enter(self) -> None:
        request, before = self._request, self._before
        if request is None or before is None:
            return
        # Spans get their user at export, so spans of the block need a request of their own, and
        # the request outside must have its previous user again.
        self._within = within = replace(request)
        request.user, request.raw_user, request.source = before
        self._context = with_request(within)
        self._token = attach(self._context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    @fail_open("user", None)
    def end(self) -> None:
        """Leave the context that was entered for this user."""
        token, self._token = self._token, None
        context, self._context = self._context, None
        within, self._within = self._within, None
        if token is None:
            return
        was_lost = get_current() is not context
        if detach(token, context) or not was_lost:
            return
        if self._request is not None and within is not None:
            # The block was entered in a copy of the context, as a synchronous dependency's is, so
            # what ran meanwhile ran for the request outside, and for this user.
            self._request.inherit(within)


def user_scope(identity: Identity, current: Request | None, user: object) -> UserScope:
    """Name the acting user of the current request, or of one that begins here.

    Args:
        identity: validates the id and makes the pseudonym.
        current: the running request, if there is one.
        user: the raw id.
    """
    if current is not None and current.call:
        before = (current.user, current.raw_user, current.source)
        return UserScope(identity.name(current, user), current, before)
    request = Request()  # of no server: concurrent tasks must not share it
    known_as = identity.name(request, user)
    if known_as is None:
        return UserScope()
    return UserScope(known_as, request, context=with_request(request))
