"""aiokafka: a span for what is sent and what is received; trace and user travel in headers."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final

from heatshield.counters import fail_open
from heatshield.integrations.messaging.kafka import (
    Arguments,
    KafkaSpans,
    Sending,
    names_trace,
    with_headers,
)
from heatshield.integrations.messaging.processing import length
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "aiokafka"

Method = Callable[..., Awaitable[Any]]

_SPANS: Final = KafkaSpans(NAME, OtelContrib(NAME, "AIOKafkaInstrumentor"))
_PATCHES: Final = Patches()
_SEND: Final = Arguments("topic", "value", "key", "partition", "timestamp_ms", "headers")
_SEND_BATCH: Final = Arguments("batch", "topic")


def install(services: Services) -> None:
    """Patch producers and consumers, those that exist too; replaces an earlier patch."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    remove()
    _SPANS.install(services)
    _PATCHES.wrap(AIOKafkaProducer, "send", _sending)
    _PATCHES.wrap(AIOKafkaProducer, "send_batch", _sending_batch)
    _PATCHES.wrap(AIOKafkaProducer, "create_batch", _creating_batch)
    _PATCHES.wrap(AIOKafkaConsumer, "getone", _getting_one)
    _PATCHES.wrap(AIOKafkaConsumer, "getmany", _getting_many)


def remove() -> None:
    """Put everything back."""
    _PATCHES.undo()
    _SPANS.remove()


def _sending(original: Method) -> Method:
    @wraps(original)
    async def send(producer: Any, *args: Any, **kwargs: Any) -> Any:
        sending = _open(args, kwargs)
        if sending is None:
            return await original(producer, *args, **kwargs)
        headers = with_headers(_SEND.get("headers", args, kwargs), sending.headers)
        args, kwargs = _SEND.put("headers", headers, args, kwargs)
        return await _ended(sending, original(producer, *args, **kwargs))

    return send


@fail_open(NAME, None)
def _open(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sending | None:
    topic, value, key = (_SEND.get(name, args, kwargs) for name in ("topic", "value", "key"))
    return _SPANS.sending(topic, length(key) + length(value))


def _sending_batch(original: Method) -> Method:
    @wraps(original)
    async def send_batch(producer: Any, *args: Any, **kwargs: Any) -> Any:
        sending = _open_batch(args, kwargs)
        if sending is None:
            return await original(producer, *args, **kwargs)
        return await _ended(sending, original(producer, *args, **kwargs))

    return send_batch


@fail_open(NAME, None)
def _open_batch(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sending | None:
    batch, topic = (_SEND_BATCH.get(name, args, kwargs) for name in ("batch", "topic"))
    return _SPANS.sending(topic, batch.size(), batch.record_count())


async def _ended(sending: Sending, sent: Awaitable[Any]) -> Any:
    try:
        future = await sent
    except BaseException as error:
        sending.end(error)
        raise
    sending.end()
    return future


def _creating_batch(original: Callable[..., Any]) -> Callable[..., Any]:
    """Around the making of a batch, whose messages each travel with who adds them."""

    @wraps(original)
    def create_batch(producer: Any, *args: Any, **kwargs: Any) -> Any:
        batch = original(producer, *args, **kwargs)
        _have_adding(batch)
        return batch

    return create_batch


@fail_open(NAME, None)
def _have_adding(batch: Any) -> None:
    batch.append = _adding(batch.append)


def _adding(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def append(*args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("headers")
        ours = None if names_trace(given) else _SPANS.carried()
        if ours:
            kwargs["headers"] = with_headers(given, ours)
        return original(*args, **kwargs)

    return append


def _getting_one(original: Method) -> Method:
    @wraps(original)
    async def getone(consumer: Any, *args: Any, **kwargs: Any) -> Any:
        record = await original(consumer, *args, **kwargs)
        _received([record])
        return record

    return getone


def _getting_many(original: Method) -> Method:
    @wraps(original)
    async def getmany(consumer: Any, *args: Any, **kwargs: Any) -> Any:
        batches = await original(consumer, *args, **kwargs)
        if batches:
            _received([record for records in batches.values() for record in records])
        return batches

    return getmany


@fail_open(NAME, None)
def _received(records: list[Any]) -> None:
    _SPANS.received((record.topic, _size(record)) for record in records)


def _size(record: Any) -> int:
    """Bytes; a key or value that is absent has the size -1."""
    key, value = int(record.serialized_key_size), int(record.serialized_value_size)
    return max(0, key) + max(0, value)
