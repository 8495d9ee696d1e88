"""What an HTTP request says of its caller, for the authenticator."""

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

__all__ = ["HttpCaller"]


class HttpCaller:
    """Implements :class:`heatshield_collector.ports.Caller`; looks up only what is asked for.

    Args:
        scope: of the request, as ASGI has it.
    """

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    @property
    def authorization(self) -> str:
        """The ``Authorization`` header; empty without one."""
        return Headers(scope=self._scope).get("authorization", "")

    @property
    def peer(self) -> str | None:
        """The address at the other end of the connection."""
        client = HTTPConnection(self._scope).client
        return client.host if client else None

    @property
    def host(self) -> str | None:
        """The name in the ``Host`` header."""
        return HTTPConnection(self._scope).url.hostname
