"""Who acts: validated, made a pseudonym where a key is set, read from what a request carries."""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from heatshield.current import Request
from heatshield.settings import ServiceSettings

__all__ = ["Identity", "acceptable"]

MAX_USER_LENGTH: Final = 256
"""Characters of a user id; a longer one is not an id but an attack or a mistake."""

MAX_TOKEN_LENGTH: Final = 8_192
"""Characters of a bearer token that are looked at: the usual limit of a header line."""

PSEUDONYM_BYTES: Final = 16
"""128 bits: no two of 10^9 users collide in practice."""

_HEX: Final = frozenset("0123456789abcdef")


def acceptable(user: object) -> str | None:
    """The user id as text, or ``None`` if it can't be one (empty, too long, not printable)."""
    text = user if isinstance(user, str) else str(user) if isinstance(user, int) else ""
    if 0 < len(text) <= MAX_USER_LENGTH and text.isprintable():
        return text
    return None


class Identity:
    """Reads users as the settings say.

    Attributes:
        headers: lower-case names of the request headers that :meth:`from_headers` looks at.

    With a key, every raw id becomes an HMAC-SHA256 pseudonym before anything else sees it; the
    owner of the key can compute whose it is, nobody else can.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._key = settings.user_key.encode()
        self._header = settings.user_header.lower().encode("latin-1", "replace")
        self._path_parameter = settings.user_path_parameter
        self._claim = settings.user_jwt_claim
        self._believe_baggage = settings.user_baggage
        self.headers = frozenset(
            name for name in (self._header, b"authorization" if self._claim else b"") if name
        )

    def known_as(self, user: object) -> str | None:
        """How services call this user on the wire, or ``None`` if the id is not acceptable."""
        text = acceptable(user)
        if text is None or not self._key:
            return text
        digest = hmac.digest(self._key, text.encode(), "sha256")
        return digest[:PSEUDONYM_BYTES].hex()

    def from_baggage(self, value: object) -> str | None:
        """A user that another service named. What is no pseudonym becomes one if a key is set."""
        text = acceptable(value) if self._believe_baggage else None
        if text is None or not self._key or _is_pseudonym(text):
            return text
        return self.known_as(text)

    def name(self, request: Request, user: object) -> str | None:
        """Make ``user`` the acting user of a request; returns how services call this user."""
        known_as = self.known_as(user)
        if known_as is not None:
            request.user = known_as
            request.raw_user = str(user) if self._key else ""
        return known_as

    def from_headers(self, headers: Mapping[bytes, bytes]) -> object:
        """The raw user that a request's headers name, by :attr:`headers`: header, else token."""
        if self._header in headers:
            user = headers[self._header].decode("latin-1").strip()
            if acceptable(user) is not None:
                return user
        if self._claim and b"authorization" in headers:
            return _claim(headers[b"authorization"], self._claim)
        return None

    def from_path(self, path_params: Mapping[str, Any]) -> object:
        """The raw user that a path parameter names."""
        return path_params.get(self._path_parameter) if self._path_parameter else None


def _is_pseudonym(text: str) -> bool:
    return len(text) == 2 * PSEUDONYM_BYTES and _HEX.issuperset(text)


def _claim(authorization: bytes, claim: str) -> object:
    """A claim of a bearer token. The signature is not checked: that is the service's business."""
    scheme, _, token = authorization.partition(b" ")
    parts = token.strip().split(b".")
    if scheme.lower() != b"bearer" or len(parts) != 3 or len(token) > MAX_TOKEN_LENGTH:  # noqa: PLR2004  # header.payload.signature, RFC 7519
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return None
    return payload.get(claim) if isinstance(payload, dict) else None
