"""The one place where what leaves for the collector is cleaned: secrets redacted, user ids masked.

Integrations hand over what they saw. Records are cleaned when they are encoded, on the export
thread: by then the acting user is known, also for what was said before the user was named, and no
request waits for it. What is kept encoded is cleaned once.

Three things leave by other ways, and the sanitizer is asked for each:

* A database's statement becomes a shape as soon as it is read, as its shape names the span, and
  what the database's error says is masked then (:meth:`Sanitizer.database_error`).
* Spans that the service's own exporters get, through OpenTelemetry's API, are the service's: its
  own attributes stay as it set them. Of what integrations of heatshield set, the query of an
  address has its secrets redacted (:meth:`Sanitizer.for_other_exporters`), statements are shapes
  already, and :func:`heatshield.tracing.stamp.stamp_user` masks the user in addresses.
* Baggage that goes on to the next service has user ids masked (:meth:`Sanitizer.masked`).
"""

from collections.abc import Iterator, Mapping
from typing import Final, Protocol, TypeVar, cast, overload

from heatshield.identity.acting_user import ActingUser
from heatshield.identity.pseudonym import DISTINCTIVE_LENGTH, is_pseudonym
from heatshield.identity.pseudonym_cache import Aliases
from heatshield.names import (
    CALL,
    COST_BYTES,
    COST_ELEMENTS,
    COST_ROWS,
    ENDUSER_ID,
    FLAGGED,
    REDIS_KEY_PATTERN,
    REJECTED,
    USER_SOURCE,
)  # fmt: skip
from heatshield.sanitize.redaction import STATEMENTS, URL_QUERY, Redaction
from heatshield.sanitize.sql_errors import (
    MAX_MESSAGE,
    is_of_database,
    masked_whole,
    quotes_values,
    without_values,
)
from heatshield.sanitize.sql_errors import masked as without_quoted_values
from heatshield.sanitize.sql_shape import shape_of
from heatshield.settings import ServiceSettings

__all__ = ["SANITIZER", "Sanitizer", "is_ours"]

V = TypeVar("V")

PROTOCOL: Final = frozenset(
    {
        CALL, FLAGGED, REJECTED, USER_SOURCE, COST_BYTES, COST_ELEMENTS, COST_ROWS, "http.route",
        "http.request.method", "http.method", "url.scheme", "http.scheme", "http.flavor",
        "http.status_code", "http.response.status_code", "http.request.body.size",
        "http.response.body.size", "server.port", "net.peer.port",
        "network.protocol.name", "network.protocol.version",
        "network.transport", "network.type", "net.transport", "net.peer.ip", "net.host.ip",
        "client.address", "network.peer.address", "network.local.address",
        "db.system", "db.system.name", "db.operation", "db.operation.name", "db.collection.name",
        "rpc.system", "rpc.service", "rpc.method", "messaging.system", "messaging.operation",
        "code.file.path", "code.function.name", "exception.type", "error.type", "thread.name",
        "telemetry.sdk.language",
    }
)  # fmt: skip
"""Attributes whose values are the code's or a protocol's, and calls' names, by which breakers know
them: a user called ``get`` or ``purchases`` must not change those."""

_VERBATIM: Final = frozenset(
    {CALL, REDIS_KEY_PATTERN, "http.route", "db.collection.name", "exception.type", "error.type"}
)
"""The code's names and patterns, in which no values are: ``/v1/token:refresh`` assigns nothing."""

MAX_CAUSES: Final = 16
"""Errors of a chain that are asked what they say."""

_TYPE: Final = "exception.type"
_MESSAGE: Final = "exception.message"

_AGENTS: Final = frozenset({"user_agent.original", "http.user_agent"})
"""Full of numbers; only ids of the request's own users are looked for in them."""

LEAST_DISTINCTIVE: Final = 10 ** (DISTINCTIVE_LENGTH - 1)
"""The least number that hardly is one by chance."""

_SYSTEMS: Final = ("db.system", "db.system.name")
_NOT_SQL: Final = frozenset({"redis", "memcached", "mongodb", "elasticsearch", "opensearch"})
"""Systems whose instrumentations send no values unless they are told to."""

_OURS: Final = "heatshield."
"""How the scopes of spans of ours begin."""


def is_ours(scope_name: str) -> bool:
    """Whether heatshield made the spans of a scope: their statements are shapes, their names calls.

    A package of somebody else's may have a name that begins like ours.
    """
    return scope_name.startswith(_OURS) or scope_name == "heatshield"


class ScopeLike(Protocol):
    """Which instrumentation made a span."""

    @property
    def name(self) -> str:
        """As its tracer was called."""
        ...


class EncodableSpan(Protocol):
    """A span that is to be encoded."""

    @property
    def name(self) -> str:
        """Low cardinality."""
        ...

    @property
    def call(self) -> str:
        """What it is charged to."""
        ...

    @property
    def raw_attributes(self) -> Mapping[str, object]:
        """Those that were set."""
        ...

    @property
    def instrumentation_scope(self) -> ScopeLike:
        """Which instrumentation made it."""
        ...

    @property
    def request(self) -> ActingUser | None:
        """Whose it is."""
        ...


class Sanitizer:
    """Redacts and masks as the settings say; as long as there are none, it redacts.

    Attributes:
        masking: whether user ids are masked.
    """

    def __init__(self) -> None:
        self._redaction: Redaction | None = Redaction()
        self._aliases: Aliases | None = None
        self.masking = False

    def install(self, settings: ServiceSettings, aliases: Aliases | None) -> None:
        """Do as the settings say from now on, with the users of one runtime."""
        self._redaction = Redaction(settings.redact) if settings.redaction else None
        self._aliases = aliases
        self.masking = aliases is not None

    def remove(self) -> None:
        """Forget settings and users."""
        self._redaction, self._aliases, self.masking = Redaction(), None, False

    # -- secrets ---------------------------------------------------------------------------------

    @property
    def redacts(self) -> bool:
        """Whether secrets, and values in statements, are left out."""
        return self._redaction is not None

    @overload
    def shown(self, name: str, value: str) -> str: ...
    @overload
    def shown(self, name: str, value: object) -> object: ...
    def shown(self, name: str, value: object) -> object:
        """An attribute's value without secrets, and without the values that databases quote."""
        if self._redaction is None or name in _VERBATIM:
            return value
        if name == ENDUSER_ID and isinstance(value, str) and value.isdecimal():
            return value  # it may look like a card's number, and breakers know the user by it
        return self._redaction.value(name, value, without_values)

    def name(self, name: str) -> str:
        """A name without secrets, of an attribute, a logger or a span, as others gave it."""
        return name if self._redaction is None else without_values(self._redaction.text(name))

    def without_message(self, text: str, attributes: Mapping[str, object]) -> str:
        """A status or a log's body that repeats the message of the exception beside it."""
        message = attributes.get(_MESSAGE)
        if not message or self._redaction is None:
            return text
        said = str(message)
        if said not in text or not is_of_database(str(attributes.get(_TYPE, ""))):
            return text
        return text.replace(said, self.database_error(said))

    def noted(
        self, attributes: Mapping[str, object], request: ActingUser | None = None
    ) -> Mapping[str, object]:
        """Attributes of an event or a log record, which may be about a database's error.

        Such an error's message loses its values whatever it says, as its class tells whose it is.
        """
        kind = attributes.get(_TYPE)
        if kind is not None and _MESSAGE in attributes and is_of_database(str(kind)):
            message = self.database_error(str(attributes[_MESSAGE]))
            attributes = {**attributes, _MESSAGE: message}
        return self.attributes(attributes, request)

    def database_error(self, message: str) -> str:
        """What a database's error says, without the values that it quotes."""
        return message[:MAX_MESSAGE] if self._redaction is None else without_quoted_values(message)

    def error_text(self, error: BaseException, text: str) -> str:
        """What ``error`` says, which is ``text``: without values if it is a database's."""
        if self._redaction is None or not quotes_values(error):
            return text
        return without_quoted_values(text)

    def quoting(self, text: str, error: BaseException) -> str:
        """A text that may quote ``error`` and what caused it, without the values of databases.

        A line like ``failed: %s`` does not tell whose message it has; who holds the error knows.
        """
        if self._redaction is None:
            return text
        for cause in _chain(error):
            if quotes_values(cause) and (said := _said(cause)):
                shown = masked_whole(said)
                for form in (said, repr(said)[1:-1]):
                    text = text.replace(form, shown)
        return text

    def for_other_exporters(self, attributes: dict[str, V]) -> dict[str, V]:
        """Attributes as exporters of the service's own get them: no secrets in the query."""
        query = attributes.get(URL_QUERY)
        if self._redaction is None or not isinstance(query, str):
            return attributes
        return {**attributes, URL_QUERY: cast("V", self._redaction.query(query))}

    # -- users -----------------------------------------------------------------------------------

    def text(self, text: str, request: ActingUser | None = None) -> str:
        """A text without secrets and user ids.

        Args:
            text: anything.
            request: that it belongs to, if to any.
        """
        if self._redaction is not None:
            text = without_values(self._redaction.text(text))
        return text if self._aliases is None else self.masked(text, request)

    def masked(self, text: str, request: ActingUser | None = None) -> str:
        """A text without user ids; as it is, if no key is set."""
        if request is not None:
            text = request.masked(text)
        return text if self._aliases is None else self._aliases.masked(text)

    def attributes(
        self, attributes: Mapping[str, object], request: ActingUser | None = None
    ) -> Mapping[str, object]:
        """Attributes without user ids; as they are, if no key is set."""
        if self._aliases is None:
            return attributes
        if request is None or not request.aliases:
            request = self._of(attributes)
        masked = {
            name: value if name in PROTOCOL else self._value(name, value, request)
            for name, value in attributes.items()
        }
        return masked if request is None else self._with_names_masked(masked, request)

    def of_span(self, span: EncodableSpan) -> Mapping[str, object]:
        """The attributes of a span, ours or not, without user ids and SQL literals."""
        attributes = span.raw_attributes
        if self._redaction is not None and not is_ours(span.instrumentation_scope.name):
            attributes = _with_shapes(attributes)
        if self._aliases is None:
            return attributes
        return self.attributes(attributes, span.request)

    def name_of(self, span: EncodableSpan) -> str:
        """The name of a span; that of a call is the code's, and so is a verb."""
        name = span.name
        if self._aliases is None or name == span.call or name.isupper():
            return name
        return self.masked(name, span.request)

    def _with_names_masked(
        self, attributes: dict[str, object], request: ActingUser
    ) -> dict[str, object]:
        """A log record may have fields named after users. The name as it came tells a secret."""
        names = "\n".join(attributes).lower()
        if not any(alias.lowered in names for alias in request.aliases):
            return attributes
        return {
            name if name in PROTOCOL else request.masked(name): self.shown(name, value)
            for name, value in attributes.items()
        }

    def _of(self, attributes: Mapping[str, object]) -> ActingUser | None:
        """Whose a span of the service's own provider is, which does not know its request."""
        known_as = attributes.get(ENDUSER_ID)
        alias = None
        if self._aliases is not None and isinstance(known_as, str):
            alias = self._aliases.known_as(known_as)
        return None if alias is None else ActingUser(user=alias.pseudonym, aliases=(alias,))

    def _value(self, name: str, value: object, request: ActingUser | None) -> object:
        if type(value) is str:
            if name in _AGENTS:
                return value if request is None else request.masked(value)
            return self.masked(value, request)
        if type(value) is int:
            return self._number(name, value, request)
        return self._inside(name, value, request)

    def _inside(self, name: str, value: object, request: ActingUser | None) -> object:
        if isinstance(value, tuple):
            return tuple(self._value(name, item, request) for item in value)
        if isinstance(value, bytes):
            return self.masked(value.decode("latin-1"), request).encode("latin-1")
        if not isinstance(value, dict):
            return value
        return {
            self.masked(key, request): self._value(key, item, request)
            for key, item in value.items()
        }

    def _number(self, name: str, value: int, request: ActingUser | None) -> object:
        """An id may be a number, and a number may be anything: so the name has a say, too."""
        folded = name.lower()
        if folded.endswith("id") or "user" in folded:
            masked = self.masked(str(value), request)
        elif value >= LEAST_DISTINCTIVE and request is not None:
            masked = request.masked(str(value))
        else:
            return value
        return masked if is_pseudonym(masked) else value


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, those that a group holds, and what caused each: few, as a circle is possible."""
    waiting: list[BaseException | None] = [error]
    for _ in range(MAX_CAUSES):
        if not waiting:
            return
        found = waiting.pop(0)
        if found is not None:
            yield found
            waiting += [found.__cause__ or found.__context__]
            if isinstance(found, BaseExceptionGroup):
                waiting += found.exceptions[:MAX_CAUSES]


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # its __str__ is the service's
        return ""


def _with_shapes(attributes: Mapping[str, object]) -> Mapping[str, object]:
    for name in STATEMENTS:
        statement = attributes.get(name)
        if isinstance(statement, str):
            system = str(attributes.get(_SYSTEMS[0]) or attributes.get(_SYSTEMS[1]) or "")
            if system in _NOT_SQL:
                return attributes
            return {**attributes, name: shape_of(statement, system).text}
    return attributes


SANITIZER: Final = Sanitizer()
"""This process's."""
