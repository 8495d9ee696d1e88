"""confluent-kafka: a span for what is sent and what is received; the request travels in headers.

``Producer`` and ``Consumer`` are C types whose methods can't be replaced, so subclasses take their
places, right after the C module was imported: before ``SerializingProducer`` and the like, which
build on them, are made. Where those exist already, they get another base. Objects that were made
before, and names that a service imported before, stay as they are.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, cast

from heatshield.counters import fail_open
from heatshield.integrations.messaging.kafka import Arguments, KafkaSpans, Sending
from heatshield.integrations.messaging.processing import length
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Args, Kwargs, around
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "confluent_kafka"

_SPANS: Final = KafkaSpans(NAME, OtelContrib(NAME, "ConfluentKafkaInstrumentor"))
_PRODUCE: Final = Arguments(
    "topic", "value", "key", "partition", "callback", "on_delivery", "timestamp", "headers"
)
_PRODUCE_BATCH: Final = Arguments("topic", "messages")

CType = Any
"""A C type of the library's; its stubs know neither its subclasses nor all of its methods."""


class _Message(Protocol):
    """What is used of a received message."""

    def topic(self) -> str: ...

    def key(self) -> object: ...

    def value(self) -> object: ...

    def error(self) -> object: ...


class _Library(Protocol):
    Producer: type
    Consumer: type


_TRACED: Final[dict[type, type]] = {}
"""From C types to the subclasses in their place. They outlive a runtime, as classes of the library
and the service build on them; without a runtime they trace nothing."""


def install(services: Services) -> None:
    """Trace producers and consumers that are made from now on."""
    remove()
    _SPANS.install(services)
    library = cast("_Library", sys.modules["confluent_kafka.cimpl"])
    if not _TRACED:
        _TRACED[library.Producer] = _traced_producer(library.Producer)
        _TRACED[library.Consumer] = _traced_consumer(library.Consumer)
    for original, traced in _TRACED.items():
        _rename(original, traced)
        _rebase(original, traced)


def remove() -> None:
    """Put the C types back where the library has them; what builds on ours stays, untraced."""
    for original, traced in _TRACED.items():
        _rename(traced, original)
    _SPANS.remove()


def _rename(former: type, latter: type) -> None:
    """Put one class in the place of another wherever the library names it."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == NAME:
            for known, value in list(vars(module).items()):
                if value is former:
                    setattr(module, known, latter)


def _rebase(original: type, traced: type) -> None:
    """Let the classes that build on a C type build on ours."""
    subclasses: list[type] = original.__subclasses__()
    for one in subclasses:
        if one is not traced:
            bases = tuple(traced if base is original else base for base in one.__bases__)
            _set_bases(one, bases)


@fail_open(NAME, None)
def _set_bases(one: type, bases: tuple[type, ...]) -> None:
    one.__bases__ = bases


def _traced_producer(original: CType) -> type:
    class Producer(original):  # type: ignore[misc]  # it has no type before it is imported
        __slots__ = ()  # objects of the C type take no attributes; one more would hinder _rebase
        __doc__ = original.__doc__

        produce = _producing(original.produce)
        if hasattr(original, "produce_batch"):  # younger than the class
            produce_batch = _producing_batch(original.produce_batch)

    return _disguised(Producer, original)


def _traced_consumer(original: CType) -> type:
    class Consumer(original):  # type: ignore[misc]  # as above
        __slots__ = ()
        __doc__ = original.__doc__

        def poll(self, *args: object, **kwargs: object) -> object:
            _SPANS.asked()
            message = super().poll(*args, **kwargs)
            if message is not None:
                _received((message,))
            return message

        def consume(self, *args: object, **kwargs: object) -> object:
            _SPANS.asked()
            messages = super().consume(*args, **kwargs)
            if messages:
                _received(messages)
            return messages

    return _disguised(Consumer, original)


def _disguised(ours: type, original: type) -> type:
    ours.__module__, ours.__qualname__ = original.__module__, original.__qualname__
    return ours


def _open(_producer: object, args: Args, kwargs: Kwargs) -> Sending | None:
    topic, value, key = (_PRODUCE.get(name, args, kwargs) for name in ("topic", "value", "key"))
    return _SPANS.sending(topic, length(key) + length(value))


def _open_batch(_producer: object, args: Args, kwargs: Kwargs) -> Sending | None:
    """Open the span of a batch; the library has no way to give its messages headers."""
    topic = _PRODUCE_BATCH.get("topic", args, kwargs)
    given = _PRODUCE_BATCH.get("messages", args, kwargs)
    messages = cast("Sequence[Mapping[str, object]]", given)
    size = sum(length(one.get("key")) + length(one.get("value")) for one in messages)
    return _SPANS.sending(topic, size, len(messages))


_producing: Final = around(
    _open, Sending.taken, Sending.refused, _SPANS.giving(_PRODUCE), name=NAME
)
_producing_batch: Final = around(_open_batch, Sending.taken, Sending.refused, name=NAME)


@fail_open(NAME, None)
def _received(messages: Iterable[_Message]) -> None:
    _SPANS.received(
        (message.topic(), length(message.key()) + length(message.value()))
        for message in messages
        if message.error() is None
    )
