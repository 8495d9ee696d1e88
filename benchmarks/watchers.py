"""Many clients that watch the breakers of one collector: what each costs, and how fast a change
reaches all of them.

A real collector on an empty store, and :data:`CLIENTS` simulated clients in another process: raw
sockets on loopback that read ``/v1/breakers/stream`` and check what it says (a snapshot first, each
delta on the version that the client is at, a heartbeat every 2 s). Measured are

- the collector's resident memory with all clients less that with one, divided by their number. The
  kernel's buffers of sockets are not in it;
- processor time of the collector while nothing changes, which is that of the heartbeats;
- processor time of what each client asks besides every ten seconds, a renewal and a report, asked
  one after the other;
- the time from the moment before a person's trip (or its clearing) is posted until the last client
  has the delta. Both processes share the machine, so the time that the clients take to read is in
  it;
- the same for the last of several changes that come as fast as rounds of control;
- how long somebody else waits for an answer while all clients report a change, all of them at once,
  and spread over the time that the collector tells a fleet of this size.

One address may have half of the connections that a collector takes, and those are as many as it
may have files open less 256; so the clients come from 50 addresses of loopback, 127.0.0.1 and up.
10,000 of them need a hard limit of 10,256 open files (``ulimit -Hn``) in both processes.
"""

import argparse
import itertools
import json
import math
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from collector_process import RealCollector, clean_environment
from figures import Report, Target, machine, quantile, show, write_json
from heatshield import contract
from heatshield.contract import HEARTBEAT_S, RENEW_S, SILENCE_S, StateVersion
from heatshield.names import ADMIN_TOKEN_FILE, BREAKER_REPORT_PATH, BREAKERS_PATH, CHECK_PATH
from heatshield_alerts.instances import spread_ms
from watching_clients import SOURCES, WatchingClients

__all__ = ["run"]

CLIENTS: Final = 10_000
QUICK_CLIENTS: Final = 1_000
CHANGES: Final = 12
QUICK_CHANGES: Final = 4
CALM_S: Final = 5.0
"""Between the last client's snapshot and the first look at memory."""
REST_S: Final = 20.0
QUICK_REST_S: Final = 6.0
PAUSE_S: Final = 1.3
"""Between two changes: no multiple of the heartbeats, so that changes come at any phase of them."""
BURST: Final = 8
BURST_PAUSE_S: Final = 0.25
"""As often as the rounds of control may change the state."""

ASK_EVERY_S: Final = 0.01
ASKED: Final = 5_000
QUICK_ASKED: Final = 500
INSTANCES: Final = 500
"""That report, in turn."""
AT_REST: Final = "the collector at rest, of one processor"

MEMORY: Final = Target("at most", 50)
REACH: Final = Target("at most", 1)
SILENCE: Final = Target("at most", SILENCE_S / 2)


def run(*, quick: bool = False, clients: int | None = None) -> Report:
    """Measure."""
    count = clients or (QUICK_CLIENTS if quick else CLIENTS)
    report = Report("watchers", f"{count:,} clients that watch one collector's breakers")
    with (
        RealCollector("--mode", "protect") as collector,
        WatchingClients(collector.url, clean_environment()) as watching,
        httpx.Client(base_url=collector.url, trust_env=False, timeout=60) as person,
    ):
        token = (collector.store.parent / ADMIN_TOKEN_FILE).read_text(encoding="utf-8").strip()
        person.headers["Authorization"] = f"Bearer {token}"
        watching.connect(1)
        _changes(person, watching, 2)
        _measure_memory(report, collector, watching, count)
        _measure_rest(report, collector, watching, QUICK_REST_S if quick else REST_S)
        _measure_keeping_up(report, collector, count, QUICK_ASKED if quick else ASKED)
        cpu_s = collector.cpu_s()
        answered, reached = _changes(person, watching, QUICK_CHANGES if quick else CHANGES)
        cpu_s = (collector.cpu_s() - cpu_s) / len(reached)
        burst_s = _burst(person, watching)
        _measure_reporting(report, person, watching, count)
        last = watching.rest(2 * HEARTBEAT_S)
    report.add("a change reaches all, p50", quantile(reached, 0.5), "s", REACH)
    report.add("a change reaches all, max", quantile(reached, 1), "s", REACH)
    report.add("the same from the answer to the person on, max", quantile(answered, 1), "s", REACH)
    report.add(
        f"the last of {BURST} changes, {BURST_PAUSE_S} s apart, the same", burst_s, "s", REACH
    )
    report.add("the collector's processor time a change and pause", cpu_s * 1e3, "ms")
    report.add("connections lost", last.lost, "", Target("at most", 0))
    report.add("events that break the contract", last.wrong, "", Target("at most", 0))
    report.notes.append(
        "All report from one process, which takes seconds for thousands: real ones come together."
    )
    report.notes.append(
        f"{len(reached)} changes, {PAUSE_S} s apart. The clients share the machine's processors "
        f"with the collector, and come from {SOURCES} addresses."
    )
    return report


def _measure_memory(
    report: Report, collector: RealCollector, watching: WatchingClients, count: int
) -> None:
    before, cpu_s = collector.process.memory_info().rss, collector.cpu_s()
    connected = watching.connect(count)
    cpu_s = collector.cpu_s() - cpu_s
    watching.rest(CALM_S)
    grown = collector.process.memory_info().rss - before
    watched = max(1, connected.watching - 1)
    report.add("clients that watch", connected.watching, "", Target("at least", count))
    report.add("connected in", connected.wall_s, "s")
    report.add("the collector's processor time a connection", cpu_s / watched * 1e3, "ms")
    report.add("the collector's memory a connection", grown / watched / 1024, "KiB", MEMORY)


def _measure_rest(
    report: Report, collector: RealCollector, watching: WatchingClients, seconds: float
) -> None:
    cpu_s = collector.cpu_s()
    rested = watching.rest(seconds)
    cpu_s = collector.cpu_s() - cpu_s
    report.add("heartbeats a second", rested.heartbeats / seconds, "")
    report.add(AT_REST, cpu_s / seconds * 100, "%")
    report.add("the clients at rest, of one processor", rested.cpu_s / seconds * 100, "%")
    report.add("longest silence of a client", rested.longest_silence_s, "s", SILENCE)


def _measure_keeping_up(report: Report, collector: RealCollector, clients: int, count: int) -> None:
    """What clients ask every ten seconds beside: each renews, and each reports."""
    where = urlsplit(collector.url)
    etag = httpx.get(f"{collector.url}{BREAKERS_PATH}", trust_env=False).headers["etag"]
    renewal = (
        f"GET {BREAKERS_PATH} HTTP/1.1\r\nhost: {where.netloc}\r\nif-none-match: {etag}\r\n\r\n"
    ).encode()
    reports = [_report(where.netloc, etag, number) for number in range(INSTANCES)]
    for name, requests in (("renewal", [renewal]), ("report", reports)):
        with socket.create_connection((where.hostname, where.port)) as connection:
            _ask(connection, requests)  # instances that are new cost more
            cpu_s, began_s = collector.cpu_s(), time.monotonic()
            _ask(connection, itertools.islice(itertools.cycle(requests), count))
            wall_s = time.monotonic() - began_s
            # Meanwhile heartbeats go out; they are counted on their own.
            rest = next(one.value for one in report.figures if one.name == AT_REST) / 100
            spent_s = max(0.0, collector.cpu_s() - cpu_s - rest * wall_s)
        report.add(f"the collector's processor time a {name}", spent_s / count * 1e3, "ms")
        of_all = spent_s / count * clients / RENEW_S * 100
        report.add(f"the same for all, each {RENEW_S:g} s, of one processor", of_all, "%")


def _report(host: str, etag: str, number: int) -> bytes:
    at = StateVersion.parse(etag)
    body = json.dumps(contract.Report("bench", f"i-{number}", 2, at).to_json())
    return (
        f"POST {BREAKER_REPORT_PATH} HTTP/1.1\r\nhost: {host}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _ask(connection: socket.socket, requests: Iterable[bytes]) -> None:
    """Send each when the one before was answered."""
    for request in requests:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65_536)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        while len(body) < length:
            body += connection.recv(65_536)
        assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 304")), head


def _changes(
    person: httpx.Client, watching: WatchingClients, count: int
) -> tuple[list[float], list[float]]:
    """Seconds until all clients had each change, from the answer on and from the request on."""
    answered, reached = [], []
    entry_id = ""
    for number in range(count):
        began_s = time.monotonic()
        entry_id = _change(person, entry_id, f"hot-{number}")
        answered_s = time.monotonic()
        last_s = _reached_s(person, watching)
        answered.append(last_s - answered_s)
        reached.append(last_s - began_s)
        time.sleep(PAUSE_S)
    return answered, reached


def _burst(person: httpx.Client, watching: WatchingClients) -> float:
    """Seconds from the last of many quick changes until all clients had it."""
    entry_id = ""
    for number in range(BURST):
        time.sleep(BURST_PAUSE_S)
        began_s = time.monotonic()
        entry_id = _change(person, entry_id, f"burst-{number}")
    return _reached_s(person, watching) - began_s


def _measure_reporting(
    report: Report, person: httpx.Client, watching: WatchingClients, clients: int
) -> None:
    """What others feel of the reports that a change makes all clients send."""
    asker = _Asker(str(person.base_url))
    spread_s = spread_ms(clients) / 1_000
    watching.report(spread_s)
    entry_id = _change(person, "", "known")  # instances that are new cost more
    _reached_s(person, watching)
    watching.reported()
    for name, seconds in (("at once", 0.0), (f"over {spread_s:g} s", spread_s)):
        watching.report(seconds)
        with asker:
            began_s = time.monotonic()
            entry_id = _change(person, entry_id, "reported")
            _reached_s(person, watching)
            told = watching.reported()
        report.add(f"reports of a change, {name}", told.answered, "", Target("at least", clients))
        report.add("the last was answered after", told.last_s - began_s, "s")
        report.add("others wait meanwhile, median", quantile(asker.waited_s, 0.5), "s")
        report.add("others wait meanwhile, longest", quantile(asker.waited_s, 1), "s")
    watching.report(None)


class _Asker:
    """Asks a gateway's question every 10 ms while it is entered.

    Attributes:
        waited_s: for each answer.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.waited_s: list[float] = []

    def __enter__(self) -> None:
        self.waited_s = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        question = {"user": "other", "service": "bench", "call": "POST /thumbnails"}
        with httpx.Client(base_url=self._url, trust_env=False, timeout=60) as client:
            while not self._ended.wait(ASK_EVERY_S):
                began_s = time.monotonic()
                client.get(CHECK_PATH, params=question).raise_for_status()
                self.waited_s.append(time.monotonic() - began_s)


def _change(person: httpx.Client, entry_id: str, user: str) -> str:
    """Clear that entry or, where there is none, trip one; its id."""
    if entry_id:
        person.delete(f"{BREAKERS_PATH}/{entry_id}").raise_for_status()
        return ""
    trip = {"user": user, "service": "bench", "call": "POST /thumbnails"}
    answer = person.post(BREAKERS_PATH, json=trip).raise_for_status()
    return str(answer.json()["id"])


def _reached_s(person: httpx.Client, watching: WatchingClients) -> float:
    """When all clients had the state as it is; NaN where none got there."""
    at = StateVersion.parse(person.get(BREAKERS_PATH).headers["etag"])
    found = watching.reach(at)
    return found.last_s if found.have else math.nan


def main() -> None:
    """Measure with as many clients as the flags say."""
    parser = argparse.ArgumentParser(description="what watching clients cost a collector")
    parser.add_argument("--clients", type=int, metavar="N", help=f"how many; {CLIENTS:,} if not")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CLIENTS:,} clients")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    flags = parser.parse_args()
    report = run(quick=flags.quick, clients=flags.clients)
    show(report)
    if flags.json:
        write_json(flags.json, machine(), [report])


if __name__ == "__main__":
    main()
