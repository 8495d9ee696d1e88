"""aiokafka: a span for what is sent and what is received; trace and user travel in headers."""

from collections.abc import Awaitable, Mapping
from functools import wraps
from typing import Final, Protocol, cast

from heatshield.counters import fail_open
from heatshield.integrations.messaging.kafka import (
    Args,
    Arguments,
    KafkaSpans,
    Kwargs,
    Sending,
)
from heatshield.integrations.messaging.processing import length
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import AsyncOriginal, Original, Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "aiokafka"

_SPANS: Final = KafkaSpans(NAME, OtelContrib(NAME, "AIOKafkaInstrumentor"))
_PATCHES: Final = Patches()
_SEND: Final = Arguments("topic", "value", "key", "partition", "timestamp_ms", "headers")
_SEND_BATCH: Final = Arguments("batch", "topic")


class _Batch(Protocol):
    """What is used of a batch of messages."""

    append: Original

    def size(self) -> int: ...

    def record_count(self) -> int: ...


class _Record(Protocol):
    """What is used of a received message."""

    topic: str
    serialized_key_size: int
    serialized_value_size: int


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


def _sending(original: AsyncOriginal) -> AsyncOriginal:
    @wraps(original)
    async def send(producer: object, *args: object, **kwargs: object) -> object:
        sending = _open(args, kwargs)
        if sending is None:
            return await original(producer, *args, **kwargs)
        headers = _SPANS.with_headers(_SEND.get("headers", args, kwargs), sending.headers)
        placed, named = _SEND.put("headers", headers, args, kwargs)
        return await _ended(sending, original(producer, *placed, **named))

    return send


@fail_open(NAME, None)
def _open(args: Args, kwargs: Kwargs) -> Sending | None:
    topic, value, key = (_SEND.get(name, args, kwargs) for name in ("topic", "value", "key"))
    return _SPANS.sending(topic, length(key) + length(value))


def _sending_batch(original: AsyncOriginal) -> AsyncOriginal:
    @wraps(original)
    async def send_batch(producer: object, *args: object, **kwargs: object) -> object:
        sending = _open_batch(args, kwargs)
        if sending is None:
            return await original(producer, *args, **kwargs)
        return await _ended(sending, original(producer, *args, **kwargs))

    return send_batch


@fail_open(NAME, None)
def _open_batch(args: Args, kwargs: Kwargs) -> Sending | None:
    batch = cast("_Batch", _SEND_BATCH.get("batch", args, kwargs))
    topic = _SEND_BATCH.get("topic", args, kwargs)
    return _SPANS.sending(topic, batch.size(), batch.record_count())


async def _ended(sending: Sending, sent: Awaitable[object]) -> object:
    try:
        future = await sent
    except BaseException as error:
        sending.end(error)
        raise
    sending.end()
    return future


def _creating_batch(original: Original) -> Original:
    """Give each message of a batch the headers of the request that adds it."""

    @wraps(original)
    def create_batch(producer: object, *args: object, **kwargs: object) -> object:
        batch = original(producer, *args, **kwargs)
        _have_adding(cast("_Batch", batch))
        return batch

    return create_batch


@fail_open(NAME, None)
def _have_adding(batch: _Batch) -> None:
    batch.append = _adding(batch.append)


def _adding(original: Original) -> Original:
    @wraps(original)
    def append(*args: object, **kwargs: object) -> object:
        ours = _SPANS.carried()
        if ours or kwargs.get("headers"):
            kwargs["headers"] = _SPANS.with_headers(kwargs.get("headers"), ours or {})
        return original(*args, **kwargs)

    return append


def _getting_one(original: AsyncOriginal) -> AsyncOriginal:
    @wraps(original)
    async def getone(consumer: object, *args: object, **kwargs: object) -> object:
        record = await original(consumer, *args, **kwargs)
        _received([cast("_Record", record)])
        return record

    return getone


def _getting_many(original: AsyncOriginal) -> AsyncOriginal:
    @wraps(original)
    async def getmany(consumer: object, *args: object, **kwargs: object) -> object:
        batches = cast("Mapping[object, list[_Record]]", await original(consumer, *args, **kwargs))
        if batches:
            _received([record for records in batches.values() for record in records])
        return batches

    return getmany


@fail_open(NAME, None)
def _received(records: list[_Record]) -> None:
    _SPANS.received((record.topic, _size(record)) for record in records)


def _size(record: _Record) -> int:
    """Bytes; a key or value that is absent has the size -1."""
    key, value = int(record.serialized_key_size), int(record.serialized_value_size)
    return max(0, key) + max(0, value)
