"""Lets callers through by one admin token: all may read, send and enforce, its holder may control.

Without a token, callers on this machine may control: then the peer's address and the ``Host`` it
asked for must both be this machine's. The second, because a web page elsewhere can make a browser
here call a name that resolves to 127.0.0.1.
"""

import hmac
import ipaddress
from typing import Final

from heatshield.call_key import DEFAULT_TENANT
from heatshield_collector.ports import (
    Caller,
    ForbiddenError,
    Principal,
    Scope,
    UnauthenticatedError,
)

__all__ = ["AdminTokenAuthenticator", "is_loopback"]

HOW_TO: Final = (
    "set one with HEATSHIELD_COLLECTOR_ADMIN_TOKEN or admin_token in [collector] of "
    "heatshield.toml and send it as `Authorization: Bearer <token>`"
)

ANY_CALLER: Final = Principal(DEFAULT_TENANT, frozenset(Scope) - {Scope.CONTROL})
ADMIN: Final = Principal(DEFAULT_TENANT, frozenset(Scope))


class AdminTokenAuthenticator:
    """Implements :class:`heatshield_collector.ports.Authenticator`; one tenant, ``default``.

    Args:
        token: the collector's admin token; empty when none is set.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token.encode()

    def authenticate(self, caller: Caller, scope: Scope) -> Principal:
        """Let the caller through, for :attr:`Scope.CONTROL` only with the token or from here.

        Raises:
            UnauthenticatedError: a token is set, and the caller did not send it.
            ForbiddenError: no token is set, and the caller is on another machine.
        """
        if scope is not Scope.CONTROL:
            return ANY_CALLER
        if self._token:
            kind, _, given = caller.authorization.partition(" ")
            right = hmac.compare_digest(given.strip().encode(), self._token)
            if kind.lower() != "bearer" or not right:
                raise UnauthenticatedError(
                    "this needs the collector's admin token as `Authorization: Bearer <token>`"
                )
        elif not (is_loopback(caller.peer) and is_loopback(caller.host)):
            raise ForbiddenError(
                f"without an admin token only this machine may change breakers; {HOW_TO}"
            )
        return ADMIN


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine's own, without asking a resolver."""
    if host is None:
        return False
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
