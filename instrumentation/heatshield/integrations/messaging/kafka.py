"""Sending to Kafka and receiving from it: one span each, for any of its libraries.

Spans of producers end when the library has taken the message: it sends in the background, many at
once, and tells the result much later. Spans of consumers leave out the time without a message.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, cast

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current
from opentelemetry.trace import Span, SpanKind, get_current_span, set_span_in_context

from heatshield.context.propagator import RequestPropagator, is_propagation_field
from heatshield.context.request import request_in
from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Args, Kwargs
from heatshield.integrations.services import Services
from heatshield.names import COST_BYTES, COST_ELEMENTS
from heatshield.tracing.failure import fail
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.values import Attributes

__all__ = ["Arguments", "KafkaSpans", "Sending"]

_HEADERS: Final = (list, tuple, Mapping)

Header = tuple[str, bytes]


class Arguments:
    """The arguments of a library's method, whose signature may grow.

    Args:
        names: of the parameters that may be given by position, in order.
    """

    def __init__(self, *names: str) -> None:
        self._places = {name: at for at, name in enumerate(names)}

    def get(self, name: str, args: Args, kwargs: Kwargs) -> object:
        """One of them; ``None`` if it is not given."""
        at = self._places[name]
        return args[at] if at < len(args) else kwargs.get(name)

    def put(self, name: str, value: object, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """All of them, with another value for one."""
        at = self._places[name]
        if at < len(args):
            return (*args[:at], value, *args[at + 1 :]), kwargs
        return args, {**kwargs, name: value}


def _merged(given: object, ours: Mapping[str, str], *, theirs_is_better: bool) -> object:
    if given is None and ours:
        return [(name, value.encode()) for name, value in ours.items()]
    if not isinstance(given, _HEADERS) or (theirs_is_better and _names_trace(given)):
        return given
    pairs = cast("Iterable[Header]", given.items() if isinstance(given, Mapping) else given)
    kept = [pair for pair in pairs if not is_propagation_field(pair[0])]
    if not ours and len(kept) == len(given):
        return given
    merged = [*kept, *((name, value.encode()) for name, value in ours.items())]
    return tuple(merged) if isinstance(given, tuple) else merged  # of the kind that was given


def _names_trace(given: Collection[object]) -> bool:
    """Whether headers that the service gives name a trace or a user already."""
    if isinstance(given, Mapping):
        return any(map(is_propagation_field, given))
    return any(is_propagation_field(pair[0]) for pair in cast("Iterable[Header]", given))


def _in_request() -> bool:
    return request_in() is not None or get_current_span().get_span_context().is_valid


class Sending:
    """Messages that are being sent.

    Args:
        span: of the sending.
        headers: that are to travel with each.

    Attributes:
        is_odd: the headers that the service gives are none that ours could be put beside.
    """

    __slots__ = ("_span", "headers", "is_odd")

    def __init__(self, span: Span, headers: Mapping[str, str]) -> None:
        self._span = span
        self.headers = headers
        self.is_odd = False

    @fail_open("kafka", None)
    def taken(self, _result: object) -> None:
        """The library has taken it."""
        self._span.end()
        if self.is_odd:
            COUNTERS.error("kafka")

    @fail_open("kafka", None)
    def refused(self, error: BaseException) -> None:
        """The library says why not: where that was the service's mistake, it is not counted."""
        if isinstance(error, Exception):
            fail(self._span, error)
        self._span.end()


class KafkaSpans:
    """Makes the spans of one library while it is installed.

    Args:
        library: as its integration is called.
        contrib: OpenTelemetry's own instrumentation of it.
    """

    def __init__(self, library: str, contrib: OtelContrib) -> None:
        self._tracer = PROVIDER.get_tracer(f"heatshield.{library}")
        self._contrib = contrib
        self._propagator: RequestPropagator | None = None
        self._following: Callable[[], object] | None = None

    def install(self, services: Services) -> None:
        """Make spans from now on."""
        self._propagator, self._following = services.propagator, services.following

    def remove(self) -> None:
        """Make none any more."""
        self._propagator = self._following = None

    @fail_open("kafka", None)
    def asked(self) -> None:
        """Messages are asked for: this process is about to work for their users."""
        if self._following is not None:
            self._following()

    def sending(self, topic: object, size: int, messages: int = 1) -> Sending | None:
        """Open the span of a sending; ``None`` if it is not to be seen.

        Args:
            topic: that the messages go to.
            size: bytes of keys and values.
            messages: how many.

        Raises:
            Exception: if the topic has no text; the library refuses it, too.
        """
        context = self._seen()
        if context is None or self._propagator is None:
            return None
        attributes = _attributes("send", "send", str(topic), messages, size)
        span = self._tracer.open(f"send {topic}", SpanKind.PRODUCER, attributes, context)
        return Sending(span, self._propagator.headers(set_span_in_context(span, context)))

    @fail_open("kafka", None)
    def carried(self) -> Mapping[str, str] | None:
        """The headers of a message in a batch, which gets its span when it is sent."""
        context = self._seen()
        if context is None or self._propagator is None:
            return None
        return self._propagator.headers(context)

    def with_headers(self, given: object, ours: Mapping[str, str]) -> object:
        """The headers of a message with ours in the place of all that propagate.

        A service that sends a message on often gives the headers that it came with. Where it does
        so outside of :func:`heatshield.processing`, those name the message's user better than
        ours; but not at an edge, which trusts nobody's.

        Args:
            given: as the service gives them: a list or tuple of pairs, a mapping, or ``None``.
            ours: what :meth:`sending` or :meth:`carried` says; there may be none.

        Raises:
            Exception: if they are no headers; the library says what is wrong with them.
        """
        propagator = self._propagator
        trusts = propagator is not None and not propagator.is_edge
        return _merged(given, ours, theirs_is_better=trusts and not _in_request())

    def giving(
        self, arguments: Arguments
    ) -> Callable[[Sending, Args, Kwargs], tuple[Args, Kwargs]]:
        """Puts the headers of a sending into the ``arguments`` of a library's method."""

        def give(sending: Sending, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
            try:
                headers = self.with_headers(arguments.get("headers", args, kwargs), sending.headers)
            except Exception:  # noqa: BLE001  # the library says what is wrong with them
                sending.is_odd = True
                return args, kwargs
            return arguments.put("headers", headers, args, kwargs)

        return give

    @fail_open("kafka", None)
    def received(self, messages: Iterable[tuple[str, int]]) -> None:
        """Make the span of messages that have come.

        Args:
            messages: the topic of each, and the bytes of its key and its value.
        """
        context = self._seen()
        if context is None:
            return
        sizes, topics = [], set()
        for topic, size in messages:
            sizes.append(size)
            topics.add(topic)
        if not sizes:
            return
        topic = topics.pop() if len(topics) == 1 else ""
        attributes = _attributes("poll", "receive", topic, len(sizes), sum(sizes))
        name = f"poll {topic}" if topic else "poll"
        span = self._tracer.open(name, SpanKind.CLIENT, attributes, context)
        span.end()

    def _seen(self) -> Context | None:
        if self._propagator is None or self._contrib.active:
            return None
        context = get_current()
        return None if context.get(_SUPPRESS_INSTRUMENTATION_KEY) else context


def _attributes(name: str, kind: str, topic: str, messages: int, size: int) -> Attributes:
    attributes: Attributes = {
        "messaging.system": "kafka",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        COST_ELEMENTS: messages,
        COST_BYTES: size,
    }
    if topic:
        attributes["messaging.destination.name"] = topic
    if messages > 1:
        attributes["messaging.batch.message_count"] = messages
    return attributes
