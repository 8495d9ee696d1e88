"""What an HTTP request says of its caller, for the authenticator."""

from starlette.datastructures import Headers
from starlette.types import Scope

__all__ = ["HttpCaller"]


class HttpCaller:
    """Implements :class:`heatshield_collector.ports.Caller`.

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
