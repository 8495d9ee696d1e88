"""What many watching clients report of a change, each on a connection of its own for a moment; for
:mod:`watching_clients`, on whose selector it is.
"""

import heapq
import json
import selectors
import socket
import time
from dataclasses import dataclass
from typing import Final

from heatshield.breakers.reports import place_of
from heatshield.contract import Report, StateVersion
from heatshield.names import BREAKER_REPORT_PATH

__all__ = ["OnItsWay", "Reported", "VersionReports"]

AT_ONCE: Final = 2_000
"""Reports on their way at once, at most."""

_READ_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class Reported:
    """How many reports were answered 200, how many otherwise, and when the last was."""

    answered: int
    failed: int
    last_s: float


@dataclass(slots=True, eq=False)
class OnItsWay:
    """A report that is not answered, and what is still to be sent of it."""

    socket: socket.socket
    request: bytes


class VersionReports:
    """Sends a report for each change that a client was told of, spread as the instrumentation does.

    Args:
        selector: the connections are on it; what is ready goes to :meth:`go_on`.
        address: of the collector.
        sources: addresses of loopback that they come from.

    Attributes:
        spread_s: over how long they are spread; ``None``: none is sent.
    """

    def __init__(
        self, selector: selectors.BaseSelector, address: tuple[str, int], sources: int
    ) -> None:
        self._selector, self._address, self._sources = selector, address, sources
        self._due: list[tuple[float, int, StateVersion]] = []  # a heap
        self._under_way = 0
        self._told = Reported(0, 0, 0.0)
        self.spread_s: float | None = None

    @property
    def busy(self) -> bool:
        """Whether any is due or on its way."""
        return bool(self._due or self._under_way)

    def note(self, number: int, at: StateVersion, now_s: float) -> None:
        """A client has this version now."""
        if self.spread_s is not None:
            due_s = now_s + self.spread_s * place_of(f"i-{number}")
            heapq.heappush(self._due, (due_s, number, at))

    def send_due(self) -> float | None:
        """Send what is due; seconds until the next one, ``None``: wait for answers."""
        now_s = time.monotonic()
        while self._due and self._due[0][0] <= now_s and self._under_way < AT_ONCE:
            _, number, at = heapq.heappop(self._due)
            self._send(number, at)
        if not self._due or self._under_way >= AT_ONCE:
            return None
        return max(0.0, self._due[0][0] - now_s)

    def _send(self, number: int, at: StateVersion) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        if self._sources > 1:
            connection.bind((f"127.0.0.{1 + number % self._sources}", 0))
        connection.connect_ex(self._address)
        body = json.dumps(Report("bench", f"i-{number}", 1, at).to_json())
        request = (
            f"POST {BREAKER_REPORT_PATH} HTTP/1.1\r\nhost: {self._address[0]}\r\n"
            "content-type: application/json\r\nconnection: close\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}"
        )
        one = OnItsWay(connection, request.encode())
        self._selector.register(connection, selectors.EVENT_WRITE, one)
        self._under_way += 1

    def go_on(self, one: OnItsWay) -> None:
        """It can be sent, or its answer is there."""
        try:
            if one.request:
                one.socket.sendall(one.request)
                one.request = b""
                self._selector.modify(one.socket, selectors.EVENT_READ, one)
                return
            is_taken = one.socket.recv(_READ_BYTES).startswith(b"HTTP/1.1 200")
        except OSError:
            is_taken = False
        self._selector.unregister(one.socket)
        one.socket.close()
        self._under_way -= 1
        self._told.answered += is_taken
        self._told.failed += not is_taken
        self._told.last_s = time.monotonic()

    def told(self) -> Reported:
        """What became of all since this was asked last."""
        told, self._told = self._told, Reported(0, 0, 0.0)
        return told
