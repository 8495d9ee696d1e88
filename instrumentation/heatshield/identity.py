"""Who acts: read from what a request carries, validated, made a pseudonym where a key is set.

Several things may name a user. The more believable one wins, whenever it comes:

1. ``code``: the service said it by :func:`heatshield.user`; it has checked whatever it checks.
2. ``auth``: the framework's own authentication has let this user in.
3. ``header``: the operator has set which header names the user; a proxy that checks users sets it.
4. ``baggage``: another service named the user, by this same order, and is believed.
5. ``jwt-unverified``: a token's claim. Its signature is not checked, so anybody can write one.
6. ``cookie``, 7. ``query``: just as easily written by anybody.
8. ``path``: says whose page it is, which need not be who acts.

What of the last four is true is for the service to know; docs/identity.md says what an edge does.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, unquote_plus
from uuid import UUID

from heatshield.aliases import Aliases
from heatshield.counters import fail_open
from heatshield.current import Request
from heatshield.pseudonyms import is_pseudonym
from heatshield.settings import ServiceSettings

__all__ = ["BAGGAGE", "SOURCES", "Found", "Identity", "acceptable"]

CODE: Final = "code"
AUTH: Final = "auth"
HEADER: Final = "header"
BAGGAGE: Final = "baggage"
TOKEN: Final = "jwt-unverified"  # noqa: S105  # where a user is read from, no secret
COOKIE: Final = "cookie"
QUERY: Final = "query"
PATH: Final = "path"

SOURCES: Final = (CODE, AUTH, HEADER, BAGGAGE, TOKEN, COOKIE, QUERY, PATH)
"""What names users, the most believable first."""

_RANKS: Final = {source: rank for rank, source in enumerate(SOURCES)} | {"": len(SOURCES)}

MAX_USER_LENGTH: Final = 256
"""Characters of a user id; a longer one is not an id but an attack or a mistake."""

MAX_CARRIER_LENGTH: Final = 8_192
"""Bytes of a token, cookie header or query that are looked at: the usual limit of a header line."""

MAX_TRIED: Final = 8
"""Parameters of a request that are tried for whether a pseudonym stands for them, 2 µs each."""

USER_ATTRIBUTES: Final = ("pk", "id", "identity", "username", "display_name")
"""Where users of frameworks have their ids: Django, ORMs, Starlette, others."""


class Found(NamedTuple):
    """A user that a request names.

    Attributes:
        user: as it came; it may be no id at all.
        source: what names the user.
    """

    user: object
    source: str


def acceptable(user: object) -> str | None:
    """The user id as text, or ``None`` if it can't be one (empty, too long, not printable)."""
    if isinstance(user, str):
        text = user
    elif isinstance(user, int | UUID) and not isinstance(user, bool):
        text = str(user)
    else:
        return None
    return text if 0 < len(text) <= MAX_USER_LENGTH and text.isprintable() else None


class Identity:
    """Reads users as the settings say, and names them.

    With a key, every raw id becomes an HMAC-SHA256 pseudonym before anything else sees it; the
    owner of the key can compute whose it is, nobody else can.

    Attributes:
        headers: lower-case names of the request headers that :meth:`on_entry` looks at.
        reads_query: whether it looks at the query.
        reads_route: whether :meth:`on_route` looks at anything.
        aliases: of the users seen lately; ``None`` where no key is set.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.aliases = Aliases(settings.user_key.encode()) if settings.user_key else None
        self._header = settings.user_header.lower().encode("latin-1", "replace")
        self._claim = settings.user_jwt_claim
        self._cookie = settings.user_cookie.encode("latin-1", "replace")
        self._query = settings.user_query
        self._path_parameter = settings.user_path_parameter
        self._scope = settings.user_scope
        self._believe_baggage = settings.user_baggage
        authorization = b"authorization" if self._claim else b""
        names = (self._header, authorization, b"cookie" if self._cookie else b"")
        self.headers = frozenset(name for name in names if name)
        self.reads_query = bool(self._query or self.aliases)
        self.reads_route = bool(self._path_parameter or self._scope or self.aliases)

    # -- naming ----------------------------------------------------------------------------------

    def known_as(self, user: object) -> str | None:
        """How services call this user on the wire, or ``None`` if the id is not acceptable."""
        text = acceptable(user)
        if text is None or self.aliases is None:
            return text
        return self.aliases.of(text).pseudonym

    def name(self, request: Request, user: object) -> str | None:
        """Make ``user`` the acting user of a request, if nothing more believable has named one.

        Args:
            request: whose user it is.
            user: a raw id that the service's code names, or what a ``from_`` method has found.

        Returns:
            How services call the acting user; ``None`` if ``user`` is not acceptable as one.
        """
        source = CODE
        if type(user) is Found:
            user, source = user
        text = acceptable(user)
        if text is None:
            return None
        believed = request.user is None or _RANKS[source] <= _RANKS[request.source]
        if self.aliases is not None:
            alias = self.aliases.of(text)
            if believed:
                request.name(alias, source)
            else:
                request.know(alias)
        elif believed:
            request.user, request.source = text, source
        return request.user

    @fail_open("identity", None)
    def on_entry(
        self, request: Request, headers: Mapping[bytes, bytes], query: bytes = b""
    ) -> str | None:
        """Name the user as a request comes in, by its headers, cookies and query.

        Args:
            request: that came in.
            headers: by lower-case names; those of :attr:`headers` are enough.
            query: of its address, without the question mark.

        Returns:
            As :meth:`name`.
        """
        known_as = None
        if self.aliases is not None or request.user is None or self._header in headers:
            found = self.from_headers(headers)
            known_as = None if found is None else self.name(request, found)
        if not query:
            return known_as
        if self._query and (self.aliases is not None or request.user is None):
            found = self.from_query(query)
            known_as = (None if found is None else self.name(request, found)) or known_as
        if self.aliases is not None:
            self._recognise(request, (value for _, value in _pairs(query)))
        return known_as

    @fail_open("identity", None)
    def on_route(
        self, request: Request, path_params: Mapping[str, Any], user: object = None
    ) -> str | None:
        """Name the user once the route is known, and the framework has authenticated whom it does.

        Args:
            request: that goes to the route's handler.
            path_params: by name.
            user: the framework's, as :meth:`from_scope` takes it.

        Returns:
            As :meth:`name`.
        """
        known_as = None
        if self._path_parameter:
            found = self.from_path(path_params)
            known_as = None if found is None else self.name(request, found)
        if self._scope and user is not None:
            found = self.from_scope(user)
            known_as = (None if found is None else self.name(request, found)) or known_as
        if self.aliases is not None:
            self._recognise(request, path_params.values())
        return known_as

    def _recognise(self, request: Request, texts: Iterable[object]) -> None:
        """Where another service has named a pseudonym, find the id that it stands for.

        A service that was only told the pseudonym must still mask the id in its own addresses.
        """
        if self.aliases is None or request.user is None or request.raw_user:
            return
        for one in islice(texts, MAX_TRIED):
            text = acceptable(one)
            alias = None if text is None else self.aliases.standing_for(text, request.user)
            if alias is not None:
                request.raw_user = alias.raw
                request.know(alias)
                return

    # -- reading ---------------------------------------------------------------------------------

    def from_headers(self, headers: Mapping[bytes, bytes]) -> Found | None:
        """The user that headers name, by :attr:`headers`: the header, else a token, a cookie."""
        if self._header in headers:
            user = headers[self._header].decode("latin-1").strip()
            if acceptable(user) is not None:
                return Found(user, HEADER)
        if self._claim and b"authorization" in headers:
            claimed = _claim(headers[b"authorization"], self._claim)
            if acceptable(claimed) is not None:
                return Found(claimed, TOKEN)
        if self._cookie and b"cookie" in headers:
            return _in_cookies(headers[b"cookie"], self._cookie)
        return None

    def from_query(self, query: bytes) -> Found | None:
        """The user that a query string names; the first, if it names several."""
        if not self._query:
            return None
        named = (value for name, value in _pairs(query) if name == self._query)
        return next((Found(value, QUERY) for value in named if value), None)

    def from_path(self, path_params: Mapping[str, Any]) -> Found | None:
        """The user that a path parameter names."""
        if not self._path_parameter:
            return None
        user = path_params.get(self._path_parameter)
        return None if user is None else Found(user, PATH)

    @fail_open("identity", None)
    def from_scope(self, user: Any) -> Found | None:
        """The user that a framework has authenticated, whatever it makes users of.

        Args:
            user: an id (WSGI's ``REMOTE_USER``), a mapping, or an object: Starlette's
                ``scope["user"]``, Django's ``request.user``. Its first acceptable attribute of
                :data:`USER_ATTRIBUTES` counts.
        """
        if not self._scope or user is None:
            return None
        if acceptable(user) is not None:
            return Found(user, AUTH)
        if isinstance(user, Mapping):
            ids = (user.get(name) for name in ("sub", *USER_ATTRIBUTES))
        elif not getattr(user, "is_authenticated", True):
            return None
        else:
            ids = (_attribute(user, name) for name in USER_ATTRIBUTES)
        return next((Found(one, AUTH) for one in ids if acceptable(one) is not None), None)

    def from_baggage(self, value: object) -> str | None:
        """A user that another service named. What is no pseudonym becomes one if a key is set."""
        text = acceptable(value) if self._believe_baggage else None
        if text is None or self.aliases is None or is_pseudonym(text):
            return text
        return self.known_as(text)


def _attribute(user: Any, name: str) -> Any:
    try:
        return getattr(user, name, None)
    except Exception:  # noqa: BLE001  # Starlette's users raise for what they don't have
        return None


def _pairs(query: bytes) -> Iterator[tuple[str, str]]:
    for pair in query[:MAX_CARRIER_LENGTH].decode("latin-1").split("&"):
        name, _, value = pair.partition("=")
        yield unquote_plus(name), unquote_plus(value)


def _in_cookies(cookies: bytes, wanted: bytes) -> Found | None:
    for cookie in cookies[:MAX_CARRIER_LENGTH].split(b";"):
        name, _, value = cookie.partition(b"=")
        if name.strip() == wanted:
            return Found(unquote(value.strip().strip(b'"').decode("latin-1")), COOKIE)
    return None


def _claim(authorization: bytes, claim: str) -> object:
    """A claim of a bearer token. The signature is not checked: that is the service's business."""
    scheme, _, token = authorization.partition(b" ")
    parts = token.strip().split(b".")
    if scheme.lower() != b"bearer" or len(parts) != 3 or len(token) > MAX_CARRIER_LENGTH:  # noqa: PLR2004  # header.payload.signature, RFC 7519
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return None
    return payload.get(claim) if isinstance(payload, dict) else None
