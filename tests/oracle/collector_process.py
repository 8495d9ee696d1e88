"""`heatshield up` as a process of its own on loopback, and senders that remember every ack."""

import http.client
import itertools
import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export_requests import traces

from heatshield.cli.local_token import local_token

STOP_S = 30.0


@dataclass
class CollectorProcess:
    """A running collector.

    Attributes:
        process: the operating system's.
        host, port: of its HTTP listener.
    """

    process: subprocess.Popen
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The JSON that it answers, as the command line of its own user would ask."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            None if body is None else json.dumps(body).encode(),
            {
                "Content-Type": "application/json",
                "Authorization": f"Bearer {local_token(self.url)}",
            },
            method=method,
        )
        with urllib.request.urlopen(request, timeout=STOP_S) as response:
            return json.load(response)

    def trip(self, user: str, **fields: Any) -> str:
        """Trip a breaker around the user's ``POST /p`` of ``shop``; the entry's id."""
        wish = {"user": user, "service": "shop", "call": "POST /p", "by": "ada", **fields}
        return self.ask("POST", "/v1/breakers", {"lease_ms": 600_000, **wish})["id"]

    def clear(self, entry_id: str) -> None:
        self.ask("DELETE", f"/v1/breakers/{entry_id}?by=ada")

    def held(self) -> dict[tuple[str, str], str]:
        """Entry ids by user and call."""
        entries = self.ask("GET", "/v1/breakers")["entries"]
        return {(entry["user"], entry["call"]): entry["id"] for entry in entries}


@contextmanager
def collector_process(data: Path, *flags: str) -> Iterator[CollectorProcess]:
    """Start one on ``data``; killed on the way out if it still runs."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from heatshield.cli import main; main()", "up"),
            *("--data", str(data), "--http", "127.0.0.1:0", "--grpc", "off", *flags),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=data.parent,
    )
    try:
        said = process.stdout.readline()
        found = re.search(r"http://([0-9.]+):([0-9]+)", said)
        assert found, said
        yield CollectorProcess(process, found[1], int(found[2]))
    finally:
        process.kill()
        process.wait(STOP_S)
        process.stdout.close()


@dataclass
class Senders:
    """Concurrent senders of spans with ids of their own; each payload is sent until it is acked.

    Attributes:
        acked: numbers of the spans that were acknowledged.
        sent: numbers of all that were ever sent, acknowledged or not.
        unsettled: payloads that a dying collector left without an answer; sent again first.
    """

    spans_a_payload: int = 20
    acked: set[int] = field(default_factory=set)
    sent: set[int] = field(default_factory=set)
    unsettled: list[list[int]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def load(self, collector: CollectorProcess, concurrency: int = 4) -> Iterator[None]:
        """Send until the collector goes away or the block ends."""
        self._ended.clear()
        threads = [
            threading.Thread(target=self._send, args=(collector,)) for _ in range(concurrency)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join(STOP_S)
                assert not thread.is_alive()

    def _next(self) -> list[int]:
        with self._lock:
            if self.unsettled:
                return self.unsettled.pop()
            fresh = list(itertools.islice(self._numbers, self.spans_a_payload))
            self.sent.update(fresh)
            return fresh

    def _send(self, collector: CollectorProcess) -> None:
        connection = http.client.HTTPConnection(collector.host, collector.port, timeout=STOP_S)
        while not self._ended.is_set():
            numbers = self._next()
            status = self._post(connection, traces(numbers, user=f"u-{numbers[0] % 100}"))
            with self._lock:
                if status == http.HTTPStatus.OK:
                    self.acked.update(numbers)
                else:
                    self.unsettled.append(numbers)
            if status is None:
                break
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, body: bytes) -> int | None:
        """The status of the answer, read to its end; ``None`` when there is none any more."""
        try:
            headers = {"Content-Type": "application/x-protobuf"}
            connection.request("POST", "/v1/traces", body, headers)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return None
        else:
            return response.status
