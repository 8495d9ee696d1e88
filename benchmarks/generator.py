"""Sends OTLP payloads as fast as they are acknowledged: the load on the collector, in a process of
its own (``python benchmarks/generator.py URL CONNECTIONS REQUESTS PAUSE_S``). It reads seconds from
its standard input, one number a line, sends for so long, and answers each with a line of JSON.

Each connection is one instance of a service: a thread with a socket that is kept alive, which
posts its next payload when the last one was answered. That is all: no HTTP library, because on a
machine of two processors what the load generator burns is taken from what is measured.
"""

import json
import resource
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

from payloads import REQUESTS, Template, zipf_users

__all__ = ["Generator", "Sent", "main"]

TIMEOUT_S: Final = 60.0
_OK: Final = 200
_REFUSED_WAIT_S: Final = 0.2


@dataclass(slots=True)
class Sent:
    """What happened, over all connections.

    Attributes:
        spans: acknowledged.
        refused: payloads answered with anything but 200; none of their spans is durable.
        bytes: of acknowledged payloads.
        wall_s: from the first byte sent to the last answer read.
        cpu_s: processor seconds of this process meanwhile, user and system.
        answers_ms: how long each payload took until it was durable.
    """

    spans: int = 0
    refused: int = 0
    bytes: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    answers_ms: list[float] = field(default_factory=list)


class Generator:
    """The generator as a benchmark has it: a child process, ready once this is made.

    Args:
        url: the collector's address.
        connections: how many instances send.
        environment: of the child.
        requests: of a payload, each with eight spans.
        pause_s: from an answer to the next payload, of each connection.
    """

    def __init__(
        self,
        url: str,
        connections: int,
        environment: dict[str, str],
        *,
        requests: int = REQUESTS,
        pause_s: float = 0.0,
    ) -> None:
        self._child = subprocess.Popen(
            [sys.executable, __file__, url, str(connections), str(requests), str(pause_s)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def send(self, seconds: float) -> Sent:
        """Send for so long."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{seconds}\n")
        self._child.stdin.flush()
        return Sent(**json.loads(self._answer()))

    def _answer(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise ChildProcessError("the load generator ended")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._child as child:
            child.kill()


class _Connection:
    """One instance that sends."""

    def __init__(self, template: Template, url: str, pause_s: float) -> None:
        self._template = template
        self._pause_s = pause_s
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname, where.port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = (
            f"POST /v1/traces HTTP/1.1\r\nhost: {where.netloc}\r\n"
            "content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n"
        )

    def send(self, until: float, sent: Sent) -> None:
        """Send until that monotonic time; the thread's own ``sent`` takes what happened."""
        while (began := time.monotonic()) < until:
            body = self._template.payload()
            self._socket.sendall(self._head.format(len(body)).encode() + body)
            if self._status() == _OK:
                sent.answers_ms.append(round((time.monotonic() - began) * 1e3, 2))
                sent.spans += self._template.spans
                sent.bytes += len(body)
                time.sleep(self._pause_s)
            else:
                sent.refused += 1
                time.sleep(_REFUSED_WAIT_S)

    def _status(self) -> int:
        """Read one answer, which is short; its status."""
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._more()
        head = answer[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        while len(answer) < end + 4 + length:
            answer += self._more()
        return int(head.split(maxsplit=2)[1])

    def _more(self) -> bytes:
        found = self._socket.recv(65_536)
        if not found:
            raise ConnectionError("the collector closed the connection")
        return found


def _send(connections: list[_Connection], seconds: float) -> Sent:
    began, cpu_s = time.monotonic(), _cpu_s()
    parts = [Sent() for _ in connections]
    threads = [
        threading.Thread(target=one.send, args=(began + seconds, part), daemon=True)
        for one, part in zip(connections, parts, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Sent(
        spans=sum(part.spans for part in parts),
        refused=sum(part.refused for part in parts),
        bytes=sum(part.bytes for part in parts),
        wall_s=time.monotonic() - began,
        cpu_s=_cpu_s() - cpu_s,
        answers_ms=[answer for part in parts for answer in part.answers_ms],
    )


def main() -> None:
    """Say that it is ready, then send whenever told to."""
    users = zipf_users(seed=1)
    url, count, requests, pause_s = sys.argv[1:]
    connections = [
        _Connection(Template(number, users, int(requests)), url, float(pause_s))
        for number in range(int(count))
    ]
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(_send(connections, float(line)))), flush=True)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
