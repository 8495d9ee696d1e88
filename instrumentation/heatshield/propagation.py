"""How a request's identity crosses processes: W3C trace context and baggage, and B3.

In: ``traceparent`` wins over B3, so a mesh that sends both yields one trace. Baggage is capped
before it is parsed; the user in it is validated. Out: W3C, baggage with the user, and B3.
"""

from typing import Any, Final

from opentelemetry.baggage import get_baggage, remove_baggage, set_baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, get_current
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from heatshield.counters import COUNTERS
from heatshield.current import Request, request_in, with_request
from heatshield.identity import Identity
from heatshield.names import ENDUSER_ID

__all__ = ["RequestPropagator"]

MAX_BAGGAGE_BYTES: Final = 8_192
"""W3C's limit; unbounded baggage has been a way to exhaust services."""

_B3_HEADERS: Final = ("b3", "x-b3-traceid")


class RequestPropagator(TextMapPropagator):
    """Extracts a :class:`~heatshield.current.Request` beside the trace, injects both.

    Args:
        identity: reads users.
        b3: which B3 headers go out: ``multi``, ``single`` or ``off``. Both are always read.
    """

    def __init__(self, identity: Identity, b3: str = "multi") -> None:
        self._identity = identity
        self._w3c = TraceContextTextMapPropagator()
        self._baggage = W3CBaggagePropagator()
        self._b3_in = B3MultiFormat()
        formats = {"multi": B3MultiFormat(), "single": B3SingleFormat(), "off": None}
        self._b3_out = formats[b3]

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Read the trace and who acts; never fails."""
        context = get_current() if context is None else context
        try:
            context = self._trace(carrier, context, getter)
            context = self._with_baggage(carrier, context, getter)
        except Exception:  # noqa: BLE001  # a hostile header must not fail the request
            COUNTERS.error("extract")
        user = self._identity.from_baggage(get_baggage(ENDUSER_ID, context))
        return with_request(Request(user=user), context)

    def _trace(self, carrier: CarrierT, context: Context, getter: Getter[CarrierT]) -> Context:
        found = self._w3c.extract(carrier, context, getter)
        if get_current_span(found).get_span_context().is_valid:
            return found
        if any(getter.get(carrier, name) for name in _B3_HEADERS):
            return self._b3_in.extract(carrier, context, getter)
        return found

    def _with_baggage(
        self, carrier: CarrierT, context: Context, getter: Getter[CarrierT]
    ) -> Context:
        members = getter.get(carrier, "baggage")
        if not members:
            return context
        if sum(len(member) for member in members) > MAX_BAGGAGE_BYTES:
            COUNTERS.drop("baggage_too_large")
            return context
        joined = {"baggage": ",".join(members)}
        return self._baggage.extract(joined, context)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write the trace and who acts; never fails."""
        context = get_current() if context is None else context
        try:
            self._w3c.inject(carrier, context, setter)
            self._baggage.inject(carrier, _with_user(context), setter)
            if self._b3_out is not None:
                self._b3_out.inject(carrier, context, setter)
        except Exception:  # noqa: BLE001  # an odd carrier must not fail the call
            COUNTERS.error("inject")

    @property
    def fields(self) -> set[str]:
        """The headers that :meth:`inject` may set."""
        b3: set[Any] = self._b3_out.fields if self._b3_out is not None else set()
        return {*self._w3c.fields, *self._baggage.fields, *b3}


def _with_user(context: Context) -> Context:
    """The context with the acting user in its baggage, replacing whatever the caller sent."""
    request = request_in(context)
    if request is None:
        return context
    if request.user is None:
        return remove_baggage(ENDUSER_ID, context)
    return set_baggage(ENDUSER_ID, request.user, context)
