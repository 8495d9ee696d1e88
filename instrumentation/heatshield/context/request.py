"""The request that runs in the current context: its user, its breakable call, its server span.

One mutable :class:`Request` travels in the OpenTelemetry context of all work for a request, so
that all of it sees a user that a dependency, a worker thread or a child task names. Guards nest,
so their names travel as immutable context values instead.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, cast

from opentelemetry.context import Context, create_key, get_current, set_value
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext

from heatshield.identity.acting_user import ActingUser
from heatshield.identity.pseudonym import Alias
from heatshield.rejection import BreakerOpen

__all__ = [
    "GUARD_KEY", "REQUEST_KEY", "Request", "call_in", "forget", "latest", "note_refusal",
    "request_in", "with_guard", "with_request",
]  # fmt: skip

REQUEST_KEY: Final = create_key("heatshield-request")
GUARD_KEY: Final = create_key("heatshield-guard")


@dataclass(slots=True, eq=False)
class Request(ActingUser):
    """The state of one request in this process: its acting user and its call.

    Attributes:
        call: the name of the server span; empty outside of a server. A router may set it only
            after the request has entered.
        span: the server span of this process.
        entered: whether the handler runs; from then on naming a tripped user raises.
        caller: at an edge, the span that an untrusted caller claims.
        refused_below: how the last call to another service that failed was refused there; ``None``
            if it just failed. An answer that only passes it on is no failure of this service.
        counted: the entries and declared limits that have counted it, by their keys; ``None``:
            none has. Routers, mounts and guards ask for one request more than once.
        in_line: whether it waits for its turn, as its user is paced.
        waited_s: for how long it has waited so. That is no cost.
        open_call: what it costs here, as :mod:`heatshield.charges` notes it.
    """

    call: str = ""
    span: Span = INVALID_SPAN
    entered: bool = False
    caller: SpanContext | None = None
    refused_below: BreakerOpen | None = None
    counted: set[str] | None = None
    in_line: bool = False
    waited_s: float = 0.0
    open_call: object | None = None

    def enter(self, call: str, span: Span) -> None:
        """Set the call and the server span with which the request enters this process."""
        is_known, self.call, self.span = self.span is span, call, span
        if self.caller is not None and not is_known:
            span.add_link(self.caller)

    def inherit(self, outer: "Request") -> None:
        """Take the user of the outer request, unless this one has a user."""
        if self.user is None and outer.user is not None:
            self.user, self.raw_user, self.source = outer.user, outer.raw_user, outer.source
        self.aliases = outer.aliases

    def know(self, alias: Alias) -> None:
        """Mask one more id in the telemetry of this request, also after its end."""
        ActingUser.know(self, alias)  # super() does not work in a dataclass with slots
        _latest.set(self)


_latest: ContextVar[Request | None] = ContextVar("heatshield-latest", default=None)


def latest() -> Request | None:
    """The request for which this thread or task last named a user, even if it has ended.

    Servers write lines about a request, such as its access log, after its context has ended.
    """
    return _latest.get()


def forget(request: Request) -> None:
    """Have a request be no longer the latest of this thread, which goes on to other work."""
    if _latest.get() is request:
        _latest.set(None)


def request_in(context: Context | None = None) -> Request | None:
    """The request of a context, by default the current one."""
    found = (get_current() if context is None else context).get(REQUEST_KEY)
    return cast("Request | None", found)


def note_refusal(refusal: BreakerOpen | None) -> None:
    """Note how a call that the current request has made was refused; ``None``: it just failed."""
    request = request_in()
    if request is not None:
        request.refused_below = refusal


def call_in(context: Context | None = None) -> str:
    """The name of the innermost guard, else of the server span; empty without either."""
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
    """The current context, extended by the guard ``name``."""
    return set_value(GUARD_KEY, name)
