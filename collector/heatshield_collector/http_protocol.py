"""HTTP on one connection, with bounds that uvicorn's own protocol has not.

Bounded are what a request has beside its body, the time for it, silence within a body, an answer
that is not read, and how many connections one peer holds. Without them 60 MB of headers cost
seconds of processor time, and 1,200 silent connections kept everybody else out.

::

    connection ──→ head ──→ body ──→ answer ──→ idle ──→ head ...
                  HEAD_S   SILENCE_S  SILENCE_S  uvicorn's keep-alive
                            BODY_S
"""

import asyncio
from collections import Counter
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

__all__ = ["BODY_S", "HEAD_S", "MAX_HEAD_BYTES", "SILENCE_S", "BoundedProtocol", "Connections"]

MAX_HEAD_BYTES: Final = 64 * 1024
"""Most bytes of a request line and headers, and of a body's framing beyond its own size: 4 to 8 kB
are usual in servers, cookies and tokens of some platforms are larger."""

HEAD_S: Final = 15.0
"""Seconds for a request line and headers, from the connection or their first byte."""

SILENCE_S: Final = 30.0
"""Seconds in which nothing of a body comes, or nothing of an answer is read, before the connection
is closed. Exporters wait 10 s for an answer."""

BODY_S: Final = 300.0
"""Seconds for a whole body."""

_STEP_BYTES: Final = 16 * 1024
"""Bytes that are parsed before what a head has taken is looked at."""


class Connections(ServerState):
    """What all connections of a server share.

    Args:
        most: connections at once; further ones are answered 503.
        most_per_peer: connections of one address.
    """

    def __init__(self, most: int, most_per_peer: int) -> None:
        super().__init__()
        self.most = most
        self.most_per_peer = most_per_peer
        self.by_peer: Counter[str] = Counter()


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    server_state: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._peer: str | None = None
        self._in_head = True
        self._since_begin = 0
        self._of_body = 0
        self._heard = False
        self._refused = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many."""
        super().connection_made(transport)
        shared = self.server_state
        self._peer = self.client[0] if self.client else ""
        shared.by_peer[self._peer] += 1
        if shared.by_peer[self._peer] > shared.most_per_peer:
            self._refuse(b"503 Service Unavailable", b"too many connections of this address")
        elif len(self.connections) > shared.most:
            self._refuse(b"503 Service Unavailable", b"too many connections")
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_timers()
        if self._peer is not None:
            self.server_state.by_peer[self._peer] -= 1
            if not self.server_state.by_peer[self._peer]:
                del self.server_state.by_peer[self._peer]
            self._peer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head step by step, so that it can't grow beyond its bound."""
        self._heard = True
        at = 0
        while at < len(data) and not self._is_over():
            if self._in_head:
                step = data[at : at + _STEP_BYTES]
                if self._head_timer is None and not self._is_answering():
                    self._await_head()
            else:
                step = data[at:] if at else data
            at += len(step)
            self._since_begin += len(step)
            super().data_received(step)
            if self._since_begin - self._of_body > MAX_HEAD_BYTES + self._of_body:
                self._refuse(
                    b"431 Request Header Fields Too Large",
                    b"a request may have 64 KiB beside its body",
                )

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head = True
        self._since_begin = self._of_body = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its body begins."""
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._await_body(self.loop.time() + BODY_S)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        self._of_body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It has ended."""
        self._in_head = True
        self._since_begin = self._of_body = 0
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The peer reads more slowly than is written."""
        super().pause_writing()
        if self._write_timer is None:
            self._await_reader()

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _is_over(self) -> bool:
        return self._refused or self.transport.is_closing()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._end_late_head)

    def _end_late_head(self) -> None:
        self._head_timer = None
        if not self._is_over():
            self._refuse(b"408 Request Timeout", b"the request did not come")

    def _await_body(self, until_s: float) -> None:
        self._heard = False
        self._body_timer = self.loop.call_later(SILENCE_S, self._look_after_body, until_s)

    def _look_after_body(self, until_s: float) -> None:
        """End a body of which nothing came; where reading is paused, nothing could."""
        late = self.loop.time() >= until_s
        if late or not (self._heard or self.flow.read_paused):
            self.transport.abort()
        else:
            self._await_body(until_s)

    def _await_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(SILENCE_S, self._look_after_answer, left)

    def _look_after_answer(self, left: int) -> None:
        """End an answer of which nothing was read; writing is resumed only once most of it was."""
        if self.transport.get_write_buffer_size() >= left:
            self.transport.abort()
        else:
            self._await_reader()

    def _refuse(self, status: bytes, text: bytes) -> None:
        """Answer and close; a request that is being answered is cut instead."""
        self._refused = True
        self._stop_timers()
        if self._is_answering():
            self.transport.abort()
            return
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
            b"retry-after: 1\r\nconnection: close\r\n\r\n%b" % (status, len(text), text)
        )
        self.transport.close()

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._body_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._body_timer = self._write_timer = None
