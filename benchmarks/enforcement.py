"""Time from a hot user's first request until no process computes for that user.

A real collector, two real uvicorn processes of one instrumented service, and ordinary users all the
time. In each run a user who was never seen before begins: four connections that send the next
request when the last was answered, each request some 60 ms of hashing. The clock runs from the
moment before that user's first request is sent

- to the first 503 that the user gets,
- to the moment the collector opened the breaker, and
- until *both* processes have told the collector that they enforce that version: the figure that the
  target is about. Times are the collector's own ``at_ns``, on the same machine's clock.

Then the entry is cleared and the next run has a new user. Pauses between the runs keep them under
the 20 new entries a minute that breaker control allows, and are uneven, so that a run begins at any
phase of the 250 ms rounds. The collector's cold start is cut from 120 s to 5 s.
"""

import asyncio
import contextlib
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

import figures
from burner import CALL, HOT_PREFIX, SERVICE
from collector_process import HOST, RealCollector, clean_environment
from figures import Report, Target, quantile
from heatshield.cli.local_token import local_token
from heatshield.contract import StateVersion
from heatshield.names import BREAKER_HEADER, BREAKERS_PATH
from heatshield_stickershop.demo.events import Event, listen
from heatshield_stickershop.processes import answers_ok, free_port

__all__ = ["run"]

RUNS: Final = 20
QUICK_RUNS: Final = 3
PROCESSES: Final = 2
CONNECTIONS: Final = 4

USERS: Final = 500
USUAL_PER_S: Final = 40.0
CALM_S: Final = 8.0
"""Of ordinary traffic before the first run: longer than the cold start."""
COLD_START_S: Final = 5.0
PAUSE_S: Final = (3.1, 3.7)
GIVE_UP_S: Final = 10.0
REJECTED_WAIT_S: Final = 0.05

P50: Final = Target("at most", 0.5)
P99: Final = Target("at most", 1.0)


@dataclass(slots=True)
class _Run:
    """Seconds from the first hot request; NaN where it did not happen."""

    opened_s: float = math.nan
    refused_s: float = math.nan
    everywhere_s: float = math.nan
    computed: int = 0


@dataclass(slots=True)
class _Seen:
    """What the collector's event stream has said so far."""

    opened: dict[str, Event] = field(default_factory=dict)
    applied: list[Event] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow(self, client: httpx.AsyncClient, listening: asyncio.Event) -> None:
        """Listen until cancelled."""
        async for event in listen(client, listening.set):
            if event.name == "breaker" and event.data["change"] == "opened":
                self.opened.setdefault(event.data["entry"]["user"], event)
            elif event.name == "applied" and event.data["service"] == SERVICE:
                self.applied.append(event)
            async with self.changed:
                self.changed.notify_all()

    def everywhere_ns(self, version: StateVersion) -> int | None:
        """When the last process had applied that version; ``None`` while one has not."""
        first: dict[str, int] = {}
        for event in self.applied:
            if event.version >= version:
                first.setdefault(event.data["instance"], event.at_ns)
        return max(first.values()) if len(first) == PROCESSES else None

    async def until(self, happened: Callable[[], bool]) -> bool:
        """Wait for something in the events, for a while."""
        async with self.changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait_for(happened), GIVE_UP_S)
        return happened()


class _Fleet:
    """The processes of the service, and the users that send to them."""

    def __init__(self, client: httpx.AsyncClient, urls: list[str]) -> None:
        self._client = client
        self._urls = urls
        self._random = random.Random(5)
        self.usual_ms: list[float] = []
        self.usual_refused = 0

    async def _send(self, user: str, url: str) -> httpx.Response:
        return await self._client.post(f"{url}/digests", headers={"x-user-id": user})

    async def usual(self) -> None:
        """Ordinary users, as an open loop, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(self._random.expovariate(USUAL_PER_S))
                tasks.create_task(self._usual_request())

    async def _usual_request(self) -> None:
        began = time.monotonic()
        user = f"user-{self._random.randrange(USERS)}"
        with contextlib.suppress(httpx.TransportError):
            answer = await self._send(user, self._random.choice(self._urls))
            self.usual_ms.append((time.monotonic() - began) * 1e3)
            self.usual_refused += BREAKER_HEADER in answer.headers

    async def hot(self, user: str, connection: int, run: _Run, began_ns: int) -> None:
        """One connection of a hot user, until cancelled."""
        url = self._urls[connection % len(self._urls)]
        while True:
            answer = await self._send(user, url)
            if BREAKER_HEADER not in answer.headers:
                run.computed += 1
                continue
            if math.isnan(run.refused_s):
                run.refused_s = (time.time_ns() - began_ns) / 1e9
            await asyncio.sleep(REJECTED_WAIT_S)


async def _one_run(user: str, fleet: _Fleet, seen: _Seen, collector: httpx.AsyncClient) -> _Run:
    run, began_ns = _Run(), time.time_ns()
    senders = [
        asyncio.create_task(fleet.hot(user, connection, run, began_ns))
        for connection in range(CONNECTIONS)
    ]
    if await seen.until(lambda: user in seen.opened):
        opened = seen.opened[user]
        run.opened_s = (opened.at_ns - began_ns) / 1e9
        if await seen.until(lambda: seen.everywhere_ns(opened.version) is not None):
            run.everywhere_s = ((seen.everywhere_ns(opened.version) or 0) - began_ns) / 1e9
        await asyncio.sleep(2 * REJECTED_WAIT_S)  # for the 503s that are on their way
        cleared = await collector.delete(f"{BREAKERS_PATH}/{opened.data['entry']['id']}")
        cleared.raise_for_status()
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    return run


async def _runs(collector_url: str, urls: list[str], count: int) -> tuple[list[_Run], _Fleet]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    seen, listening = _Seen(), asyncio.Event()
    admin = {"Authorization": f"Bearer {local_token(collector_url)}"}
    async with (
        httpx.AsyncClient(timeout=GIVE_UP_S, limits=limits, trust_env=False) as client,
        httpx.AsyncClient(base_url=collector_url, headers=admin, trust_env=False) as collector,
    ):
        fleet = _Fleet(client, urls)
        background = [
            asyncio.create_task(seen.follow(collector, listening)),
            asyncio.create_task(fleet.usual()),
        ]
        await listening.wait()
        await asyncio.sleep(CALM_S)
        runs = []
        for number in range(count):
            runs.append(await _one_run(f"{HOT_PREFIX}{number}", fleet, seen, collector))
            await asyncio.sleep(random.uniform(*PAUSE_S))
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    return runs, fleet


def run(*, quick: bool = False) -> Report:
    """Measure."""
    with RealCollector("--mode", "protect", "--cold-start-s", str(COLD_START_S)) as collector:
        urls = _start_services(collector)
        runs, fleet = asyncio.run(_runs(collector.url, urls, QUICK_RUNS if quick else RUNS))
    report = Report("enforcement", "from a hot user's first request to enforcement")
    everywhere = [one.everywhere_s for one in runs if not math.isnan(one.everywhere_s)]
    report.add("enforced in every process, p50", quantile(everywhere, 0.5), "s", P50)
    report.add("enforced in every process, p99", quantile(everywhere, 0.99), "s", P99)
    report.add("enforced in every process, min", min(everywhere, default=math.nan), "s")
    for what, values in (
        ("breaker opened", [one.opened_s for one in runs if not math.isnan(one.opened_s)]),
        (
            "first call slowed or refused",
            [one.refused_s for one in runs if not math.isnan(one.refused_s)],
        ),
    ):
        report.add(f"{what}, p50", quantile(values, 0.5), "s")
        report.add(f"{what}, max", max(values, default=math.nan), "s")
    missed = len(runs) - len(everywhere)
    report.add("runs that ended without enforcement", missed, "", Target("at most", 0))
    report.add("ordinary users' requests refused", fleet.usual_refused, "", Target("at most", 0))
    report.add("hot requests computed, p50", quantile([one.computed for one in runs], 0.5), "")
    report.notes.append(
        f"{len(runs)} runs, {CONNECTIONS} connections each on {CALL}; the p99 of so few is their "
        f"maximum. Ordinary users: {len(fleet.usual_ms):,} requests, "
        f"p50 {quantile(fleet.usual_ms, 0.5):.1f} ms, p99 {quantile(fleet.usual_ms, 0.99):.0f} ms."
    )
    return report


def _start_services(collector: RealCollector) -> list[str]:
    environment = clean_environment(HEATSHIELD_ENDPOINT=collector.url)
    urls = []
    for number in range(PROCESSES):
        port = free_port()
        url = f"http://{HOST}:{port}"
        command = [sys.executable, "-m", "uvicorn", "--factory", "burner:create_app"]
        where = ["--app-dir", str(Path(__file__).parent), "--host", HOST, "--port", str(port)]
        quiet = ["--log-level", "warning", "--no-access-log"]
        child = collector.processes.start(
            f"{SERVICE}-{number}", [*command, *where, *quiet], environment
        )
        collector.processes.wait_ready(child, answers_ok(f"{url}/healthz"))
        urls.append(url)
    return urls


if __name__ == "__main__":
    figures.main(run)
