"""The request that runs here and now: its user, its breakable call, its local root span.

One mutable :class:`Request` travels in the OpenTelemetry context of everything a request does, so
that naming the user in a dependency, a worker thread or a child task is seen by all of it. Guards
nest, so their names travel as immutable context values instead.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, cast

from opentelemetry.context import Context, create_key, get_current, set_value
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext

from heatshield.identity.acting_user import ActingUser
from heatshield.identity.pseudonym import Alias

__all__ = [
    "GUARD_KEY", "REQUEST_KEY", "Request", "call_in", "latest", "request_in", "with_guard",
    "with_request",
]  # fmt: skip

REQUEST_KEY: Final = create_key("heatshield-request")
GUARD_KEY: Final = create_key("heatshield-guard")


@dataclass(slots=True, eq=False)
class Request(ActingUser):
    """What this process knows about one request: who acts, and what is called.

    Attributes:
        call: the name of the span that the request entered with; empty outside of a server. A
            router may know it only later.
        span: the server span of this process.
        entered: the handler runs; from here on naming a tripped user raises.
        caller: a span that claims to have called this request and is not believed, at an edge.
    """

    call: str = ""
    span: Span = INVALID_SPAN
    entered: bool = False
    caller: SpanContext | None = None

    def enter(self, call: str, span: Span) -> None:
        """Note the span that the request entered this process with."""
        self.call, self.span = call, span
        if self.caller is not None:
            span.add_link(self.caller)

    def inherit(self, outer: "Request") -> None:
        """Act for the user of the request that this one was made within."""
        if self.user is None and outer.user is not None:
            self.user, self.raw_user, self.source = outer.user, outer.raw_user, outer.source
        self.aliases = outer.aliases

    def know(self, alias: Alias) -> None:
        """Have one more id masked in what is said of this request, after its end too."""
        ActingUser.know(self, alias)  # super() does not work in a dataclass with slots
        _latest.set(self)


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
