"""Lets callers through by tokens: one for what services and readers do, others for control.

Where a caller is on the network proves nothing: behind a proxy on this machine every caller is on
loopback. Without a token for services and readers, all that reach the collector may send, enforce
and read; then it must not be reached from elsewhere (:func:`check_reach`), and what a browser here
is made to send is refused (:mod:`heatshield_collector.browser_guard`).
"""

import hmac
from typing import Final

from heatshield import names
from heatshield.call_key import DEFAULT_TENANT
from heatshield.process.loopback import is_loopback
from heatshield.settings import SettingsError
from heatshield_collector.ports import (
    Caller,
    Principal,
    Scope,
    UnauthenticatedError,
)
from heatshield_collector.settings import CollectorSettings

__all__ = ["AdminTokenAuthenticator", "check_reach"]

CONTROL_HOW_TO: Final = (
    "this needs an admin token as `Authorization: Bearer <token>`: the one that `heatshield up` "
    f"left as {names.ADMIN_TOKEN_FILE} in its data folder, where the command line of the same "
    "user finds it by itself, or your own, set with HEATSHIELD_COLLECTOR_ADMIN_TOKEN or as "
    "admin_token in [collector] of heatshield.toml"
)

CALLER_HOW_TO: Final = (
    "this collector requires its token of every caller, as `Authorization: Bearer <token>`; "
    "services send HEATSHIELD_TOKEN, the command line does too"
)

REACH_HOW_TO: Final = (
    "can be reached from other machines, and without a token each of them could read and send "
    "everything. Make one with `openssl rand -hex 32`; set it as HEATSHIELD_COLLECTOR_TOKEN here "
    "and as HEATSHIELD_TOKEN in services"
)

ANY_CALLER: Final = Principal(DEFAULT_TENANT, frozenset(Scope) - {Scope.CONTROL})
ADMIN: Final = Principal(DEFAULT_TENANT, frozenset(Scope))


class AdminTokenAuthenticator:
    """Implements :class:`heatshield_collector.ports.Authenticator`; one tenant, ``default``.

    Args:
        admin_tokens: each lets its holder do everything; empty ones are none.
        token: what callers need for all but health and control; empty: nothing.
    """

    def __init__(self, *admin_tokens: str, token: str = "") -> None:
        self._admin_tokens = [one.encode() for one in admin_tokens if one]
        self._token = token.encode()

    def authenticate(self, caller: Caller, scope: Scope) -> Principal:
        """Let the caller through; for :attr:`Scope.CONTROL` only with an admin token.

        Raises:
            UnauthenticatedError: the caller did not send the token that this needs.
        """
        if not self._token and scope is not Scope.CONTROL:
            return ANY_CALLER
        given = _bearer(caller.authorization)
        if any(hmac.compare_digest(given, one) for one in self._admin_tokens):
            return ADMIN
        if scope is Scope.CONTROL:
            raise UnauthenticatedError(CONTROL_HOW_TO)
        if scope is Scope.HEALTH or hmac.compare_digest(given, self._token):
            return ANY_CALLER
        raise UnauthenticatedError(CALLER_HOW_TO)


def check_reach(settings: CollectorSettings) -> None:
    """Refuse settings that let other machines in without a token.

    Raises:
        SettingsError: says which address, and how to make a token.
    """
    if settings.token:
        return
    for name, address in (("http", settings.http), ("grpc", settings.grpc)):
        if address != "off" and not is_loopback(address.rpartition(":")[0].strip("[]")):
            raise SettingsError(f"{name} = {address} {REACH_HOW_TO}")


def _bearer(authorization: str) -> bytes:
    kind, _, given = authorization.partition(" ")
    return given.strip().encode() if kind.lower() == "bearer" else b""
