"""aiokafka: a span for what is sent and what is received; trace and user travel in headers."""

from collections.abc import Mapping
from functools import wraps
from typing import Final, Protocol, cast

from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.messaging.kafka import Arguments, KafkaSpans, Sending
from heatshield.integrations.messaging.processing import length
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import (
    Args,
    AsyncOriginal,
    Kwargs,
    Original,
    Patches,
    around_async,
)
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
    taken, refused, give = Sending.taken, Sending.refused, _SPANS.giving(_SEND)
    sending = around_async(_open, taken, refused, give, name=NAME)
    sending_batch = around_async(_open_batch, taken, refused, name=NAME)
    _PATCHES.wrap(AIOKafkaProducer, "send", sending)
    _PATCHES.wrap(AIOKafkaProducer, "send_batch", sending_batch)
    _PATCHES.wrap(AIOKafkaProducer, "create_batch", _creating_batch)
    _PATCHES.wrap(AIOKafkaConsumer, "getone", _getting_one)
    _PATCHES.wrap(AIOKafkaConsumer, "getmany", _getting_many)


def remove() -> None:
    """Put everything back."""
    _PATCHES.undo()
    _SPANS.remove()


def _open(_producer: object, args: Args, kwargs: Kwargs) -> Sending | None:
    topic, value, key = (_SEND.get(name, args, kwargs) for name in ("topic", "value", "key"))
    return _SPANS.sending(topic, length(key) + length(value))


def _open_batch(_producer: object, args: Args, kwargs: Kwargs) -> Sending | None:
    batch = cast("_Batch", _SEND_BATCH.get("batch", args, kwargs))
    topic = _SEND_BATCH.get("topic", args, kwargs)
    return _SPANS.sending(topic, batch.size(), batch.record_count())


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
        ours, is_odd = _SPANS.carried(), False
        if ours or kwargs.get("headers"):
            try:
                kwargs["headers"] = _SPANS.with_headers(kwargs.get("headers"), ours or {})
            except Exception:  # noqa: BLE001  # the library says what is wrong with them
                is_odd = True
        added = original(*args, **kwargs)
        if is_odd:
            COUNTERS.error(NAME)
        return added

    return append


def _getting_one(original: AsyncOriginal) -> AsyncOriginal:
    @wraps(original)
    async def getone(consumer: object, *args: object, **kwargs: object) -> object:
        _SPANS.asked()
        record = await original(consumer, *args, **kwargs)
        _received([cast("_Record", record)])
        return record

    return getone


def _getting_many(original: AsyncOriginal) -> AsyncOriginal:
    @wraps(original)
    async def getmany(consumer: object, *args: object, **kwargs: object) -> object:
        _SPANS.asked()
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
