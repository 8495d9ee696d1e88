"""``POST /v1/charges``: what processes say that their users cost.

The endpoint speaks ASGI itself, as :mod:`heatshield_collector.intake.http` does: each of thousands
of processes sends five reports a second. The event loop only collects the bytes; a thread inflates,
parses and counts them, many at once, and then the sender is answered::

    200 {"counted": true}     false: it came before
    4xx 503 {"error": "..."}  503 with Retry-After: send it again
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import orjson
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from heatshield import names
from heatshield.charge_report import ChargeReport
from heatshield.json_fields import ContractError
from heatshield_collector.http_caller import HttpCaller
from heatshield_collector.intake.content import Media, inflate, media_of
from heatshield_collector.intake.payload import (
    Counters,
    IntakeError,
    MalformedError,
    OverloadedError,
    TooLargeError,
    UnsupportedError,
)
from heatshield_collector.ports import AccessError, Authenticator, Scope, UnauthenticatedError

__all__ = ["LIMIT_BYTES", "ReportTaker", "charge_routes", "report_of"]

LIMIT_BYTES: Final = 512 * 1024
"""Largest report, as sent and once inflated. One of 64 pairs has some 20 kB."""

UNFINISHED_BYTES: Final = 16 * 2**20
"""Most bytes that bodies may hold together while they come in; beyond it, 503. Otherwise many slow
senders fill the memory before the bounded queue ever sees them."""

_FULL_RETRY_S: Final = 1.0

_STATUS: Final[dict[type[Exception], int]] = {
    UnauthenticatedError: 401,
    AccessError: 403,
    MalformedError: 400,
    TooLargeError: 413,
    UnsupportedError: 415,
    OverloadedError: 503,
}

_log = logging.getLogger(__name__)


class ReportTaker(Protocol):
    """Counts charge reports (:class:`heatshield_collector.pipeline.ReportPipeline`)."""

    async def submit(self, size: int, read: Callable[[], ChargeReport]) -> bool:
        """Have a report read and counted on another thread.

        Args:
            size: bytes of it that wait.
            read: makes the report of them; may raise :class:`IntakeError`.

        Returns:
            Whether it was counted: it had not come before.

        Raises:
            IntakeError: as ``read`` raised it, or there is no room.
        """
        ...


def charge_routes(
    taker: ReportTaker, counters: Counters, authenticator: Authenticator
) -> list[BaseRoute]:
    """The route, to be mounted in a Starlette or FastAPI application.

    Args:
        taker: counts what comes.
        counters: told of every report that is answered with 4xx or 5xx.
        authenticator: asked before a body is read.
    """
    endpoint = _Endpoint(taker, counters, authenticator, _Room())
    return [Route(names.CHARGES_PATH, endpoint, name="charges", include_in_schema=False)]


def report_of(body: bytes, coding: str | None = None) -> ChargeReport:
    """The report that a body is.

    Raises:
        MalformedError: it is none; says what is wrong.
        TooLargeError: it is over :data:`LIMIT_BYTES` once inflated.
        UnsupportedError: the content coding is unknown.
    """
    try:
        return ChargeReport.from_json(orjson.loads(inflate(body, coding, LIMIT_BYTES)))
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"the body is not JSON: {error}") from error
    except ContractError as error:
        raise MalformedError(str(error)) from error


class _DisconnectedError(Exception):
    """The sender went away before its body was complete."""


@dataclass(slots=True)
class _Room:
    """What all requests share: the bytes that unfinished bodies may still hold."""

    free_bytes: int = UNFINISHED_BYTES


@dataclass(frozen=True, slots=True)
class _Endpoint:
    taker: ReportTaker
    counters: Counters
    authenticator: Authenticator
    room: _Room

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            text = f"{scope['method'][:20]} is not for {names.CHARGES_PATH}; it takes POST"
            await _answer(send, 405, {"error": text}, (b"allow", b"POST"))
            return
        headers = Headers(scope=scope)
        try:
            self.authenticator.authenticate(HttpCaller(scope), Scope.INGEST)
            _check_media(headers)
            body = await _body(headers, receive, self.room)
            read = partial(report_of, body, headers.get("content-encoding"))
            counted = await self.taker.submit(len(body), read)
        except _DisconnectedError:
            return
        except (IntakeError, AccessError) as error:
            self.counters.refused(error.cause)
            await _refuse(send, error)
            return
        except Exception:  # noqa: BLE001 - the sender is answered
            _log.exception("could not take in a charge report")
            self.counters.refused(IntakeError.cause)
            await _answer(send, 500, {"error": "internal error; the collector's log has it"})
            return
        await _answer(send, 200, {"counted": counted})


def _check_media(headers: Headers) -> None:
    if media_of(headers.get("content-type")) is not Media.JSON:
        raise UnsupportedError("a charge report is application/json")


async def _body(headers: Headers, receive: Receive, room: _Room) -> bytes:
    """The whole body, its size checked before and while it comes in."""
    declared = headers.get("content-length", "")
    _check_size(int(declared) if declared.isascii() and declared.isdigit() else 0)
    chunks: list[bytes] = []
    size, more = 0, True
    try:
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _DisconnectedError
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(chunk)
            room.free_bytes -= len(chunk)
            _check_size(size)
            if room.free_bytes < 0:
                raise OverloadedError(_FULL_RETRY_S, "too many unfinished reports at once")
            chunks.append(chunk)
    finally:
        room.free_bytes += size
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_size(size: int) -> None:
    if size > LIMIT_BYTES:
        raise TooLargeError(f"the report is over {LIMIT_BYTES} bytes")


async def _refuse(send: Send, error: IntakeError | AccessError) -> None:
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    extra: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, OverloadedError):
        seconds = max(1, math.ceil(error.retry_after_s))
        extra = ((b"retry-after", b"%d" % seconds),)
    elif isinstance(error, UnauthenticatedError):
        extra = ((b"www-authenticate", b"Bearer"),)
    await _answer(send, status, {"error": str(error)}, *extra)


async def _answer(
    send: Send, status: int, said: dict[str, object], *extra: tuple[bytes, bytes]
) -> None:
    text = orjson.dumps(said)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(text)),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
