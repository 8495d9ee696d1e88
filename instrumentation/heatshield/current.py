"""The request that runs here and now: its user, its breakable call, its local root span.

One mutable :class:`Request` travels in the OpenTelemetry context of everything a request does, so
that naming the user in a dependency, a worker thread or a child task is seen by all of it. Guards
nest, so their names travel as immutable context values instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote

from opentelemetry.context import Context, attach, create_key, get_current, set_value
from opentelemetry.trace import INVALID_SPAN, Span

__all__ = [
    "GUARD_KEY", "REQUEST_KEY", "Request", "call_in", "request_in", "start", "with_guard",
    "with_request",
]  # fmt: skip

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
            never leaves the process and is only kept to be masked in paths and log lines.
    """

    user: str | None = None
    call: str = ""
    span: Span = INVALID_SPAN
    entered: bool = False
    raw_user: str = ""

    def enter(self, call: str, span: Span) -> None:
        """Say which span the request entered this process with."""
        self.call, self.span = call, span

    def masked(self, text: str) -> str:
        """``text`` with the raw user id, as it is or percent-encoded, replaced by its pseudonym."""
        if not self.raw_user or self.user is None:
            return text
        return text.replace(self.raw_user, self.user).replace(quote(self.raw_user), self.user)

    def masked_values(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes with their texts masked, those in lists and mappings too."""
        return {key: self._masked_value(value) for key, value in attributes.items()}

    def _masked_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.masked(value)
        if isinstance(value, tuple):
            return tuple(self._masked_value(item) for item in value)
        return self.masked_values(value) if isinstance(value, Mapping) else value


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


def start() -> Request:
    """Begin a request where no server did, e.g. in a job; it lasts as its task or thread does."""
    request = Request()
    attach(with_request(request))
    return request
