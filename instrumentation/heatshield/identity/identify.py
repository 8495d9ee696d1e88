"""Finds the acting user of a request, validates the id, makes it a pseudonym where a key is set.

A request may name a user in several places. The more credible one wins, whenever it comes:

1. ``code``: the service called :func:`heatshield.user`, after its own checks.
2. ``auth``: the framework has authenticated this user.
3. ``header``: the operator has set which header names the user; a proxy that checks users sets it.
4. ``baggage``: another service named the user, by this same order.
5. ``jwt-unverified``: a token's claim. Its signature is not checked, so any client can forge one.
6. ``cookie``, 7. ``query``: just as easily forged.
8. ``path``: names the owner of a page, who need not be the acting user.

The last four may be false; docs/identity.md says what a service at the edge does about that.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, NamedTuple
from uuid import UUID

from heatshield.counters import fail_open
from heatshield.identity.acting_user import ActingUser
from heatshield.identity.credentials import (
    claim_in,
    cookie_in,
    ids_of,
    pairs_in,
    parameters_in,
    text_of,
)
from heatshield.identity.pseudonym import is_pseudonym
from heatshield.identity.pseudonym_cache import Aliases
from heatshield.identity.wire_id import wire_id
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
"""Places that name users, the most credible first."""

_RANKS: Final = {source: rank for rank, source in enumerate(SOURCES)} | {"": len(SOURCES)}

MAX_RAW_LENGTH: Final = 8_192
"""Characters of a raw id that are kept to be masked: the usual limit of a header line. Of a longer
one, which code alone can name, only the hash is known."""

MAX_TRIED: Final = 8
"""Parameters of a request that are compared with its user's pseudonym, at 2 µs each."""


class Found(NamedTuple):
    """A user that a request names.

    Attributes:
        user: the raw id, however long or odd.
        source: where.
    """

    user: str
    source: str


def acceptable(user: object) -> str | None:
    """The raw user id as text; ``None`` if it is empty or no id at all.

    An id that is too long or not printable is one nevertheless, or its user could not be cut; on
    the wire it stands hashed (:func:`~heatshield.identity.wire_id.wire_id`).
    """
    if isinstance(user, str):
        text = user
    elif isinstance(user, int | UUID) and not isinstance(user, bool):
        text = str(user)
    else:
        return None
    if len(text) > MAX_RAW_LENGTH:
        return wire_id(text)
    return text or None


class Identity:
    """Reads users as the settings say, and names them on requests.

    With a key, every raw id becomes an HMAC-SHA256 pseudonym before anything else sees it; only the
    owner of the key can compute which id a pseudonym stands for.

    Attributes:
        headers: lower-case names of the request headers that :meth:`on_entry` looks at.
        reads_query: whether it looks at the query.
        reads_route: whether :meth:`on_route` looks at anything.
        aliases: of users seen lately; ``None`` where no key is set.
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
        """The user's id or pseudonym on the wire; ``None`` if the id is not acceptable."""
        text = acceptable(user)
        if text is None:
            return None
        return wire_id(text) if self.aliases is None else self.aliases.of(text).pseudonym

    def name(self, request: ActingUser, user: object) -> str | None:
        """Make ``user`` the acting user of a request, unless a more credible place has named one.

        Args:
            request: the request.
            user: a raw id that the service's code names, or the result of a ``from_`` method.

        Returns:
            The acting user as on the wire; ``None`` if ``user`` is not acceptable as one.
        """
        source = CODE
        if type(user) is Found:
            user, source = user
        text = acceptable(user)
        return None if text is None else self._name(request, text, source)

    def _name(self, request: ActingUser, text: str, source: str) -> str | None:
        believed = request.user is None or _RANKS[source] <= _RANKS[request.source]
        if self.aliases is None:
            if believed:
                request.user, request.source = wire_id(text), source
        elif believed:
            request.name(self.aliases.of(text), source)
        else:
            request.know(self.aliases.of(text))
        return request.user

    @fail_open("identity", None)
    def on_entry(
        self, request: ActingUser, headers: Mapping[bytes, bytes], query: bytes = b""
    ) -> str | None:
        """Name the user as a request comes in, by its headers, cookies and query.

        Args:
            request: the request.
            headers: by lower-case names; those of :attr:`headers` are enough.
            query: of its address, without the question mark.

        Returns:
            As :meth:`name`.
        """
        known_as = None
        user = self._header_user(headers)
        if user is not None:
            known_as = self._name(request, user, HEADER)
        elif self.aliases is not None or _RANKS[request.source] > _RANKS[BAGGAGE]:
            found = self._found_in(headers)
            known_as = None if found is None else self._name(request, *found)
        if not query:
            return known_as
        if self._query:
            found = self.from_query(query)
            known_as = (None if found is None else self._name(request, *found)) or known_as
        if self.aliases is not None:
            self._recognise(request, (value for _, value in pairs_in(query)))
        return known_as

    @fail_open("identity", None)
    def on_route(
        self, request: ActingUser, path_params: Mapping[str, object], user: object = None
    ) -> str | None:
        """Name the user once the route is known and the framework has authenticated a user.

        Args:
            request: the request.
            path_params: by name.
            user: the framework's, as :meth:`from_scope` takes it.

        Returns:
            As :meth:`name`.
        """
        known_as = None
        if self._path_parameter:
            found = self.from_path(path_params)
            known_as = None if found is None else self._name(request, *found)
        if self._scope and user is not None:
            found = self.from_scope(user)
            known_as = (None if found is None else self._name(request, *found)) or known_as
        if self.aliases is not None:
            self._recognise(request, path_params.values())
        return known_as

    def _recognise(self, request: ActingUser, texts: Iterable[object]) -> None:
        """Find the id behind a pseudonym that another service has named.

        A service that knows only the pseudonym must still mask the id in its own addresses.
        """
        if self.aliases is None or request.user is None or request.raw_user:
            return
        for one in islice(texts, MAX_TRIED):
            text = acceptable(one)
            alias = None if text is None else self.aliases.standing_for(text, request.user)
            if alias is not None:
                request.know(alias)
                return

    # -- reading ---------------------------------------------------------------------------------

    def from_headers(self, headers: Mapping[bytes, bytes]) -> Found | None:
        """The user that headers name, by :attr:`headers`: the header, else a token, a cookie."""
        user = self._header_user(headers)
        return self._found_in(headers) if user is None else Found(user, HEADER)

    def _header_user(self, headers: Mapping[bytes, bytes]) -> str | None:
        if not self._header or self._header not in headers:
            return None
        return acceptable(text_of(headers[self._header]).strip())

    def _found_in(self, headers: Mapping[bytes, bytes]) -> Found | None:
        if self._claim and b"authorization" in headers:
            user = acceptable(claim_in(headers[b"authorization"], self._claim))
            if user is not None:
                return Found(user, TOKEN)
        if self._cookie and b"cookie" in headers:
            user = acceptable(cookie_in(headers[b"cookie"], self._cookie))
            if user is not None:
                return Found(user, COOKIE)
        return None

    def from_query(self, query: bytes) -> Found | None:
        """The user that a query string names; the first, if it names several."""
        if not self._query:
            return None
        return _first(parameters_in(query, self._query), QUERY)

    def from_path(self, path_params: Mapping[str, object]) -> Found | None:
        """The user that a path parameter names."""
        if not self._path_parameter:
            return None
        user = acceptable(path_params.get(self._path_parameter))
        return None if user is None else Found(user, PATH)

    @fail_open("identity", None)
    def from_scope(self, user: object) -> Found | None:
        """The user that a framework has authenticated, as :func:`ids_of` reads it."""
        if not self._scope or user is None:
            return None
        return _first(ids_of(user), AUTH)

    def from_baggage(self, value: object) -> str | None:
        """A user that another service named. What is no pseudonym becomes one if a key is set."""
        text = acceptable(value) if self._believe_baggage else None
        return text if text is None or is_pseudonym(text) else self.known_as(text)


def _first(users: Iterable[object], source: str) -> Found | None:
    good = (text for user in users if (text := acceptable(user)) is not None)
    return next((Found(text, source) for text in good), None)
