"""One task that tells every watching client of the breaker state.

Thousands of clients watch one collector. What each would do for itself (look what is new, encode
it, count down to its heartbeat) is done once here, for all; a client keeps its version and the
coroutine that writes to it.

::

    change ──→ Fanout ── the same bytes ──→ Watcher ──→ its socket
    2 s    ──→   │                      ──→ Watcher ──→ its socket
                 └── a watcher that still writes is passed over: it asks when it has written

No watcher has a queue: what it is told is what leads from its own version to the newest, so a slow
client gets many changes as one.
"""

import asyncio
import logging
from collections import deque
from typing import Final

from heatshield.clock import Clock
from heatshield.contract import HEARTBEAT_S, StateVersion
from heatshield_collector.api.breaker_events import BreakerEvents
from heatshield_collector.api.stream import STALL_S, Waker
from heatshield_collector.events import EventHub, HubClosedError
from heatshield_collector.ports import BreakerService, Signs

__all__ = ["Fanout", "Watcher"]

_log = logging.getLogger(__name__)

SLICE: Final = 200
"""Watchers that are told at once, before whatever else waits for the event loop has its turn: some
4 ms. All 10,000 at once took half as much processor time again, since what is touched for one is no
longer in the processor's cache when it is written to."""

TICK_S: Final = 0.02
"""Seconds between two looks at whose heartbeat is due: a timer for each of thousands of clients
would cost more than the heartbeats."""

_AT_ONCE: Final = 64
"""Heartbeats of one look, at the least; see :meth:`Fanout._beat`."""


class Watcher:
    """One client's stream. Made by :meth:`Fanout.join`.

    Args:
        fanout: what tells it.
        at: the version the client is at; ``None`` when it has none.
        now_s: the time.

    Attributes:
        at: the version the client is at once what it was told is written.
        told_s: when it was told something last.
        due_s: when its next heartbeat is due.
        ended: whether it is told nothing more.
        patience: ends the response of a client that does not read.
    """

    __slots__ = ("_begins", "_fanout", "_told", "at", "due_s", "ended", "patience", "told_s")

    def __init__(self, fanout: "Fanout", at: StateVersion | None, now_s: float) -> None:
        self.at = at
        self.told_s = now_s
        self.due_s = now_s + HEARTBEAT_S
        self.ended = False
        self.patience = asyncio.timeout(None)
        self._begins = True
        self._fanout = fanout
        self._told: asyncio.Future[bytes | None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether everything that it was told is written."""
        return self._told is not None and not self._told.done()

    async def next(self) -> bytes | None:
        """The next event, once the one before was written; ``None``: there are no more."""
        if self.ended:
            return None
        if self._begins or self._fanout.is_news_to(self):
            self._begins = False
            return self._fanout.event_for(self)
        self._told = asyncio.get_running_loop().create_future()
        return await self._told

    def tell(self, event: bytes | None) -> None:
        """End its wait for an event."""
        if self._told is not None and not self._told.done():
            self._told.set_result(event)

    def end(self) -> None:
        """Have it end once what it was told is written."""
        self.ended = True
        self.tell(None)

    def cut_off(self) -> None:
        """End it although something is not written."""
        self.ended = True
        self.patience.reschedule(0)


class Fanout:
    """Tells all watchers. For one event loop at a time.

    Args:
        breakers: the state that is watched.
        hub: its closing ends every stream.
        clock: counts heartbeats and stalls.
        signer: signs the state, if it is to be signed.
    """

    def __init__(
        self, breakers: BreakerService, hub: EventHub, clock: Clock, signer: Signs | None = None
    ) -> None:
        self._breakers = breakers
        self._events = BreakerEvents(breakers, signer)
        self._hub = hub
        self._clock = clock
        self._watchers: dict[Watcher, None] = {}
        self._due: deque[Watcher] = deque()
        self._task: asyncio.Task[None] | None = None
        self._waker: Waker | None = None
        self._told_at: StateVersion | None = None

    def __len__(self) -> int:
        return len(self._watchers)

    def join(self, at: StateVersion | None) -> Watcher:
        """A stream for a client that is at ``at``; it is to be awaited on this loop.

        Raises:
            HubClosedError: when the collector shuts down.
        """
        if self._hub.closed:
            raise HubClosedError("the collector is shutting down")
        watcher = Watcher(self, at, self._clock.monotonic())
        self._watchers[watcher] = None
        self._due.append(watcher)
        if self._waker is None:
            self._waker = Waker(
                self._breakers.subscribe, self._hub.closing.subscribe, clock=self._clock
            )
            self._task = asyncio.create_task(self._run(self._waker))
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a stream; harmless when called twice."""
        watcher.end()
        self._watchers.pop(watcher, None)
        if not self._watchers and self._waker is not None:
            self._waker.wake()

    def is_news_to(self, watcher: Watcher) -> bool:
        """Whether the state is another than the watcher's client knows."""
        return watcher.at != self._breakers.at()

    def event_for(self, watcher: Watcher) -> bytes:
        """What the watcher's client is to be told, which counts as told."""
        event, watcher.at = self._events.next(watcher.at)
        watcher.told_s = self._clock.monotonic()
        return event

    async def _run(self, waker: Waker) -> None:
        try:
            while self._watchers and not self._hub.closed:
                await self._tell()
                self._beat()
                await waker.wait(self._quiet_s())
        except Exception:  # noqa: BLE001 - it ends every stream, and so it is said
            _log.exception("the breaker stream failed; its clients come back")
        finally:
            waker.close()
            self._waker = self._task = None
            for watcher in self._watchers:
                watcher.end()
            self._watchers.clear()
            self._due.clear()

    async def _tell(self) -> None:
        """Tell every watcher of a change; what changes meanwhile is told in the next round."""
        at = self._breakers.at()
        if at == self._told_at:
            return
        self._told_at = at
        for number, watcher in enumerate(list(self._watchers), 1):
            if watcher.is_waiting and self.is_news_to(watcher):
                watcher.tell(self.event_for(watcher))
            if number % SLICE == 0:
                await asyncio.sleep(0)

    def _beat(self) -> None:
        """Send the heartbeats that are due, and give up clients that don't read.

        After a stall of the loop thousands are due together; a bound on how many go out at once,
        twice what is usual, spreads them again.
        """
        now_s = self._clock.monotonic()
        most = max(_AT_ONCE, round(2 * len(self._due) * TICK_S / HEARTBEAT_S))
        while most and self._due and self._due[0].due_s <= now_s:
            most -= 1
            watcher = self._due.popleft()
            if watcher.ended:
                continue
            if watcher.is_waiting:
                watcher.tell(self.event_for(watcher))
            elif now_s - watcher.told_s >= STALL_S:
                watcher.cut_off()
                continue
            watcher.due_s = now_s + HEARTBEAT_S
            self._due.append(watcher)

    def _quiet_s(self) -> float:
        """Seconds until a heartbeat is due."""
        if not self._due:  # the last one was cut off, and is about to leave
            return HEARTBEAT_S
        return max(TICK_S, self._due[0].due_s - self._clock.monotonic())
