"""Many clients that watch the breakers of one collector, in a process of their own (``python
benchmarks/watching_clients.py URL``). It reads commands from its standard input, one a line, and
answers each with a line of JSON; meanwhile it reads what the collector sends.

- ``connect N``: have N clients, each with the snapshot that begins its stream.
- ``rest SECONDS``: only read; then say what came.
- ``reach EPOCH.VERSION``: when did each client have that version?
- ``report SPREAD_MS``: from now on each client reports every version that it gets, spread as the
  instrumentation spreads it; negative: none does.
- ``reported``: wait until no report is on its way; how many were answered?

Each client is a socket and three numbers. No HTTP library: on a machine of two processors what the
clients burn is taken from what is measured. They check what they are sent all the same.
"""

import contextlib
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

from heatshield.contract import StateVersion
from heatshield.names import BREAKER_STREAM_PATH
from version_reports import OnItsWay, Reported, VersionReports

__all__ = ["SOURCES", "Connected", "Reached", "Rested", "WatchingClients", "main"]

SOURCES: Final = 50 if sys.platform == "linux" else 1
"""Addresses that clients come from, 127.0.0.1 and up: one may have half of all connections that a
collector takes, which are as many as it may have files open."""

HANDSHAKES: Final = 128
"""Clients that wait for their snapshot at once."""

GIVE_UP_S: Final = 60.0
SPARE_FILES: Final = 64
_READ_BYTES: Final = 256 * 1024
_EVENT_END: Final = b"\n\n\r\n"
"""Of an event, and of the chunk that it is."""


@dataclass(slots=True)
class Connected:
    """How many clients were asked for, have a snapshot and were refused; how long that took."""

    asked: int
    watching: int
    refused: int
    wall_s: float


@dataclass(slots=True)
class Rested:
    """What came while nothing changed.

    Attributes:
        heartbeats: over all clients.
        longest_silence_s: of any client, between two events.
        lost: clients whose connection ended, since the beginning.
        wrong: events that were not what the contract promises, since the beginning.
        cpu_s: processor seconds of this process meanwhile.
    """

    heartbeats: int
    longest_silence_s: float
    lost: int
    wrong: int
    cpu_s: float


@dataclass(slots=True)
class Reached:
    """How many clients have a version, and when: on the clock of ``time.monotonic``."""

    have: int
    half_s: float
    last_s: float


class WatchingClients:
    """The clients as a benchmark has them: a child process, ready once this is made.

    Args:
        url: the collector's address.
        environment: of the child.
    """

    def __init__(self, url: str, environment: dict[str, str]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, __file__, url],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def connect(self, count: int) -> Connected:
        """Have so many clients watch."""
        return Connected(**self._ask(f"connect {count}"))

    def rest(self, seconds: float) -> Rested:
        """Watch for so long."""
        return Rested(**self._ask(f"rest {seconds}"))

    def reach(self, version: StateVersion) -> Reached:
        """When every client had that version; waits for it."""
        return Reached(**self._ask(f"reach {version}"))

    def report(self, spread_s: float | None) -> None:
        """Have them report each version that they get, from now on; ``None``: no more."""
        self._ask(f"report {-1 if spread_s is None else round(spread_s * 1_000)}")

    def reported(self) -> Reported:
        """Wait until no report is on its way."""
        return Reported(**self._ask("reported"))

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{command}\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            raise ChildProcessError("the watching clients ended")
        return dict(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._child as child:
            child.kill()


class _Client:
    """One watching client."""

    __slots__ = ("at", "began", "heard_s", "number", "rest", "socket")

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.socket = connection
        self.number = number
        self.at = StateVersion(0, 0)
        self.began = False
        self.heard_s = time.monotonic()
        self.rest = b""


class _Crowd:
    """All of them, on one thread."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._address = (where.hostname or "", where.port or 0)
        self._request = (
            f"GET {BREAKER_STREAM_PATH}?service=bench&instance=%d HTTP/1.1\r\n"
            f"host: {where.netloc}\r\naccept: text/event-stream\r\n\r\n"
        )
        self._selector = selectors.DefaultSelector()
        self._clients: set[_Client] = set()
        self._opened = self._waiting = self._refused = 0
        self._lost = self._wrong = self._heartbeats = 0
        self._silence_s = 0.0
        self._moves: list[tuple[float, StateVersion, StateVersion]] = []
        self._reports = VersionReports(self._selector, self._address, SOURCES)
        os.set_blocking(sys.stdin.fileno(), False)
        self._selector.register(sys.stdin, selectors.EVENT_READ)

    def command(self) -> str:
        """Read what the collector sends until there is a command; empty at the end."""
        while not self._read(None):
            pass
        return sys.stdin.readline()

    def connect(self, count: int) -> Connected:
        """Open streams until there are so many, or no more are to be had."""
        began_s = time.monotonic()
        while self._opened < count:
            self._open()
            while self._waiting >= HANDSHAKES and time.monotonic() < began_s + GIVE_UP_S:
                self._read(1.0)
        while self._waiting and time.monotonic() < began_s + GIVE_UP_S:
            self._read(1.0)
        watching = sum(client.began for client in self._clients)
        return Connected(count, watching, self._refused, time.monotonic() - began_s)

    def rest(self, seconds: float) -> Rested:
        """Read for so long."""
        self._heartbeats, self._silence_s = 0, 0.0
        until_s, cpu_s = time.monotonic() + seconds, _cpu_s()
        while (left_s := until_s - time.monotonic()) > 0:
            self._read(left_s)
        return Rested(self._heartbeats, self._silence_s, self._lost, self._wrong, _cpu_s() - cpu_s)

    def reach(self, version: StateVersion) -> Reached:
        """Read until every client has that version."""
        until_s = time.monotonic() + GIVE_UP_S
        while any(client.at < version for client in self._clients):
            if time.monotonic() > until_s:
                break
            self._read(1.0)
        times = sorted(at_s for at_s, old, new in self._moves if old < version <= new)
        self._moves.clear()
        if not times:
            return Reached(0, 0.0, 0.0)
        return Reached(len(times), times[len(times) // 2], times[-1])

    def report(self, spread_ms: int) -> None:
        """Report each version from now on, spread over so long; negative: no more."""
        self._reports.spread_s = spread_ms / 1_000 if spread_ms >= 0 else None

    def reported(self) -> Reported:
        """Read until no report is due or on its way."""
        until_s = time.monotonic() + GIVE_UP_S
        while self._reports.busy and time.monotonic() < until_s:
            self._read(1.0)
        return self._reports.told()

    def _open(self) -> None:
        connection = socket.socket()
        if SOURCES > 1:
            connection.bind((f"127.0.0.{1 + self._opened % SOURCES}", 0))
        connection.connect(self._address)
        connection.sendall((self._request % self._opened).encode())
        connection.setblocking(False)
        client = _Client(connection, self._opened)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)
        self._opened += 1
        self._waiting += 1

    def _read(self, timeout_s: float | None) -> bool:
        """Take what there is; whether a command is there, too."""
        commanded = False
        due_s = self._reports.send_due()
        if due_s is not None:
            timeout_s = due_s if timeout_s is None else min(timeout_s, due_s)
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                commanded = True
                continue
            if isinstance(key.data, OnItsWay):
                self._reports.go_on(key.data)
                continue
            try:
                data = key.data.socket.recv(_READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data:
                self._take(key.data, data)
            else:
                self._lose(key.data)
        return commanded

    def _take(self, client: _Client, data: bytes) -> None:
        if client.rest:
            data = client.rest + data
            client.rest = b""
        if not data.endswith(_EVENT_END):
            client.rest = data
            if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200"):
                self._refused += 1
                self._lose(client)
            return
        now_s = time.monotonic()
        for event in data.split(_EVENT_END)[:-1]:
            self._event(client, event, now_s)
        client.heard_s = now_s

    def _event(self, client: _Client, event: bytes, now_s: float) -> None:
        at = StateVersion.parse(event[event.rindex(b"\nid: ") + 5 :].decode())
        if b"event: heartbeat\n" in event:
            self._heartbeats += 1
            self._wrong += at != client.at
            self._silence_s = max(self._silence_s, now_s - client.heard_s)
            return
        if b"event: delta\n" in event:
            self._wrong += b'"base":"%b"' % str(client.at).encode() not in event
        self._wrong += at <= client.at
        if not client.began:
            self._wrong += b"event: snapshot\n" not in event
            client.began = True
            self._waiting -= 1
        else:
            self._moves.append((now_s, client.at, at))
            self._reports.note(client.number, at, now_s)
        client.at = at

    def _lose(self, client: _Client) -> None:
        self._selector.unregister(client.socket)
        client.socket.close()
        self._clients.discard(client)
        self._waiting -= not client.began
        self._lost += 1


def raise_file_limit(clients: int) -> int:
    """Let this process have so many sockets; how many it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return clients if soft == resource.RLIM_INFINITY else min(clients, soft - SPARE_FILES)


def main() -> None:
    """Do what is asked until nothing more comes."""
    crowd = _Crowd(sys.argv[1])
    while line := crowd.command():
        name, _, argument = line.strip().partition(" ")
        answer: Connected | Rested | Reached | Reported
        if name == "connect":
            answer = crowd.connect(raise_file_limit(int(argument)))
            answer.asked = int(argument)
        elif name == "rest":
            answer = crowd.rest(float(argument))
        elif name == "report":
            crowd.report(int(argument))
            answer = Reported(0, 0, 0.0)
        elif name == "reported":
            answer = crowd.reported()
        else:
            answer = crowd.reach(StateVersion.parse(argument))
        print(json.dumps(asdict(answer)), flush=True)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
