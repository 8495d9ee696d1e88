"""OTLP over HTTP: ``POST`` to ``/v1/traces``, ``/v1/logs``, ``/v1/metrics``; answered once durable.

The endpoints speak ASGI themselves, because a request object, its body model and a response object
a request cost more than everything else that intake does.
"""

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Final, Self, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from heatshield import names
from heatshield_collector.http_caller import HttpCaller
from heatshield_collector.intake.answers import export_response, fault, status_of
from heatshield_collector.intake.content import Media, inflate, is_plain, media_of
from heatshield_collector.intake.json import Converted, protobuf_from_json
from heatshield_collector.intake.payload import (
    Accepted,
    Committer,
    Counters,
    IntakeError,
    MalformedError,
    OverloadedError,
    Payload,
    Signal,
    TooLargeError,
    UnsupportedError,
)
from heatshield_collector.ports import (
    AccessError,
    Authenticator,
    Scope,
    UnauthenticatedError,
)
from heatshield_collector.workers import Workers

__all__ = ["routes"]

_INLINE_BYTES: Final = 8 * 1024
"""Bodies up to this size are inflated or converted on the event loop, in about the time that
handing over to a thread takes. Longer ones, and JSON whose inflated size is unknown, would hold up
all other requests."""

_BODIES_HELD: Final = 2
"""Bodies that are unfinished, or wait to be inflated or converted, may together hold this many
times the limit of one; beyond it, 503. Otherwise many slow senders of large bodies fill the memory
before the bounded queue ever sees them."""

_INFLATING: Final = 2
"""Most bodies inflated at once, each to the limit of one at most. What they inflate to is handed to
the commit queue, which has its own bound, before the next one begins."""

_JSON_BYTES: Final = 8 * 2**20
"""Most JSON in one request, inflated: its conversion is pure Python, which takes seconds for a few
MiB and slows down all other threads meanwhile. For the same reason one is converted at a time."""

_FULL_RETRY_S: Final = 1.0

_HTTP_STATUS: Final[dict[type[IntakeError | AccessError], int]] = {
    UnauthenticatedError: 401,
    AccessError: 403,
    MalformedError: 400,
    TooLargeError: 413,
    UnsupportedError: 415,
    OverloadedError: 503,
}

T = TypeVar("T")

_logger = logging.getLogger(__name__)


def routes(
    committer: Committer, limit_bytes: int, counters: Counters, authenticator: Authenticator
) -> list[BaseRoute]:
    """The routes, to be mounted in a Starlette or FastAPI application.

    Args:
        committer: makes payloads durable.
        limit_bytes: largest body, as sent and once inflated.
        counters: told of every payload that is answered with 4xx or 5xx.
        authenticator: asked before a body is read.
    """
    shared = _Room(
        _BODIES_HELD * limit_bytes,
        asyncio.Semaphore(_INFLATING),
        asyncio.Lock(),
        Workers(_INFLATING, "heatshield-inflate"),
        Workers(1, "heatshield-json"),
    )
    paths: dict[str, Signal] = {
        names.OTLP_TRACES_PATH: "traces",
        names.OTLP_LOGS_PATH: "logs",
        names.OTLP_METRICS_PATH: "metrics",
    }
    return [
        Route(
            path,
            _Endpoint(signal, committer, limit_bytes, counters, authenticator, shared),
            name=f"otlp {signal}",
            include_in_schema=False,
        )
        for path, signal in paths.items()
    ]


class _DisconnectedError(Exception):
    """The sender went away before its body was complete."""


@dataclass(slots=True)
class _Room:
    """What all requests share.

    Attributes:
        free_bytes: what bodies may still hold together until they go to the committer.
        inflating: held by each body that is inflated in a thread.
        converting: held by the JSON that is converted in a thread.
        inflaters, converters: the threads.
    """

    free_bytes: int
    inflating: asyncio.Semaphore
    converting: asyncio.Lock
    inflaters: Workers
    converters: Workers


@dataclass(slots=True)
class _Held:
    """The share of the room that one body holds; given back on leaving the ``with`` block."""

    room: _Room
    size: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.room.free_bytes += self.size

    def grow(self, size: int) -> None:
        self.size += size
        self.room.free_bytes -= size


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    media: Media
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """One OTLP/HTTP path as an ASGI application."""

    signal: Signal
    committer: Committer
    limit_bytes: int
    counters: Counters
    authenticator: Authenticator
    room: _Room

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["method"] != "POST":
            await _send(send, _not_allowed(scope["method"], _answer_media(headers)))
            return
        try:
            self.authenticator.authenticate(HttpCaller(scope), Scope.INGEST)
            answer = _accepted(self.signal, *await self._take(headers, receive))
        except _DisconnectedError:
            return
        except (IntakeError, AccessError) as error:
            answer = self._refused(error, headers)
        except Exception:
            _logger.exception("could not take in a payload of %s", self.signal)
            answer = self._refused(fault(), headers)
        await _send(send, answer)

    async def _take(self, headers: Headers, receive: Receive) -> tuple[Media, Accepted]:
        media = media_of(headers.get("content-type"))
        with _Held(self.room) as held:
            body = await self._read(headers, receive, held)
            coding = headers.get("content-encoding")
            if _is_quick(media, coding, len(body)):
                undone = self._protobuf(media, coding, body)
            else:
                undone = await _while_connected(receive, self._undone(media, coding, body))
        # From here on the committer's bound counts: nothing is awaited in between.
        urgent = headers.get(names.URGENT_HEADER) == "1"
        payload = Payload(
            self.signal, undone.body, urgent, left_out=undone.left_out, mended=undone.mended
        )
        return media, await self.committer.submit(payload)

    async def _undone(self, media: Media, coding: str | None, body: bytes) -> Converted:
        """The body as protobuf, made on a thread of its kind; given up when this is cancelled."""
        abandoned = threading.Event()
        work = partial(self._protobuf, media, coding, body, abandoned.is_set)
        inflates = media is Media.PROTOBUF
        try:
            async with self.room.inflating if inflates else self.room.converting:
                workers = self.room.inflaters if inflates else self.room.converters
                return await asyncio.get_running_loop().run_in_executor(workers, work)
        finally:
            abandoned.set()

    def _protobuf(
        self,
        media: Media,
        coding: str | None,
        body: bytes,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> Converted:
        if media is Media.PROTOBUF:
            return Converted(inflate(body, coding, self.limit_bytes, abandoned))
        plain = inflate(body, coding, min(self.limit_bytes, _JSON_BYTES), abandoned)
        return protobuf_from_json(self.signal, plain)

    async def _read(self, headers: Headers, receive: Receive, held: _Held) -> bytes:
        """The whole body, its size checked before and while it comes in."""
        self._check_size(_declared_bytes(headers))
        chunks: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _DisconnectedError
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            held.grow(len(chunk))
            self._check_size(held.size)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _check_size(self, size: int) -> None:
        if size > self.limit_bytes:
            raise TooLargeError(f"the request is over {self.limit_bytes} bytes")
        if self.room.free_bytes < 0:
            raise OverloadedError(_FULL_RETRY_S, "too many large requests at once")

    def _refused(self, error: IntakeError | AccessError, headers: Headers) -> _Answer:
        self.counters.refused(error.cause)
        extra: tuple[tuple[bytes, bytes], ...] = ()
        if isinstance(error, OverloadedError):
            seconds = max(1, math.ceil(error.retry_after_s))
            extra = ((b"retry-after", str(seconds).encode("ascii")),)
        elif isinstance(error, UnauthenticatedError):
            extra = ((b"www-authenticate", b"Bearer"),)
        media = _answer_media(headers)
        return _Answer(_http_status(error), media, _encode(status_of(error), media), extra)


def _is_quick(media: Media, coding: str | None, size: int) -> bool:
    """Whether a body is made protobuf on the event loop."""
    small, plain = size <= _INLINE_BYTES, is_plain(coding)
    return (small or plain) if media is Media.PROTOBUF else (small and plain)


async def _while_connected(receive: Receive, work: Coroutine[None, None, T]) -> T:
    """What ``work`` returns; it is cancelled when the sender leaves meanwhile.

    Raises:
        _DisconnectedError: the sender has left.
    """
    working = asyncio.create_task(work)
    heard = asyncio.ensure_future(receive())
    try:
        await asyncio.wait((working, heard), return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and heard.result()["type"] == "http.disconnect":
            raise _DisconnectedError
        return await working
    finally:
        heard.cancel()
        working.cancel()


def _http_status(error: IntakeError | AccessError) -> int:
    return next(_HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in _HTTP_STATUS)


def _declared_bytes(headers: Headers) -> int:
    declared = headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else 0


def _answer_media(headers: Headers) -> Media:
    """The request's encoding; JSON, which a person can read, when it is neither."""
    try:
        return media_of(headers.get("content-type"))
    except UnsupportedError:
        return Media.JSON


def _accepted(signal: Signal, media: Media, accepted: Accepted) -> _Answer:
    return _Answer(200, media, _encode(export_response(signal, accepted), media))


def _not_allowed(method: str, media: Media) -> _Answer:
    status = Status(code=code_pb2.UNIMPLEMENTED, message=f"{method[:20]} is not POST")
    return _Answer(405, media, _encode(status, media), ((b"allow", b"POST"),))


def _encode(message: Message, media: Media) -> bytes:
    if media is Media.JSON:
        text: str = json_format.MessageToJson(message, indent=None)
        return text.encode("utf-8")
    body: bytes = message.SerializeToString()
    return body


async def _send(send: Send, answer: _Answer) -> None:
    headers = [
        (b"content-type", answer.media.value.encode("ascii")),
        (b"content-length", str(len(answer.body)).encode("ascii")),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
