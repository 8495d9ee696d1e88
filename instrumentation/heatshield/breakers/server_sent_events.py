"""Server-sent events (the HTML standard, 9.2.6), sans-io: feed bytes as they come, get events.

At most :data:`MAX_EVENT_BYTES` are kept; a stream that needs more is broken and raises
``ContractError``.
"""

from typing import Final, NamedTuple

from heatshield.contract import ContractError

__all__ = ["Event", "Events"]

MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
"""A snapshot of the most entries a client accepts is far smaller."""


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    data: str
    id: str


class Events:
    """Decodes server-sent events."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._name = ""
        self._data: list[str] = []
        self._held = 0
        self._id = ""

    def feed(self, payload: bytes) -> list[Event]:
        """The events that ``payload`` completes.

        Raises:
            ContractError: if an event is larger than a client keeps.
        """
        self._buffer += payload
        *lines, rest = bytes(self._buffer).replace(b"\r\n", b"\n").split(b"\n")
        self._buffer = bytearray(rest)
        events = [event for line in lines if (event := self._line(line)) is not None]
        if len(self._buffer) + self._held > MAX_EVENT_BYTES:
            raise ContractError("an event is too large")
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
            self._held += len(line)
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> Event | None:
        event = Event(self._name or "message", "\n".join(self._data), self._id)
        complete = bool(self._name or self._data)
        self._name, self._data, self._held = "", [], 0
        return event if complete else None
