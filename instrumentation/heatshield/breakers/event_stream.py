"""The open breaker stream: events as they arrive, until it falls silent."""

from typing import Final
from urllib.parse import urlencode

from heatshield.breakers.server_sent_events import Event, Events
from heatshield.clock import Clock
from heatshield.contract import SILENCE_S, StateVersion
from heatshield.export.answer import Unreachable
from heatshield.export.connection import Connection
from heatshield.export.stream import Wakeable
from heatshield.names import BREAKER_STREAM_PATH

__all__ = ["EventStream"]

CONNECT_TIMEOUT_S: Final = 3.0
"""Seconds for connecting and for the response's head; half of the silence that means reconnect."""


class EventStream:
    """An open stream of events.

    Args:
        connection: to the collector; the stream gets a socket of its own.
        query: names the listener: service, instance.
        last: the version held, so that the collector may answer with what is missing only.
        clock: measures the silence.

    Raises:
        Unreachable: if there is no stream to be had.
    """

    def __init__(
        self,
        connection: Connection,
        query: dict[str, str],
        last: StateVersion | None,
        clock: Clock,
    ) -> None:
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        if last is not None:
            headers["last-event-id"] = str(last)
        self._clock = clock
        self._events = Events()
        self._stream = connection.open_stream(
            f"{BREAKER_STREAM_PATH}?{urlencode(query)}",
            headers=headers,
            timeout_s=CONNECT_TIMEOUT_S,
        )
        self._heard_at = clock.monotonic()

    def wait(self, timeout_s: float, wake: Wakeable) -> list[Event]:
        """Events that arrive within ``timeout_s``, none if time is up or ``wake`` is readable.

        Raises:
            Unreachable: if the stream has ended or broken, or brought no event for ``SILENCE_S``.
            ContractError: if it is not a stream of events.
        """
        silent_at = self._heard_at + SILENCE_S
        data = self._stream.wait(min(timeout_s, silent_at - self._clock.monotonic()), wake)
        events = self._events.feed(data)
        now = self._clock.monotonic()
        if events:
            self._heard_at = now
        elif now >= silent_at:
            raise Unreachable("the stream fell silent")
        return events

    def leave_to_parent(self) -> None:
        """In a child process: let go of the connection, which goes on being the parent's."""
        self._stream.leave_to_parent()

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()
