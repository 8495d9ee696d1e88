"""The processing of one message of a queue: a call of its own, for the user its headers name.

A consumer asks for messages without a user and gets those of many users at once, so the service
says where the work for one message begins and ends.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType
from typing import Final, NamedTuple, cast

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current
from opentelemetry.trace import Span

from heatshield.breakers.gate import GATE
from heatshield.context.attachment import attach, detach
from heatshield.context.propagator import RequestPropagator
from heatshield.context.request import Request
from heatshield.counters import fail_open
from heatshield.identity.credentials import header_bytes
from heatshield.identity.identify import Identity
from heatshield.integrations.messaging.received import Receiver
from heatshield.names import COST_BYTES
from heatshield.rejection import BreakerOpen
from heatshield.tracing.failure import fail
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.values import Attributes

__all__ = ["Delivered", "Processing", "length"]

_TRACER: Final = PROVIDER.get_tracer("heatshield.messages")


class Delivered(NamedTuple):
    """A message of Kafka, as any of its libraries has delivered it.

    Attributes:
        topic: that it was sent to.
        partition: of the topic; -1 if it is not known.
        offset: in the partition; -1 if it is not known.
        headers: by lower-case names; the last one, where several have the same name.
        size: bytes of its key and its value.
    """

    topic: str
    partition: int
    offset: int
    headers: Mapping[str, str]
    size: int

    @classmethod
    def read(cls, message: object) -> "Delivered":
        """Read a ``Message`` of confluent-kafka, whose parts are methods, or a ``ConsumerRecord``.

        Raises:
            ValueError: if it has no topic.
        """
        topic = _part(message, "topic")
        if not isinstance(topic, str) or not topic:
            raise ValueError(message)
        partition, offset = _part(message, "partition"), _part(message, "offset")
        return cls(
            topic,
            partition if isinstance(partition, int) else -1,
            offset if isinstance(offset, int) else -1,
            _headers(cast("Iterable[tuple[object, object]] | None", _part(message, "headers"))),
            _size(message, "key") + _size(message, "value"),
        )


def length(part: object) -> int:
    """Bytes of a key or a value; 0 for an object that is not serialized yet."""
    return len(part) if isinstance(part, bytes | bytearray | memoryview | str) else 0


def _part(message: object, name: str) -> object:
    part: object = getattr(message, name, None)
    return part() if callable(part) else part


def _size(message: object, name: str) -> int:
    serialized = getattr(message, f"serialized_{name}_size", None)
    return max(0, serialized) if isinstance(serialized, int) else length(_part(message, name))


def _headers(headers: Iterable[tuple[object, object]] | None) -> dict[str, str]:
    found = {}
    for name, value in headers or ():
        if isinstance(value, bytes):
            found[str(name).lower()] = value.decode("latin-1")
        elif isinstance(value, str):
            found[str(name).lower()] = value
    return found


class Processing(AbstractContextManager[None]):
    """The work for one message, from entering to leaving.

    Args:
        message: as :meth:`Delivered.read` takes it.
        propagator: reads the trace and the user from its headers.
        identity: reads the user from the header that the settings name.

    Raises, on entering:
        BreakerOpen: if a breaker is open for the message's user and this call.
    """

    __slots__ = ("_message", "_receiver", "_request", "_span", "_token")

    def __init__(self, message: object, propagator: RequestPropagator, identity: Identity) -> None:
        self._message = message
        self._receiver = Receiver(propagator, identity, header_bytes)
        self._request = Request()
        self._span: Span | None = None
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        self._begin()
        refusal = self._refusal()
        if refusal is not None:
            self._end(refusal)
            raise refusal

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    @fail_open("messages", None)
    def _begin(self) -> None:
        if get_current().get(_SUPPRESS_INSTRUMENTATION_KEY):
            return
        message = Delivered.read(self._message)
        received = self._receiver.read(message.headers)
        call = f"process {message.topic}"
        self._span, context = received.begin(_TRACER, call, _attributes(message))
        self._request = received.request
        self._token = attach(context)

    def _refusal(self) -> BreakerOpen | None:
        request = self._request
        if self._span is None:
            return None
        refusal = GATE.refusal(request.call, request.user, request)
        request.entered = refusal is None
        return refusal

    @fail_open("messages", None)
    def _end(self, error: BaseException | None) -> None:
        span, self._span = self._span, None
        token, self._token = self._token, None
        if token is not None:
            detach(token)
        if span is None:
            return
        if isinstance(error, Exception):
            fail(span, error)
        span.end()


def _attributes(message: Delivered) -> Attributes:
    attributes: Attributes = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": message.topic,
        COST_BYTES: message.size,
    }
    if message.partition >= 0:
        attributes["messaging.destination.partition.id"] = str(message.partition)
    if message.offset >= 0:
        attributes["messaging.kafka.offset"] = message.offset
    return attributes
