"""Server-sent events: how one is written, and a response of them that cuts off stalled clients."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import orjson
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from heatshield.clock import Clock, SystemClock

__all__ = ["EVENTS_BEGIN", "PING", "PING_S", "STALL_S", "EventStream", "Waker", "encode_event"]

PING_S: Final = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection open."""

PING: Final = b":\n\n"

STALL_S: Final = 10.0
"""Seconds a subscriber may leave a full socket buffer unread before it is cut off."""


_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""X-Accel-Buffering asks nginx not to hold events back."""

EVENTS_BEGIN: Final[Message] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        *((name.lower().encode(), text.encode()) for name, text in _HEADERS.items()),
    ],
}
"""Begins a response of events that speaks ASGI itself, as :class:`EventStream` does."""


def encode_event(name: str, data: object, event_id: str | None = None) -> bytes:
    """One server-sent event, its data as JSON on one line.

    Args:
        name: the event's type.
        data: anything orjson writes; what it doesn't know is written as text.
        event_id: what a client sends back as ``Last-Event-ID``.
    """
    text = orjson.dumps(data, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return format_sse_event(data_str=text, event=name, id=event_id)


class EventStream(StreamingResponse):
    """Server-sent events until the events end, the client leaves or the client stalls.

    Args:
        events: encoded events.
        ended: called once, however it ends, also when it never began.
        stall_s: seconds one event may take to be sent.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncIterator[bytes], ended: Callable[[], object], stall_s: float = STALL_S
    ) -> None:
        super().__init__(events, headers=_HEADERS)
        self._ended = ended
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""

        async def send_or_stall(message: Message) -> None:
            async with asyncio.timeout(self._stall_s):
                await send(message)

        try:
            await super().__call__(scope, receive, send_or_stall)
        except TimeoutError:
            return  # the response is left unfinished, so the server closes the connection
        finally:
            self._ended()


class Waker:
    """Wakes one coroutine from any thread; wakes that come together count as one.

    Made on the loop of that coroutine.

    Args:
        subscribes: each is handed :meth:`wake` and returns what ends its subscription.
        clock: what :meth:`wait` waits on.
    """

    def __init__(
        self,
        *subscribes: Callable[[Callable[[], None]], Callable[[], None]],
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._unsubscribes = [subscribe(self.wake) for subscribe in subscribes]

    def wake(self) -> None:
        """End the current :meth:`wait`, or the next one at once."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout_s: float) -> None:
        """Return when woken, at the latest after ``timeout_s``."""
        try:
            await self._clock.wait_async(self._event, timeout_s)
        finally:
            self._event.clear()

    def close(self) -> None:
        """End the subscriptions."""
        for unsubscribe in self._unsubscribes:
            unsubscribe()
