"""How long a gateway waits for ``/v1/check``: it stands before each request of a platform.

A real collector, and a bare application behind the same HTTP server, which answers 200 to
everything, in a process of its own. Both are asked in turn over one kept connection each, 400 times
a second, while nothing else happens and while instances send the collector some 2,000 and 4,000
spans a second. 20 users are cut. Questions name method and path; of every fifth the user is cut.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

import figures
from collector_process import HOST, RealCollector, clean_environment
from figures import Report, Target, quantile
from generator import Generator, Sent
from heatshield.cli.local_token import local_token
from heatshield.names import BREAKERS_PATH, CHECK_PATH
from heatshield_stickershop.processes import answers_ok, free_port

__all__ = ["run"]

GOAL: Final = Target("at most", 2.0)

RATE: Final = 400
SECONDS: Final = 30.0
QUICK_SECONDS: Final = 5.0

LOADS: Final = {"under load": 5, "under twice the load": 10}
"""Instances that send: five make 250 requests a second, more than an hour of quiet_hour.py has."""

REQUESTS: Final = 12
PAUSE_S: Final = 0.2
"""Payloads as exporters send them: what an instance has after a fifth of a second, 96 spans."""

CUT: Final = 20
"""As many as may be new in a minute."""
USUAL: Final = 4
"""Questions about users who are not cut, for each about one who is."""

_MS: Final = 1e3
_OK, _REFUSED = b" 200 ", b" 503 "


@dataclass(slots=True)
class _Asked:
    """What one server answered: milliseconds of each, and how many were refused."""

    answers_ms: list[float] = field(default_factory=list)
    refused: int = 0


class _Gateway:
    """One kept connection, as a gateway has many."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname, where.port), 10.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = where.netloc
        self.asked = _Asked()

    def ask(self, number: int) -> None:
        """Ask about one request."""
        user = f"cut-{number % CUT}" if number % (USUAL + 1) == 0 else f"user-{number}"
        request = (
            f"GET {CHECK_PATH}?service=shop HTTP/1.1\r\nhost: {self._host}\r\nx-user-id: {user}\r\n"
            f"x-forwarded-method: POST\r\nx-forwarded-uri: /users/{number}/stickers\r\n\r\n"
        ).encode()
        began = time.perf_counter()
        self._socket.sendall(request)
        answer = b""
        while not _is_whole(answer):
            answer += self._socket.recv(65_536)
        self.asked.answers_ms.append((time.perf_counter() - began) * _MS)
        assert _OK in answer[:16] or _REFUSED in answer[:16], answer
        self.asked.refused += _REFUSED in answer[:16]

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    return bool(end) and len(body) == int(head.rpartition(b"content-length: ")[2].split(b"\r")[0])


def run(*, quick: bool = False) -> Report:
    """Measure."""
    report = Report("checks", "what a gateway waits for, at 400 questions a second")
    seconds = QUICK_SECONDS if quick else SECONDS
    with RealCollector("--mode", "protect") as collector, _bare_server() as bare:
        _cut(collector.url)
        _measure(collector.url, bare, 1.0)  # what is imported late has been imported
        _add(report, "nothing else", _measure(collector.url, bare, seconds))
        for load, instances in LOADS.items():
            with Generator(
                collector.url, instances, clean_environment(), requests=REQUESTS, pause_s=PAUSE_S
            ) as generator:
                generator.send(1.0)
                sent: list[Sent] = []
                sending = threading.Thread(target=_send, args=(generator, seconds, sent))
                sending.start()
                asked = _measure(collector.url, bare, seconds)
                sending.join()
            _add(report, load, asked, sent[0].spans / seconds)
    report.notes.append("The load, the questions and both servers share the processors.")
    return report


def _send(generator: Generator, seconds: float, sent: list[Sent]) -> None:
    sent.append(generator.send(seconds))


def _add(report: Report, load: str, asked: tuple[_Asked, _Asked], spans_per_s: float = 0.0) -> None:
    ours, theirs = asked
    goal = None if load == "under twice the load" else GOAL
    report.add(f"a check, {load}, p50", quantile(ours.answers_ms, 0.5), "ms")
    report.add(f"a bare answer, {load}, p50", quantile(theirs.answers_ms, 0.5), "ms")
    report.add(f"a check, {load}, p99", quantile(ours.answers_ms, 0.99), "ms", goal)
    report.add(f"a bare answer, {load}, p99", quantile(theirs.answers_ms, 0.99), "ms")
    report.notes.append(
        f"{load}: {len(ours.answers_ms):,} questions, {ours.refused:,} refused, "
        f"{spans_per_s:,.0f} spans/s."
    )


def _cut(url: str) -> None:
    """Trip a breaker for each user who is cut, on calls of several services."""
    admin = {"Authorization": f"Bearer {local_token(url)}"}
    with httpx.Client(base_url=url, headers=admin) as client:
        for number in range(CUT):
            asked = {
                "user": f"cut-{number}",
                "service": "shop",
                "call": "POST /users/{id}/stickers",
                "reason": "benchmark",
            }
            client.post(BREAKERS_PATH, json=asked).raise_for_status()


def _measure(ours: str, theirs: str, seconds: float) -> tuple[_Asked, _Asked]:
    gateways = [_Gateway(ours), _Gateway(theirs)]
    ends_s = time.monotonic() + seconds
    number = 0
    while (now_s := time.monotonic()) < ends_s:
        gateways[number % 2].ask(number // 2)
        number += 1
        time.sleep(max(0.0, 0.5 / RATE - (time.monotonic() - now_s)))
    for gateway in gateways:
        gateway.close()
    return gateways[0].asked, gateways[1].asked


@contextlib.contextmanager
def _bare_server() -> Any:
    """A server of the collector's kind that decides nothing; yields its address."""
    address = f"{HOST}:{free_port()}"
    child = subprocess.Popen([sys.executable, __file__, "bare", address], env=clean_environment())
    try:
        is_ready = answers_ok(f"http://{address}/")
        while not is_ready():
            assert child.poll() is None
            time.sleep(0.05)
        yield f"http://{address}"
    finally:
        child.kill()
        child.wait()


async def _bare(scope: Any, _receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _serve_bare(address: str) -> None:
    from heatshield_collector.server import GracefulServer, listen

    server = GracefulServer(_bare, lambda: None)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve([listen(address)]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        _serve_bare(sys.argv[2])
    else:
        figures.main(run)
