"""Sends the load on the shop, in its own process: ``python -m heatshield_stickershop.load``.

Ordinary users come first, as an open loop. After ``--calm-s`` seconds the hot user joins them on a
few connections, each of which buys again as soon as it has its answer. A hot user who is refused,
or told to wait (429), ignores ``Retry-After``, as many real clients do, and retries about 20 times
a second over all connections.

The result of each request goes to standard output as one line of JSON when the request ends.
"""

import argparse
import asyncio
import contextlib
import heapq
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, Final, Self

from heatshield.names import BREAKER_HEADER
from heatshield_stickershop import arrivals, population
from heatshield_stickershop.arrivals import Arrival
from heatshield_stickershop.connections import Connections, NoAnswer

__all__ = ["LoadSettings", "Sent", "main", "run"]

TIMEOUT_S: Final = 10.0
"""Seconds; longer than any service's own timeout, so that the load sees the service's answer."""

NO_ANSWER: Final = 0
"""The status of a request without an answer."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The result of one request.

    Attributes:
        due_ns: when it was due, in nanoseconds since the Unix epoch; for the hot user, when it was
            sent.
        latency_ms: from then until its answer was read, or it failed.
        status: HTTP status, 0 without an answer.
        user: the user that sent it.
        hot: whether that is the hot user.
        route: the kind of request.
        rejected_by: id of the breaker entry that refused it, or None.
    """

    due_ns: int
    latency_ms: float
    status: int
    user: str
    hot: bool
    route: str
    rejected_by: str | None

    @property
    def failed(self) -> bool:
        """Whether the request got a 5xx or no answer."""
        return self.status == NO_ANSWER or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    @property
    def refused(self) -> bool:
        """Whether heatshield refused it: a breaker, or the pace of its user (429)."""
        return self.rejected_by is not None or self.status == HTTPStatus.TOO_MANY_REQUESTS

    def to_line(self) -> str:
        """Format the result as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """Parse a line of :meth:`to_line`."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """The size and duration of the load.

    Attributes:
        gateway: address of the gateway.
        seed: seed of the arrivals.
        rate_per_s: requests of all ordinary users together.
        calm_s: seconds of ordinary users alone.
        hot_s: seconds with the hot user.
        connections: connections of the hot user; 0: there is none.
        rude_per_s: retries of a refused hot user a second, over all connections.
        spells: seconds after the start from and to which the hot user buys; empty: once, from
            ``calm_s`` to the end.
        surge: times the ordinary users' rate once ``calm_s`` are over.
        page_every_s: seconds between the pages of pictures that a reader opens from ``calm_s`` on;
            0: there is no reader.
    """

    gateway: str
    seed: int = 1
    rate_per_s: float = 45.0
    calm_s: float = 12.0
    hot_s: float = 12.0
    connections: int = 4
    rude_per_s: float = 20.0
    spells: tuple[tuple[float, float], ...] = ()
    surge: float = 1.0
    page_every_s: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.calm_s + self.hot_s

    @property
    def burning(self) -> tuple[tuple[float, float], ...]:
        """When the hot user buys."""
        return self.spells or ((self.calm_s, self.seconds),)

    def flags(self) -> list[str]:
        """As the program takes them."""
        given: dict[str, Any] = {name: value for name, value in asdict(self).items() if value}
        given["spells"] = ",".join(f"{since:g}-{until:g}" for since, until in self.spells)
        given["connections"] = self.connections
        return [
            word
            for name, value in given.items()
            if value != ""
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]


def _spells(said: str) -> tuple[tuple[float, float], ...]:
    pairs = (spell.split("-") for spell in said.split(","))
    return tuple((float(since), float(until)) for since, until in pairs)


class _Sender:
    """Sends requests and records their results."""

    def __init__(self, gateway: Connections, record: Callable[[Sent], None]) -> None:
        self._gateway = gateway
        self._record = record
        # Latencies come from the monotonic clock; only their origin is a wall-clock time.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()

    async def send(self, arrival: Arrival, due: float) -> Sent:
        """Send one request that was due at that monotonic time, in seconds."""
        status, rejected_by = NO_ANSWER, None
        headers = {"x-user-id": arrival.user, "content-type": "application/json"}
        body = json.dumps(arrival.body).encode() if arrival.body else b""
        with contextlib.suppress(NoAnswer):
            answer = await self._gateway.post(arrival.path, headers, body)
            status, rejected_by = answer.status, answer.headers.get(BREAKER_HEADER)
        sent = Sent(
            due_ns=self._epoch_ns + round(due * 1e9),
            latency_ms=round((time.monotonic() - due) * 1e3, 3),
            status=status,
            user=arrival.user,
            hot=arrival.user == population.HOT_USER,
            route=arrival.route,
            rejected_by=rejected_by,
        )
        self._record(sent)
        return sent


async def run(settings: LoadSettings, record: Callable[[Sent], None]) -> None:
    """Send the whole load; ``record`` gets each result when its request ends."""
    async with Connections(settings.gateway, TIMEOUT_S) as gateway:
        sender = _Sender(gateway, record)
        start = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_ordinary_users(settings, sender, start, tasks))
            if settings.page_every_s:
                tasks.create_task(_reader(settings, sender, start, tasks))
            for number in range(settings.connections):
                tasks.create_task(_hot_connection(settings, sender, start, number))


async def _ordinary_users(
    settings: LoadSettings, sender: _Sender, start: float, tasks: asyncio.TaskGroup
) -> None:
    duration_s, rate = settings.seconds, settings.rate_per_s
    coming = arrivals.arrivals(settings.seed, rate, duration_s)
    if settings.surge > 1.0:
        more = arrivals.arrivals(settings.seed + 1, rate * (settings.surge - 1.0), duration_s)
        surge = (one for one in more if one.due_s >= settings.calm_s)
        coming = heapq.merge(coming, surge, key=lambda one: one.due_s)
    for arrival in coming:
        due = start + arrival.due_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.create_task(sender.send(arrival, due))


async def _hot_connection(
    settings: LoadSettings, sender: _Sender, start: float, connection: int
) -> None:
    numbers = itertools.count(connection * 100_000)
    for since_s, until_s in settings.burning:
        await asyncio.sleep(max(0.0, start + since_s - time.monotonic()))
        while (now := time.monotonic()) < start + until_s:
            bought = arrivals.purchase(0.0, population.HOT_USER, next(numbers))
            sent = await sender.send(bought, now)
            if sent.failed or sent.refused:
                await asyncio.sleep(settings.connections / settings.rude_per_s)


async def _reader(
    settings: LoadSettings, sender: _Sender, start: float, tasks: asyncio.TaskGroup
) -> None:
    due_s = settings.calm_s
    while due_s + settings.page_every_s <= settings.seconds:
        await asyncio.sleep(max(0.0, start + due_s - time.monotonic()))
        for picture in arrivals.page(due_s, population.READER):
            tasks.create_task(sender.send(picture, start + due_s))
        due_s += settings.page_every_s


def main() -> None:
    """Read the flags, send the load, print the results."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--gateway", required=True)
    for name, kind in (("seed", int), ("connections", int)):
        parser.add_argument(f"--{name}", type=kind)
    for name in ("rate-per-s", "calm-s", "hot-s", "rude-per-s", "surge", "page-every-s"):
        parser.add_argument(f"--{name}", type=float)
    parser.add_argument("--spells", type=_spells)
    given: dict[str, Any] = vars(parser.parse_args())
    settings = LoadSettings(**{name: value for name, value in given.items() if value is not None})

    def record(sent: Sent) -> None:
        sys.stdout.write(sent.to_line() + "\n")
        sys.stdout.flush()

    asyncio.run(run(settings, record))


if __name__ == "__main__":
    main()
