"""Twenty real clients of one real collector: how fast a user who begins to burn is slowed in all.

Each client is a process with heatshield's default settings and the shipped rules, ten of them over
TLS; ordinary users of all of them ask one real Redis ten times a second each. Then a user whom
nobody knows calls something that keeps the Redis busy, through four of the clients. Measured are

- from the first of these calls to the moment at which the last of the twenty clients has the user's
  entry in its table;
- the part of it from the collector's decision, as its audit has it, to the same moment.

All processes share the machine's processors, and the clock.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import redis

from collector_process import HOST, RealCollector, clean_environment
from figures import Report, Target, machine, quantile, show, write_json
from heatshield.names import ADMIN_TOKEN_FILE, BREAKERS_PATH
from heatshield_stickershop.processes import free_port
from heatshield_stickershop.redis_server import redis_server_path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "peers"))
from breaker_fleet.certificate import localhost_certificate
from breaker_fleet.proxy import Proxies

__all__ = ["run"]

CLIENTS: Final = 20
SECURE: Final = 10
"""Clients that speak TLS, to what is in front of the collector."""

BURNERS: Final = range(0, CLIENTS, 5)
"""Clients through which the user burns."""

ROUNDS: Final = 30
QUICK_ROUNDS: Final = 4
COLD_START_S: Final = 10.0
WARM_S: Final = 20.0
"""Of ordinary traffic before the first round, cold start included."""

GIVE_UP_S: Final = 10.0
GIVE_UP_MS: Final = GIVE_UP_S * 1_000
ON_S: Final = 0.5
"""A user burns on for so long after being slowed."""

APART_S: Final = 4.0
"""Between rounds: rules open at most twenty entries a minute."""

LARGE: Final = 100_000
"""Elements of the set that the user who burns has copied, each time."""

PROGRAM: Final = Path(__file__).with_name("fleet_client.py")

ENFORCED: Final = Target("at most", 250)
PACED_P50: Final = Target("at most", 450)
PACED_P99: Final = Target("at most", 800)


class _Client:
    """A client as this process sees it."""

    def __init__(self, number: int, endpoint: str, port: int, environment: dict[str, str]) -> None:
        command = [sys.executable, str(PROGRAM), endpoint, f"client-{number}", str(port)]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.said: list[dict[str, Any]] = []
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))

    def tell(self, command: str) -> None:
        """Give a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def first_ns(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> int | None:
        """When it first said something of this kind that ``holds``."""
        found = (one["ns"] for one in list(self.said) if one["what"] == what and holds(one))
        return next(found, None)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def run(*, quick: bool = False) -> Report:
    """Measure."""
    report = Report("fleet", f"{CLIENTS} clients of one collector, {SECURE} of them over TLS")
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with ExitStack() as running:
        cold = str(COLD_START_S)
        collector = running.enter_context(
            RealCollector("--mode", "protect", "--cold-start-s", cold)
        )
        port = running.enter_context(_redis())
        clients = _clients(running, collector, port)
        token = (collector.store.parent / ADMIN_TOKEN_FILE).read_text(encoding="utf-8").strip()
        person = running.enter_context(httpx.Client(base_url=collector.url, trust_env=False))
        person.headers["Authorization"] = f"Bearer {token}"
        time.sleep(WARM_S)
        found = [_round(f"hot-{number}", clients, person) for number in range(rounds)]
    _tell(report, found)
    return report


def _tell(report: Report, found: list[tuple[float, float | None]]) -> None:
    """Add the figures of all rounds."""
    paced = [one[0] for one in found]
    enforced = [one[1] for one in found if one[1] is not None]
    report.add("the decision -> enforced in all, p50", quantile(enforced, 0.5), "ms")
    report.add("the decision -> enforced in all, p99", quantile(enforced, 0.99), "ms", ENFORCED)
    report.add("the decision -> enforced in all, slowest", quantile(enforced, 1.0), "ms")
    report.add("rounds with a decision", len(enforced), "rounds")
    report.add("the first call -> slowed in all, p50", quantile(paced, 0.5), "ms", PACED_P50)
    report.add("the first call -> slowed in all, p99", quantile(paced, 0.99), "ms", PACED_P99)
    report.add("the first call -> slowed in all, slowest", quantile(paced, 1.0), "ms")
    report.add("rounds", len(found), "rounds")
    missed = sum(ms >= GIVE_UP_MS for ms in paced)
    report.add(f"not slowed within {GIVE_UP_S:g} s", missed, "rounds", Target("at most", 0))
    report.notes.append(
        "Each round has a user of its own. Of fewer than 100 the 99th percentile is the slowest. "
        f"A round in which the user is not slowed in all counts as {GIVE_UP_S:g} s. "
        "Clients, Redis and collector share the machine."
    )


def _round(user: str, clients: list[_Client], person: httpx.Client) -> tuple[float, float | None]:
    """Milliseconds from the first call, and from the decision if there is one, to all clients.

    What did not happen counts as ``GIVE_UP_MS``: left out, it would flatter the other rounds.
    """
    for number in BURNERS:
        clients[number].tell(f"burn {user}")
    deadline = time.monotonic() + GIVE_UP_S
    while None in _had_ns(user, clients) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(ON_S)
    for number in BURNERS:
        clients[number].tell("stop")
    began = (clients[number].first_ns("ran", lambda one: one["user"] == user) for number in BURNERS)
    first_ns = min(ns for ns in began if ns is not None)
    had = _had_ns(user, clients)
    entry = next((one for one in _held(person) if one["user"] == user), None)
    decided_ns = _decided_ns(user, person)
    if entry is not None:
        person.delete(f"{BREAKERS_PATH}/{entry['id']}", params={"by": "benchmark"})
    time.sleep(APART_S)
    return _until_all_ms(first_ns, had), decided_ns and _until_all_ms(decided_ns, had)


def _until_all_ms(since_ns: int, had: list[int | None]) -> float:
    ends = [ns for ns in had if ns is not None]
    return (max(ends) - since_ns) / 1e6 if len(ends) == len(had) else GIVE_UP_MS


def _had_ns(user: str, clients: list[_Client]) -> list[int | None]:
    return [one.first_ns("applied", lambda said: user in said["users"]) for one in clients]


def _held(person: httpx.Client) -> list[dict[str, Any]]:
    return list(person.get(BREAKERS_PATH).json()["entries"])


def _decided_ns(user: str, person: httpx.Client) -> int | None:
    changes = person.get("/api/audit", params={"limit": 100}).json()["changes"]
    opened = [row["at_ns"] for row in changes if (row["entry"] or {}).get("user") == user]
    return min(opened, default=None)


@contextmanager
def _redis() -> Iterator[int]:
    """A Redis with something small and something large in it; its port."""
    port = free_port()
    command = [redis_server_path(), "--port", str(port), "--bind", HOST, "--save", ""]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port) as client:
                _await(client.ping)
                client.set("small", "1")
                client.sadd("large", *range(LARGE))
            yield port
        finally:
            process.kill()
            process.wait()


def _await(happens: Callable[[], object], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            happens()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _clients(running: ExitStack, collector: RealCollector, port: int) -> list[_Client]:
    folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
    certificate, context = localhost_certificate(folder)
    proxies = Proxies([context] * SECURE)
    running.callback(proxies.close)
    host, _, at = collector.url.removeprefix("http://").partition(":")
    proxies.aim(host, int(at))
    plain = [collector.url] * (CLIENTS - SECURE)
    endpoints = [one.endpoint for one in proxies.each] + plain
    environment = clean_environment() | {"SSL_CERT_FILE": str(certificate)}
    clients = [
        _Client(number, endpoint, port, environment) for number, endpoint in enumerate(endpoints)
    ]
    for client in clients:
        running.callback(client.close)
    deadline = time.monotonic() + 60
    while any(client.first_ns("ready", lambda _: True) is None for client in clients):
        if time.monotonic() > deadline:
            raise TimeoutError("not all clients are ready")
        time.sleep(0.1)
    return clients


def main() -> None:
    """Alone, as ``run.py --only fleet``."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    flags = parser.parse_args()
    report = run(quick=flags.quick)
    show(report)
    if flags.json:
        write_json(flags.json, machine(), [report])


if __name__ == "__main__":
    main()
