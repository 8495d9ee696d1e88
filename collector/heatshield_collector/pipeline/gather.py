"""The first stage: a queue bounded in bytes, and when the next group of payloads is due.

A group has a fixed cost, so payloads that come one by one are let gather for a moment. A group is
due at once when much or something urgent waits, or when the last one began long enough ago.
"""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Final

from heatshield.clock import Clock
from heatshield_collector.intake.ack import Ack
from heatshield_collector.intake.payload import OverloadedError, Payload
from heatshield_collector.pipeline.group import BUSY_RETRY_S, Waiting

__all__ = [
    "GROUP_BYTES",
    "GROUP_INTERVAL_S",
    "HURRY_BYTES",
    "IDLE_S",
    "URGENT_INTERVAL_S",
    "GatherQueue",
]

GROUP_BYTES: Final = 8 * 2**20
"""Most payload bytes decoded at once: some 20,000 spans, 0.2 s of work."""

GROUP_INTERVAL_S: Final = 0.05
"""Least time between the starts of two groups, unless much or something urgent waits: a group has a
fixed cost of some 10 ms of processor time, and an idle platform's payloads come one by one. So an
idle collector takes a fifth of a core at most."""

URGENT_INTERVAL_S: Final = 0.01
"""The same for a payload that its sender calls urgent; a bound, since senders may call everything
urgent."""

HURRY_BYTES: Final = 256 * 1024
"""What is much: a group of this size starts at once."""

IDLE_S: Final = 1.0
"""Seconds without a payload after which charges that wait for later spans are settled."""


class GatherQueue:
    """Payloads that are not durable yet; those that are not taken yet in the order they came.

    Args:
        clock: what :meth:`take` waits on.
        limit_bytes: most payload bytes that are not yet durable; beyond it senders are refused.
    """

    def __init__(self, clock: Clock, limit_bytes: int) -> None:
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._changed = threading.Condition()
        self._waiting: list[Waiting] = []
        self._waiting_bytes = 0
        self._urgent = False
        self._held_bytes = 0
        self._closed = False
        self._group_began_s = -math.inf

    @property
    def held_bytes(self) -> int:
        """Payload bytes that are not yet durable: taken or not."""
        return self._held_bytes

    def offer(self, payload: Payload, ack: Ack) -> None:
        """Queue a payload.

        Raises:
            OverloadedError: there is no room, or the queue is closed; the ack is left alone.
        """
        waiting = Waiting(payload, ack, self._clock.monotonic())
        with self._changed:
            if self._closed:
                raise OverloadedError(BUSY_RETRY_S, "the collector is shutting down")
            # An empty queue takes any payload, or one over the bound could never be sent.
            if self._held_bytes and self._held_bytes + waiting.size > self._limit_bytes:
                raise OverloadedError(BUSY_RETRY_S, "the commit queue is full")
            self._held_bytes += waiting.size
            self._waiting_bytes += waiting.size
            self._urgent |= payload.urgent
            self._waiting.append(waiting)
            self._changed.notify()

    def take(self) -> list[Waiting] | None:
        """Wait until a group is due, and take it.

        Returns:
            The payloads of the group; none when no payload came for :data:`IDLE_S`; ``None`` when
            the queue is closed and empty.
        """
        with self._changed:
            self._wait_for(lambda: bool(self._waiting) or self._closed, IDLE_S)
            if not self._waiting:
                return None if self._closed else []
            self._wait_for(lambda: self._urgent or self._is_due(), self.due_in_s())
            self._wait_for(self._is_due, self.due_in_s())  # what came may be urgent
            return self._cut()

    def take_now(self) -> list[Waiting]:
        """Take a group of what is queued without waiting; none if nothing is."""
        with self._changed:
            return self._cut()

    def due_in_s(self) -> float:
        """Seconds until a group of what is queued is due; at most 0 when it is."""
        # Bytes that wait for the disk don't count here: each payload would make a group of its own.
        if self._closed or self._waiting_bytes >= HURRY_BYTES:
            return 0.0
        interval_s = URGENT_INTERVAL_S if self._urgent else GROUP_INTERVAL_S
        return self._group_began_s + interval_s - self._clock.monotonic()

    def release(self, waiting: Sequence[Waiting]) -> None:
        """Give back the room of taken payloads that are about to be answered."""
        with self._changed:
            self._held_bytes -= sum(one.size for one in waiting)

    def close(self) -> None:
        """Queue no more payloads; :meth:`take` gives what is queued, then ``None``."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _wait_for(self, holds: Callable[[], bool], seconds: float) -> None:
        self._clock.wait_for(self._changed, holds, seconds)

    def _is_due(self) -> bool:
        return self.due_in_s() <= 0

    def _cut(self) -> list[Waiting]:
        self._group_began_s = self._clock.monotonic()
        taken, size = 0, 0
        while taken < len(self._waiting) and size < GROUP_BYTES:
            size += self._waiting[taken].size
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._waiting_bytes -= size
        self._urgent = any(one.payload.urgent for one in self._waiting)
        return group
