"""What a job or message was sent with, and the span of the work for it: the same for all queues."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from heatshield.context.propagator import HEADERS, Inbound, RequestPropagator
from heatshield.context.request import Request
from heatshield.counters import fail_open
from heatshield.identity.identify import Identity
from heatshield.tracing.provider import Tracer
from heatshield.tracing.stamp import add_cost, stamp_user
from heatshield.tracing.values import Attributes

__all__ = ["Received", "Receiver"]


class Received(NamedTuple):
    """A job or message that has come.

    Attributes:
        inbound: what its headers say of trace and user.
        request: that the work for it is.
    """

    inbound: Inbound
    request: Request

    def begin(
        self, tracer: Tracer, call: str, attributes: Attributes, elements: int = 0
    ) -> tuple[Span, Context]:
        """Open the span of the work, and make the context that it is to be done in.

        Args:
            tracer: of the queue's library.
            call: what the work is charged to; low cardinality.
            attributes: of the span.
            elements: that are to be worked on.
        """
        inbound, request = self
        # Not on top of the current context: that is of a worker, who works for many users.
        context = inbound.context(request, Context())
        span = tracer.open(call, SpanKind.CONSUMER, attributes, context)
        if not request.call:
            request.enter(call, span)  # where the service's own sampler made no span
        stamp_user(span, request)
        if elements:
            add_cost(elements=elements, span=span)
        return span, set_span_in_context(span, context)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


class Receiver:
    """Reads the headers of jobs or messages.

    Args:
        propagator: reads the trace and the user from them.
        identity: reads the user from those that the settings name.
        encode: the bytes of a header, which its library has decoded.
    """

    def __init__(
        self,
        propagator: RequestPropagator,
        identity: Identity,
        encode: Callable[[str], bytes] = _utf8,
    ) -> None:
        self._propagator = propagator
        self._identity = identity
        self._encode = encode
        self.named: Final = frozenset(name.decode("latin-1") for name in identity.headers)
        """Lower-case names under which the settings expect a user."""

    @property
    def wanted(self) -> frozenset[str]:
        """Lower-case names of all headers that are looked at."""
        return self.named.union(HEADERS)

    def read(self, headers: Mapping[str, str]) -> Received:
        """What headers say, by their lower-case names; others than those wanted may be there."""
        inbound = self._propagator.read(headers.get)
        request = inbound.request()
        self._name(request, headers)
        return Received(inbound, request)

    @fail_open("messages", None)
    def _name(self, request: Request, headers: Mapping[str, str]) -> None:
        if self.named:
            given = {name: headers[name] for name in self.named & headers.keys()}
            encoded = {name.encode("latin-1"): self._encode(one) for name, one in given.items()}
            self._identity.on_entry(request, encoded)
