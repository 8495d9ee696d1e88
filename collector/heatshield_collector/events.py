"""What happens, as it happens: the hub of ``/api/events``, and a signal.

Any thread may publish; subscribers listen on an event loop. No subscriber holds up a publisher: one
that falls :data:`QUEUE_EVENTS` behind is cut off and counted, and is expected to come back.
"""

import asyncio
import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from heatshield.clock import Clock, SystemClock

__all__ = [
    "EVENTS",
    "QUEUE_EVENTS",
    "Encode",
    "EventHub",
    "HubClosedError",
    "Signal",
    "Subscription",
]

QUEUE_EVENTS: Final = 1_024
"""Events kept for one subscriber: minutes of a busy platform, some 500 KiB."""

EVENTS: Final = {
    "finding": "a finding was `opened`, `changed` (its class or action), or `closed`: data has "
    "`change`, and the rest as in `/api/findings`",
    "alert": "an alert is pending, fires or is resolved; data as in `/api/alerts`",
    "breaker": "a breaker was `opened`, `half_open`, `closed`, `cleared`, `restored` at a start, "
    "`renewed` with a change "
    "that clients see, or `refused`: data has `change`, `entry`, `version`, `by`, `text`, `reason`",
    "applied": "an instance enforces a version of the breaker state: `service`, `instance`, "
    "`applied`",
    "instance": "an instance spoke for the first time: `service`, `instance`, and `workers`, which "
    "are null where it has not reported any",
    "mode": "a person changed the platform's mode: `mode`, `by`",
}
"""What ``/api/events`` tells of, and what each event's data has beside ``at_ns``."""

MAX_SUBSCRIBERS: Final = 256
"""Pages and scripts that may listen at once; what they hold is bounded by this."""


Encode: TypeAlias = Callable[[str, object, str], bytes]
"""Writes an event down for subscribers: its name, its data and its id."""


class HubClosedError(Exception):
    """The hub takes no subscriber: it is closed, or has as many as it may."""


class Signal:
    """Wakes its subscribers when something changed; what changed they look up themselves."""

    def __init__(self) -> None:
        self._wakes: dict[int, Callable[[], None]] = {}
        self._keys = itertools.count()
        self._lock = threading.Lock()

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called at each :meth:`fire`, on the thread that fires.

        Returns:
            What ends the subscription; harmless when called twice.
        """
        with self._lock:
            key = next(self._keys)
            self._wakes[key] = wake

        def unsubscribe() -> None:
            with self._lock:
                self._wakes.pop(key, None)

        return unsubscribe

    def fire(self) -> None:
        """Wake every subscriber."""
        with self._lock:
            wakes = list(self._wakes.values())
        for wake in wakes:
            wake()


class Subscription:
    """The encoded events of one subscriber, in order. Made by :meth:`EventHub.subscribe`.

    Args:
        hub: where it is forgotten when it is closed.
        loop: the event loop on which :meth:`next` is awaited.
        limit: most events that wait.
        clock: what :meth:`next` waits on.

    Attributes:
        cut_off: it fell behind; what waited was let go.
    """

    def __init__(
        self, hub: "EventHub", loop: asyncio.AbstractEventLoop, limit: int, clock: Clock
    ) -> None:
        self.cut_off = False
        self._clock = clock
        self._hub = hub
        self._loop = loop
        self._limit = limit
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._closing = False

    @property
    def ended(self) -> bool:
        """Whether there will be no further event."""
        return self._closing and not self._waiting

    async def next(self, timeout_s: float) -> bytes | None:
        """The next event; ``None`` if there is none within ``timeout_s`` or ever."""
        ends_s = self._clock.monotonic() + timeout_s
        # A loop, for the wake of an event that was taken without waiting comes late.
        while not self._waiting and not self._closing:
            self._wake.clear()
            # A publisher appends first and wakes after; so look again before waiting.
            if self._waiting or self._closing:
                break
            if not await self._clock.wait_async(self._wake, ends_s - self._clock.monotonic()):
                break
        return self._waiting.popleft() if self._waiting else None

    def offer(self, event: bytes) -> bool:
        """Queue an event, from any thread; false if there is no room, which ends it."""
        if len(self._waiting) >= self._limit:
            self.cut_off = True
            self._waiting.clear()
            self.end()
            return False
        self._waiting.append(event)
        self._notify()
        return True

    def end(self) -> None:
        """Take no more: :attr:`ended` once what waits is taken. From any thread."""
        self._closing = True
        self._notify()

    def close(self) -> None:
        """Unsubscribe."""
        self._hub.forget(self)

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no task waits
            self._loop.call_soon_threadsafe(self._wake.set)


class EventHub:
    """Hands each published event to every subscriber.

    Args:
        encode: called once an event, however many subscribers there are.
        queue_events: most events kept for one subscriber.
        max_subscribers: most subscribers at once.
        clock: what subscribers wait on.

    Attributes:
        cut_off: subscribers that fell behind and were let go, so far.
        closing: fires when every stream, of whatever kind, is to end.
    """

    def __init__(
        self,
        encode: Encode,
        queue_events: int = QUEUE_EVENTS,
        max_subscribers: int = MAX_SUBSCRIBERS,
        clock: Clock | None = None,
    ) -> None:
        self._encode = encode
        self._clock = clock or SystemClock()
        self.cut_off = 0
        self.closing = Signal()
        self._queue_events = queue_events
        self._max_subscribers = max_subscribers
        self._subscriptions: dict[Subscription, None] = {}  # in the order they came
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether streams are to end."""
        return self._closed

    @property
    def subscribers(self) -> int:
        """How many subscribers there are."""
        return len(self._subscriptions)

    def publish(self, name: str, data: object) -> None:
        """Tell every subscriber. Never blocks.

        Args:
            name: one of :data:`EVENTS`.
            data: a JSON object with ``at_ns``.
        """
        with self._lock:
            event_id = next(self._ids)
            if not self._subscriptions:
                return
            event = self._encode(name, data, str(event_id))
            behind = [one for one in self._subscriptions if not one.offer(event)]
            for one in behind:
                del self._subscriptions[one]
            self.cut_off += len(behind)

    def subscribe(self) -> Subscription:
        """Listen from now on; to be called on the loop that will iterate.

        Raises:
            HubClosedError: when it is closed or full.
        """
        subscription = Subscription(
            self, asyncio.get_running_loop(), self._queue_events, self._clock
        )
        with self._lock:
            if self._closed:
                raise HubClosedError("the collector is shutting down")
            if len(self._subscriptions) >= self._max_subscribers:
                raise HubClosedError(f"{self._max_subscribers} listen already; come back later")
            self._subscriptions[subscription] = None
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Publish no more to this subscriber."""
        with self._lock:
            self._subscriptions.pop(subscription, None)

    def close(self) -> None:
        """End every stream, those that hang on :attr:`closing` too; the server goes down."""
        with self._lock:
            self._closed = True
            subscriptions = list(self._subscriptions)
            self._subscriptions.clear()
        for subscription in subscriptions:
            subscription.end()
        self.closing.fire()
