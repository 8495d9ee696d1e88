"""The request that runs here and now: its user, its breakable call, its local root span.

One mutable :class:`Request` travels in the OpenTelemetry context of everything a request does, so
that naming the user in a dependency, a worker thread or a child task is seen by all of it. Guards
nest, so their names travel as immutable context values instead.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from opentelemetry.context import Context, create_key, get_current, set_value
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext

from heatshield.identity.pseudonym import Alias

__all__ = [
    "GUARD_KEY", "REQUEST_KEY", "Request", "call_in", "latest", "request_in", "with_guard",
    "with_request",
]  # fmt: skip

MAX_ALIASES: Final = 8
"""Users of one request that are remembered to be masked: who acts, on whose page, as whom."""

REQUEST_KEY: Final = create_key("heatshield-request")
GUARD_KEY: Final = create_key("heatshield-guard")


@dataclass(slots=True, eq=False)
class Request:
    """What this process knows about one request.

    Attributes:
        user: the acting user, a pseudonym if those are in use; ``None`` while unknown.
        call: the name of the span that the request entered with; empty outside of a server. A
            router may know it only later.
        span: the server span of this process.
        entered: the handler runs; from here on naming a tripped user raises.
        raw_user: what the pseudonym stands for, where one is in use and this process was told; it
            never leaves the process and is only kept to be masked.
        source: what named the user, one of :data:`heatshield.identity.sources.SOURCES`.
        aliases: of all users it has to do with, as far as their raw ids are known.
        caller: a span that claims to have called this request and is not believed, at an edge.
    """

    user: str | None = None
    call: str = ""
    span: Span = INVALID_SPAN
    entered: bool = False
    raw_user: str = ""
    source: str = ""
    aliases: tuple[Alias, ...] = ()
    caller: SpanContext | None = None

    def enter(self, call: str, span: Span) -> None:
        """Say which span the request entered this process with."""
        self.call, self.span = call, span
        if self.caller is not None:
            span.add_link(self.caller)

    def inherit(self, outer: "Request") -> None:
        """Be on behalf of whoever the request acts for that this one was made within."""
        if self.user is None and outer.user is not None:
            self.user, self.raw_user, self.source = outer.user, outer.raw_user, outer.source
        self.aliases = outer.aliases

    def name(self, alias: Alias, source: str) -> None:
        """Say who acts, where a pseudonym is in use."""
        self.user, self.raw_user, self.source = alias.pseudonym, alias.raw, source
        self.know(alias)

    def know(self, alias: Alias) -> None:
        """Have one more id masked in what is said of this request."""
        if alias.pseudonym == self.user:
            self.raw_user = alias.raw
        if alias not in self.aliases:
            self.aliases = (*self.aliases[-MAX_ALIASES + 1 :], alias)
        _latest.set(self)

    def masked(self, text: str) -> str:
        """``text`` with the raw user ids, however they are written, replaced by pseudonyms."""
        for alias in self._all_aliases():
            text = alias.masked(text)
        return text

    def masked_values(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes with their texts masked, those in lists and mappings too."""
        if not self._all_aliases():
            return attributes if isinstance(attributes, dict) else dict(attributes)
        return {key: self._masked_value(value) for key, value in attributes.items()}

    def _masked_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.masked(value)
        if isinstance(value, tuple):
            return tuple(self._masked_value(item) for item in value)
        return self.masked_values(value) if isinstance(value, Mapping) else value

    def _all_aliases(self) -> tuple[Alias, ...]:
        if self.raw_user and not self.aliases and self.user is not None:
            return (_alias(self.raw_user, self.user),)  # copied from another one
        return self.aliases


_alias: Final = lru_cache(1_024)(Alias)

_latest: ContextVar[Request | None] = ContextVar("heatshield-latest", default=None)


def latest() -> Request | None:
    """The request that this thread or task last named a user for, whether it has ended or not.

    Servers write lines about a request, such as an access log, when its context is gone.
    """
    return _latest.get()


def request_in(context: Context | None = None) -> Request | None:
    """The request of a context, by default the current one."""
    found = (get_current() if context is None else context).get(REQUEST_KEY)
    return cast("Request | None", found)


def call_in(context: Context | None = None) -> str:
    """The innermost guard's or else the server span's name; empty if there is neither."""
    here = get_current() if context is None else context
    guard = here.get(GUARD_KEY)
    if guard is not None:
        return cast("str", guard)
    request = cast("Request | None", here.get(REQUEST_KEY))
    return request.call if request is not None else ""


def with_request(request: Request, context: Context | None = None) -> Context:
    """A context in which ``request`` runs."""
    return set_value(REQUEST_KEY, request, context)


def with_guard(name: str) -> Context:
    """The current context, inside the guard ``name``."""
    return set_value(GUARD_KEY, name)
