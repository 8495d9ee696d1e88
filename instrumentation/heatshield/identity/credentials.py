"""Reads users from tokens, cookies, queries and frameworks' objects: pure. A find may be no id."""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes
from uuid import UUID

__all__ = [
    "claim_in",
    "cookie_in",
    "header_bytes",
    "ids_of",
    "pairs_in",
    "parameters_in",
    "text_of",
]

MAX_LENGTH: Final = 8_192
"""Bytes of a token, cookie header or query that are read: the usual limit of a header line."""

USER_ATTRIBUTES: Final = ("pk", "id", "identity", "username", "display_name")
"""Attributes in which frameworks' users have their ids: Django's, ORMs', Starlette's, others'."""

USER_KEYS: Final = ("sub", *USER_ATTRIBUTES)
"""Keys in which users that are mappings have them, such as the claims of a verified token."""


def text_of(value: bytes) -> str:
    """The text of a header, cookie or query: UTF-8, as nearly all clients write, else Latin-1.

    Each value has a text, and no two have the same but for what both encodings can say.
    """
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def header_bytes(text: str) -> bytes:
    """The bytes of a header that a library has decoded: WSGI as Latin-1, others as UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def claim_in(authorization: bytes, claim: str) -> object:
    """A claim of a bearer token. The service checks the signature; heatshield does not."""
    scheme, _, token = authorization.partition(b" ")
    parts = token.strip().split(b".")
    if scheme.lower() != b"bearer" or len(parts) != 3 or len(token) > MAX_LENGTH:  # noqa: PLR2004  # header.payload.signature, RFC 7519
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return None
    return payload.get(claim) if isinstance(payload, dict) else None


def cookie_in(cookies: bytes, wanted: bytes) -> str | None:
    """The value of a cookie; the first, if there are several of that name."""
    for cookie in cookies[:MAX_LENGTH].split(b";"):
        name, _, value = cookie.partition(b"=")
        if name.strip() == wanted:
            return text_of(unquote_to_bytes(value.strip().strip(b'"')))
    return None


def parameters_in(query: bytes, wanted: str) -> Iterator[str]:
    """The values of a parameter of a query string."""
    raw = wanted.encode()
    for name, value in _split(query):
        if name == raw or (b"%" in name and _unquoted(name) == wanted):
            yield _unquoted(value)


def pairs_in(query: bytes) -> Iterator[tuple[str, str]]:
    """The parameters of a query string."""
    return ((_unquoted(name), _unquoted(value)) for name, value in _split(query))


def _unquoted(value: bytes) -> str:
    return text_of(unquote_to_bytes(value.replace(b"+", b" ")))


def _split(query: bytes) -> Iterator[tuple[bytes, bytes]]:
    for pair in query[:MAX_LENGTH].split(b"&"):
        name, _, value = pair.partition(b"=")
        yield name, value


def ids_of(user: object) -> Iterator[object]:
    """Candidates for the id of a framework's user, the likeliest first; none if it is anonymous.

    Args:
        user: an id (WSGI's ``REMOTE_USER``), a mapping, or an object: Starlette's
            ``scope["user"]``, Django's ``request.user``.
    """
    if isinstance(user, Mapping):
        yield from (user.get(name) for name in USER_KEYS)
    elif isinstance(user, str | int | UUID):
        yield user
    elif getattr(user, "is_authenticated", True):
        yield from (_attribute(user, name) for name in USER_ATTRIBUTES)


def _attribute(user: object, name: str) -> object:
    try:
        return getattr(user, name, None)
    except Exception:  # noqa: BLE001  # Starlette's users raise for attributes they lack
        return None
