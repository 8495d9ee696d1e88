"""Bytes of the breaker stream to events: chunked transfer coding, then server-sent events.

Both codecs are sans-io: feed bytes in whatever pieces they come, get what is complete. They keep
at most :data:`MAX_EVENT_BYTES`; a stream that needs more is broken and raises ``ContractError``.

Chunked coding is RFC 9112, 7.1; server-sent events are the HTML standard's, 9.2.6.
"""

from typing import Final, NamedTuple

from heatshield.contract import ContractError

__all__ = ["Chunks", "Event", "Events"]

MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
"""A snapshot of the most entries a client accepts is far smaller."""

MAX_SIZE_LINE: Final = 1_024
"""Bytes of a chunk's size line with its extensions."""


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    data: str
    id: str


class Chunks:
    """Decodes chunked transfer coding. ``ended`` turns true with the last chunk."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """The payload that ``data`` completes.

        Raises:
            ContractError: if a size line is not one.
        """
        self._buffer += data
        payload = bytearray()
        while self._buffer and not self.ended:
            if self._left == 0 and not self._read_size():
                break
            if self.ended:
                break
            part = self._buffer[: self._left]
            del self._buffer[: len(part)]
            self._left -= len(part)
            payload += part
        return bytes(payload)

    def _read_size(self) -> bool:
        """Read one size line, skipping the line break that ends the chunk before it."""
        if self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
        line, found, _ = self._buffer.partition(b"\n")
        if not found:
            if len(line) > MAX_SIZE_LINE:
                raise ContractError("a chunk's size line is too long")
            return False
        del self._buffer[: len(line) + 1]
        digits = bytes(line).split(b";")[0].strip()
        try:
            self._left = int(digits, 16)
        except ValueError as error:
            raise ContractError(f"a chunk has no size: {bytes(line[:32])!r}") from error
        if self._left < 0:
            raise ContractError("a chunk has a negative size")
        self.ended = self._left == 0
        return True


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
