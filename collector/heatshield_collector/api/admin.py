"""Who may change breakers and the mode: the holder of the admin token, else people on this machine.

Without a token the peer's address and the ``Host`` it asked for must both be this machine's: the
second, because a web page elsewhere can make a browser here call a name that resolves to 127.0.0.1.
"""

import hmac
import ipaddress
from collections.abc import Callable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from heatshield_collector.api.errors import documented

__all__ = ["REFUSALS", "admin_only", "is_loopback"]

REFUSALS: Final = documented(_401="not the admin token", _403="not from this machine")
"""How a guarded route may refuse, for its documentation."""

HOW_TO: Final = (
    "set one with HEATSHIELD_COLLECTOR_ADMIN_TOKEN or admin_token in [collector] of "
    "heatshield.toml and send it as `Authorization: Bearer <token>`"
)


def admin_only(token: str) -> Callable[[Request], None]:
    """A FastAPI dependency that lets only those through who may change things.

    Args:
        token: the collector's admin token; empty when none is set.

    Raises:
        HTTPException: 401 without the right token, 403 from elsewhere when there is no token.
    """

    def check(request: Request) -> None:
        if token:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), token.encode())
            if scheme.lower() != "bearer" or not right:
                raise HTTPException(
                    401,
                    "this needs the collector's admin token as `Authorization: Bearer <token>`",
                    {"WWW-Authenticate": "Bearer"},
                )
        elif not (_is_local_peer(request) and is_loopback(request.url.hostname)):
            raise HTTPException(
                403, f"without an admin token only this machine may change breakers; {HOW_TO}"
            )

    return check


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


def _is_local_peer(request: Request) -> bool:
    return request.client is not None and is_loopback(request.client.host)
