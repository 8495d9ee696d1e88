"""Reads and writes the headers that carry trace and user: W3C trace context, baggage and B3.

In: ``traceparent`` wins over B3, so a mesh that sends both yields one trace; 64-bit B3 ids are
padded. Baggage is capped before it is parsed, its members are validated, and the user is taken
out of it. An edge trusts no header, but links the new trace to the caller's span, as OpenTelemetry
asks of a trace that begins anew. Out: W3C, baggage with the user, and B3, to the hosts that the
settings allow. On what goes out these headers are heatshield's alone: a gateway that copies its
caller's headers must not hand on whom a stranger named, so they are dropped first, and then set.
"""

import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from opentelemetry.baggage import get_all, set_baggage
from opentelemetry.context import Context, get_current
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import SpanContext, get_current_span, set_span_in_context

from heatshield.context.allowed_hosts import AllowedHosts
from heatshield.context.request import Request, request_in, with_request
from heatshield.context.span_like import RemoteSpan, ids_of, is_sampled
from heatshield.counters import COUNTERS
from heatshield.identity.credentials import header_bytes, text_of
from heatshield.identity.identify import BAGGAGE, Identity
from heatshield.names import ENDUSER_ID
from heatshield.sanitize.sanitizer import SANITIZER

__all__ = ["HEADERS", "Inbound", "RequestPropagator", "is_propagation_field"]

MAX_BAGGAGE_BYTES: Final = 8_192
MAX_BAGGAGE_MEMBERS: Final = 64
"""W3C's limits; unbounded baggage has been a way to exhaust services."""

MAX_STATE_LENGTH: Final = 512
"""Characters of ``tracestate`` that W3C requires to be handed on."""

HEADERS: Final = (
    "traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled",
)  # fmt: skip
"""The headers that :meth:`RequestPropagator.read` reads."""

_FIELDS: Final[frozenset[object]] = frozenset(
    form for name in (*HEADERS, "x-b3-parentspanid", "x-b3-flags") for form in (name, name.encode())
)

_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]([0-9a-f])(-.*)?"
)
_B3_SINGLE: Final = re.compile(r"([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(-.*)?")
_TRACE_ID: Final = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
"""A baggage key: a token of RFC 7230."""

_NOWHERE: Final = (0, 0)
_NO_PARENT: Final = (0, 0, True)
_NO_MEMBERS: Final[Mapping[str, str]] = {}


def is_propagation_field(name: object) -> bool:
    """Whether a header, in whatever case, says in which trace or for which user a message is sent.

    Args:
        name: text or bytes; nothing else is the name of a header.
    """
    return isinstance(name, str | bytes) and name.lower() in _FIELDS


class Inbound(NamedTuple):
    """The trace, user and baggage that an incoming message names.

    Attributes:
        trace_id: 0 if the message names no trace.
        span_id: the caller's span.
        state: W3C's ``tracestate``, unchanged.
        user: the user in baggage, a pseudonym where those are in use.
        baggage: the other members of baggage.
        caller: trace and span that an untrusted caller claims.
        sampled: whether the caller wishes the trace to be stored.
    """

    trace_id: int = 0
    span_id: int = 0
    state: str = ""
    user: str | None = None
    baggage: Mapping[str, str] = _NO_MEMBERS
    caller: tuple[int, int] = _NOWHERE
    sampled: bool = True

    def request(self) -> Request:
        """A new request with the user, or the untrusted caller, that the message names."""
        if self.user is not None:
            return Request(user=self.user, source=BAGGAGE)
        if self.caller is not _NOWHERE:
            return Request(caller=SpanContext(*self.caller, is_remote=True))
        return Request()

    def context(self, request: Request, base: Context | None = None) -> Context:
        """The context in which the request is served: its parent span, its user, its baggage."""
        context = with_request(request, base)
        for name, value in self.baggage.items():
            context = set_baggage(name, value, context)
        if not self.trace_id:
            return context
        parent = RemoteSpan(self.trace_id, self.span_id, self.state, sampled=self.sampled)
        return set_span_in_context(parent, context)


_NOTHING: Final = Inbound()


class RequestPropagator(TextMapPropagator):
    """Extracts a :class:`~heatshield.context.request.Request` beside the trace, injects both.

    Args:
        identity: reads users.
        b3: which B3 headers go out: ``multi``, ``single`` or ``off``. Both are always read.
        edge: trust no incoming header.
        to: patterns of the hosts that get headers; none for all hosts.
    """

    def __init__(
        self, identity: Identity, b3: str = "multi", *, edge: bool = False, to: tuple[str, ...] = ()
    ) -> None:
        self._identity = identity
        self._b3 = b3
        self._edge = edge
        self._to = AllowedHosts(to) if to else None

    @property
    def is_edge(self) -> bool:
        """Whether no incoming header is trusted."""
        return self._edge

    # -- in --------------------------------------------------------------------------------------

    def read(self, header: Callable[[str], str | None]) -> Inbound:
        """Read a message by a function that returns the value of one of :data:`HEADERS`.

        Never raises.
        """
        try:
            trace_id, span_id, sampled = _parent(header)
            if self._edge:
                return Inbound(caller=(trace_id, span_id)) if trace_id else _NOTHING
            state = _state(header("tracestate")) if trace_id else ""
            baggage = header("baggage")
            if not baggage:
                return Inbound(trace_id, span_id, state, sampled=sampled)
            members = _members(baggage)
            user = self._identity.from_baggage(members.pop(ENDUSER_ID, None))
            return Inbound(trace_id, span_id, state, user, members, sampled=sampled)
        except Exception:  # noqa: BLE001  # a hostile header must not fail the request
            COUNTERS.error("extract")
            return _NOTHING

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Read trace and user into a context (OpenTelemetry's API); never raises."""

        def header(name: str) -> str | None:
            values = getter.get(carrier, name)
            return ",".join(values) if values else None

        found = self.read(header)
        return found.context(found.request(), context)

    # -- out -------------------------------------------------------------------------------------

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write trace and user into a carrier (OpenTelemetry's API); never raises.

        What a mapping or a list of pairs has of such headers already is dropped; a carrier of
        another kind has only what its setter replaces.
        """
        try:
            _drop_fields(carrier)
            for name, value in self.headers(get_current() if context is None else context).items():
                setter.set(carrier, name, value)
        except Exception:  # noqa: BLE001  # an odd carrier must not fail the call
            COUNTERS.error("inject")

    def headers(self, context: Context) -> dict[str, str]:
        """The headers of an outgoing message, whose span is the current one of ``context``."""
        headers: dict[str, str] = {}
        current = get_current_span(context)
        if self._to is not None and not self._to.allow(current):
            return headers
        trace_id, span_id, state = ids_of(current)
        if trace_id:
            trace, span = f"{trace_id:032x}", f"{span_id:016x}"
            flag = "1" if is_sampled(current) else "0"
            headers["traceparent"] = f"00-{trace}-{span}-0{flag}"
            if state:
                headers["tracestate"] = state
            if self._b3 == "multi":
                headers["x-b3-traceid"], headers["x-b3-spanid"] = trace, span
                headers["x-b3-sampled"] = flag
            elif self._b3 == "single":
                headers["b3"] = f"{trace}-{span}-{flag}"
        baggage = _written(context)
        if baggage:
            headers["baggage"] = baggage
        return headers

    @property
    def fields(self) -> set[str]:
        """The headers that :meth:`inject` may set."""
        b3 = {"multi": {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}, "single": {"b3"}}
        return {"traceparent", "tracestate", "baggage", *b3.get(self._b3, set())}


def _drop_fields(carrier: object) -> None:
    if isinstance(carrier, MutableMapping):
        for name in [name for name in carrier if is_propagation_field(name)]:
            carrier.pop(name, None)  # a multi-dict has a name as often as it has values
    elif isinstance(carrier, list):
        carrier[:] = [pair for pair in carrier if not is_propagation_field(pair[0])]


def _parent(header: Callable[[str], str | None]) -> tuple[int, int, bool]:
    """Trace id and span id of the caller, zeros if they are absent or invalid; and whether the
    caller wishes the trace to be stored.
    """
    text = header("traceparent")
    if text:
        found = _TRACEPARENT.fullmatch(text)
        if found is not None and (found[4] is None or not text.startswith("00")):
            trace_id, span_id, _ = _valid(found[1], found[2])
            return trace_id, span_id, bool(int(found[3], 16) & 1)
    text = header("b3")
    if text:
        found = _B3_SINGLE.fullmatch(text.lower())
        if found is None:
            return _NO_PARENT
        trace_id, span_id, _ = _valid(found[1], found[2])
        return trace_id, span_id, (found[3] or "")[:2] != "-0"
    text = header("x-b3-traceid")
    if text and _TRACE_ID.fullmatch(text.lower()):
        span = (header("x-b3-spanid") or "").lower()
        if not _SPAN_ID.fullmatch(span):
            return _NO_PARENT
        trace_id, span_id, _ = _valid(text, span)
        return trace_id, span_id, header("x-b3-sampled") != "0"
    return _NO_PARENT


def _valid(trace: str, span: str) -> tuple[int, int, bool]:
    trace_id, span_id = int(trace, 16), int(span, 16)
    return (trace_id, span_id, True) if trace_id and span_id else _NO_PARENT


def _state(text: str | None) -> str:
    """``tracestate``, or nothing if it can't be handed on: HTTP clients refuse unprintable text."""
    if not text or len(text) > MAX_STATE_LENGTH or not (text.isascii() and text.isprintable()):
        return ""
    return text


def _members(baggage: str) -> dict[str, str]:
    """The members of a baggage header that are well-formed, without their properties."""
    if len(baggage) > MAX_BAGGAGE_BYTES:
        COUNTERS.drop("baggage_too_large")
        return {}
    found: dict[str, str] = {}
    for member in baggage.split(",", MAX_BAGGAGE_MEMBERS)[:MAX_BAGGAGE_MEMBERS]:
        name, _, value = member.partition(";")[0].partition("=")
        name, value = name.strip(), _unquoted(value.strip())
        if _TOKEN.fullmatch(name) and (value.isprintable() or name == ENDUSER_ID):
            found[name] = value
    return found


def _unquoted(value: str) -> str:
    """A value that may be percent-encoded, or stand there in UTF-8 against the rules."""
    if "%" not in value and "+" not in value and value.isascii():
        return value
    return text_of(unquote_to_bytes(header_bytes(value).replace(b"+", b" ")))


def _written(context: Context) -> str:
    """The baggage header: the acting user in place of the caller's, and all other members."""
    request = request_in(context)
    members = dict(get_all(context))
    if request is not None:
        members.pop(ENDUSER_ID, None)
        if request.user is not None:
            members[ENDUSER_ID] = request.user
    if not members:
        return ""
    if SANITIZER.masking:
        masked = SANITIZER.masked
        members = {
            masked(name, request): masked(str(value), request) for name, value in members.items()
        }
    return ",".join(
        f"{name}={quote(str(value), safe='')}"
        for name, value in members.items()
        if _TOKEN.fullmatch(name)  # else an HTTP client may refuse the whole request
    )
