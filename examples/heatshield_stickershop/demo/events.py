"""Reads the collector's event stream, ``GET /api/events``, as values."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from heatshield.contract import StateVersion

__all__ = ["Event", "EventLines", "listen"]

SILENCE_S: Final = 30.0
"""Seconds without a byte after which the collector is gone: it sends heartbeats far more often."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event.

    Attributes:
        name: finding, alert, breaker, applied, instance or mode.
        data: its JSON object.
    """

    name: str
    data: Mapping[str, Any]

    @property
    def at_ns(self) -> int:
        """When it happened, by the collector's wall clock, in nanoseconds since the Unix epoch."""
        return int(self.data["at_ns"])

    def opens(self, user: str) -> bool:
        """Whether a breaker around a call of this user opened."""
        return self._changes(user, "opened")

    def refuses(self, user: str) -> bool:
        """Whether a breaker around a call of this user refuses it from now on."""
        at_once = self.opens(user) and self.data["entry"].get("mode", "reject") == "reject"
        return at_once or self._changes(user, "escalated")

    def _changes(self, user: str, change: str) -> bool:
        if self.name != "breaker" or self.data["change"] != change:
            return False
        return bool(self.data["entry"]["user"] == user)

    @property
    def version(self) -> StateVersion:
        """The breaker state's version that this event made or, for ``applied``, acknowledged."""
        return StateVersion.parse(self.data["applied" if self.name == "applied" else "version"])


class EventLines:
    """Reads server-sent events, line by line: no I/O. Comments and unknown fields are skipped."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Iterator[Event]:
        """Feed one line without its newline; yields an event if the line ends one."""
        if line:
            field, _, value = line.partition(":")
            if field == "event":
                self._name = value.removeprefix(" ")
            elif field == "data":
                self._data.append(value.removeprefix(" "))
            return
        if self._name and self._data:
            data = json.loads("\n".join(self._data))
            if isinstance(data, dict) and "at_ns" in data:
                yield Event(self._name, data)
        self._name, self._data = "", []


async def listen(client: httpx.AsyncClient, listening: Callable[[], None]) -> AsyncIterator[Event]:
    """Yield the collector's events from now on; ``listening`` is called once none can be missed.

    Raises:
        httpx.HTTPError: if the collector refuses or goes away.
    """
    lines = EventLines()
    timeout = httpx.Timeout(5.0, read=SILENCE_S)
    async with client.stream("GET", "/api/events", timeout=timeout) as response:
        response.raise_for_status()
        listening()
        async for line in response.aiter_lines():
            for event in lines.feed(line):
                yield event
