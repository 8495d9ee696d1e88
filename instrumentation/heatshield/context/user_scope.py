"""For how long a user acts: from now on, or, in a ``with`` block, until its end.

Named for good, a user belongs to the request that runs; outside of a request, to the thread or task
that named him, which in a pool is the wrong one as soon as it does other work. A block leaves
things as they were.
"""

from contextlib import AbstractContextManager
from contextvars import Token
from dataclasses import replace
from types import TracebackType

from opentelemetry.context import Context, attach, detach

from heatshield.context.request import Request, with_request
from heatshield.counters import fail_open
from heatshield.identity.sources import Identity

__all__ = ["Acting", "acting"]


class Acting(AbstractContextManager[None]):
    """What naming a user returns; a context manager for those who want it to end.

    Args:
        known_as: how services call the user; ``None`` if nobody was named.
        request: that the user was named for.
        before: user, raw user and source that it had; ``None`` if it was begun for this user.
        token: of the context in which it was begun, if it was.
    """

    __slots__ = ("_before", "_request", "_token", "known_as")

    def __init__(
        self,
        known_as: str | None = None,
        request: Request | None = None,
        before: tuple[str | None, str, str] | None = None,
        token: "Token[Context] | None" = None,
    ) -> None:
        self.known_as = known_as
        self._request = request
        self._before = before
        self._token = token

    def __enter__(self) -> None:
        self._enter()

    @fail_open("user", None)
    def _enter(self) -> None:
        request, before = self._request, self._before
        if request is None or before is None:
            return
        # Spans are given their user when they are exported, so those of the block need a request
        # of their own, and the others the user that they had.
        within = replace(request)
        request.user, request.raw_user, request.source = before
        self._token = attach(with_request(within))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    @fail_open("user", None)
    def end(self) -> None:
        """Leave the context that was entered or begun for this user."""
        token, self._token = self._token, None
        if token is not None:
            detach(token)


def acting(identity: Identity, current: Request | None, user: object) -> Acting:
    """Name the acting user of the current request, or of one that begins here.

    Args:
        identity: makes users known.
        current: the request that runs, if one does.
        user: a raw id.
    """
    if current is not None and current.call:
        before = (current.user, current.raw_user, current.source)
        return Acting(identity.name(current, user), current, before)
    request = Request()  # no server's: tasks side by side must not share it
    known_as = identity.name(request, user)
    if known_as is None:
        return Acting()
    return Acting(known_as, request, token=attach(with_request(request)))
