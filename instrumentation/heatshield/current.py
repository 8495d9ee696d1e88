"""The request that runs here and now: its user, its breakable call, its local root span.

One mutable :class:`Request` travels in the OpenTelemetry context of everything a request does, so
that naming the user in a dependency, a worker thread or a child task is seen by all of it. Guards
nest, so their names travel as immutable context values instead.
"""

from dataclasses import dataclass
from typing import Final, cast

from opentelemetry.context import Context, attach, create_key, get_current, set_value
from opentelemetry.trace import INVALID_SPAN, Span

__all__ = ["Request", "call_in", "request_in", "start", "with_guard", "with_request"]

_REQUEST_KEY: Final = create_key("heatshield-request")
_GUARD_KEY: Final = create_key("heatshield-guard")


@dataclass(slots=True, eq=False)
class Request:
    """What this process knows about one request.

    Attributes:
        user: the acting user, a pseudonym if those are in use; ``None`` while unknown.
        call: the server span's name; empty outside of a server.
        span: the server span of this process.
        entered: the handler runs; from here on naming a tripped user raises.
    """

    user: str | None = None
    call: str = ""
    span: Span = INVALID_SPAN
    entered: bool = False


def request_in(context: Context | None = None) -> Request | None:
    """The request of a context, by default the current one."""
    found = (get_current() if context is None else context).get(_REQUEST_KEY)
    return cast("Request | None", found)


def call_in(context: Context | None = None) -> str:
    """The innermost guard's or else the server span's name; empty if there is neither."""
    here = get_current() if context is None else context
    guard = here.get(_GUARD_KEY)
    if guard is not None:
        return cast("str", guard)
    request = cast("Request | None", here.get(_REQUEST_KEY))
    return request.call if request is not None else ""


def with_request(request: Request, context: Context | None = None) -> Context:
    """A context in which ``request`` runs."""
    return set_value(_REQUEST_KEY, request, context)


def with_guard(name: str) -> Context:
    """The current context, inside the guard ``name``."""
    return set_value(_GUARD_KEY, name)


def start() -> Request:
    """Begin a request where no server did, e.g. in a job; it lasts as long as its task or thread."""
    request = Request()
    attach(with_request(request))
    return request
