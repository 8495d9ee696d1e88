"""A TCP proxy in front of a collector that does to each direction what a bad network does."""

import asyncio
import contextlib
import random
import re
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Direction", "FaultyProxy", "Proxies"]

_READ: Final = 64 * 1024
_CLOSES_WITH_RESET: Final = struct.pack("ii", 1, 0)
_REPORT: Final = b"POST /v1/breakers/report "


@dataclass(slots=True)
class Direction:
    """What becomes of bytes on their way.

    Attributes:
        held: nothing arrives; what was sent arrives when this ends, as TCP sends it again.
        latency_s: least and most seconds on the way; their order stays.
        reset: probability that a piece breaks its connection instead of arriving.
        twice: probability that a report, or an event with a change, arrives twice.
    """

    held: bool = False
    latency_s: tuple[float, float] = (0.0, 0.0)
    reset: float = 0.0
    twice: float = 0.0


@dataclass(slots=True)
class FaultyProxy:
    """One listener. Faults may be changed at any time, by any thread.

    Attributes:
        up: from client to collector.
        down: from collector to client.
        refuses: no connection is taken, and those there are were broken.
        endpoint: for the client.
        resets, doubled: how many there were.
    """

    target: tuple[str, int]
    up: Direction = field(default_factory=Direction)
    down: Direction = field(default_factory=Direction)
    refuses: bool = False
    endpoint: str = ""
    resets: int = 0
    doubled: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def listen(self, tls: ssl.SSLContext | None) -> None:
        """Take connections from now on."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        self.endpoint = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"

    def calm(self) -> None:
        """No faults from now on."""
        self.up, self.down, self.refuses = Direction(), Direction(), False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            if self.refuses:
                return
            far_reader, far_writer = await asyncio.open_connection(*self.target)
            ends.append(far_writer)
            self._writers.update(ends)
            pumps = [
                asyncio.ensure_future(self._pump(reader, far_writer, "up")),
                asyncio.ensure_future(self._pump(far_reader, writer, "down")),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass
        finally:
            self._writers.difference_update(ends)
            for end in ends:
                _abort(end)

    def break_all(self) -> None:
        """Break all connections there are; in the loop's thread."""
        for writer in list(self._writers):
            _abort(writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        """Until the sender ends, or the connection breaks."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        taking = asyncio.ensure_future(self._take(reader, on_the_way, way))
        try:
            while True:
                due_s, data = await on_the_way.get()
                while (left_s := due_s - time.monotonic()) > 0 or getattr(self, way).held:  # noqa: ASYNC110 - another thread lets go
                    await asyncio.sleep(max(left_s, 0.02))
                if not data:
                    return
                faults = getattr(self, way)
                if random.random() < faults.reset:
                    self.resets += 1
                    return
                if random.random() < faults.twice and (again := self._again(data, way)):
                    self.doubled += 1
                    data += again
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            taking.cancel()

    async def _take(
        self, reader: asyncio.StreamReader, on_the_way: asyncio.Queue[tuple[float, bytes]], way: str
    ) -> None:
        due_s, data = 0.0, b"-"
        while data:
            try:
                data = await reader.read(_READ)
            except OSError:
                data = b""
            delay_s = random.uniform(*getattr(self, way).latency_s)
            due_s = max(due_s, time.monotonic() + delay_s)
            on_the_way.put_nowait((due_s, data))

    def _again(self, data: bytes, way: str) -> bytes:
        """What is to follow these bytes so that they arrive twice; nothing where that is no use."""
        if way == "down":
            return data if b"event: delta" in data and is_whole_chunks(data) else b""
        if data.startswith(_REPORT) and is_whole_request(data):
            task = asyncio.ensure_future(self._send_beside(data))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self.doubled += 1
        return b""

    async def _send_beside(self, data: bytes) -> None:
        """A request that a proxy sends a second time on another connection; nobody reads it."""
        _, writer = await asyncio.open_connection(*self.target)
        writer.write(data)
        await asyncio.sleep(1.0)
        writer.close()


def is_whole_chunks(data: bytes) -> bool:
    """Whether these are whole chunks of a chunked body."""
    while data:
        size, end, rest = data.partition(b"\r\n")
        if not end or not re.fullmatch(rb"[0-9a-fA-F]+", size):
            return False
        length = int(size, 16)
        if length == 0 or rest[length : length + 2] != b"\r\n":
            return False
        data = rest[length + 2 :]
    return True


def is_whole_request(data: bytes) -> bool:
    """Whether this is one request with all of its body."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    return bool(end and length and len(body) == int(length[1]))


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, as the network of a peer that is gone does."""
    peer = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSES_WITH_RESET)
    writer.transport.abort()


class Proxies:
    """Several proxies on a thread of their own.

    Args:
        tls: for each one, what it speaks to its client, or ``None``.
    """

    def __init__(self, tls: list[ssl.SSLContext | None]) -> None:
        self.each = [FaultyProxy(("127.0.0.1", 9)) for _ in tls]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        for proxy, context in zip(self.each, tls, strict=True):
            asyncio.run_coroutine_threadsafe(proxy.listen(context), self._loop).result(10)

    def aim(self, host: str, port: int) -> None:
        """Where connections go from now on."""
        for proxy in self.each:
            proxy.target = (host, port)

    def cut(self, numbers: list[int]) -> None:
        """Break these proxies' connections and take no more."""
        for number in numbers:
            self.each[number].refuses = True
            self._loop.call_soon_threadsafe(self.each[number].break_all)

    def calm(self) -> None:
        """No faults from now on."""
        for proxy in self.each:
            proxy.calm()

    def close(self) -> None:
        """End the thread; connections end with it."""
        self.calm()
        self.cut(list(range(len(self.each))))
        asyncio.run_coroutine_threadsafe(_others_end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


async def _others_end() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=5)
