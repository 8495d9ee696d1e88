"""A world: an engine, services, backends and users, with the collector or without."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from heatshield_collector.settings import CollectorSettings
from heatshield_collector.simulation import Simulation
from heatshield_collector.worlds.backends import Backend
from heatshield_collector.worlds.charge_emitter import ChargeEmitter
from heatshield_collector.worlds.collector import RealCollector
from heatshield_collector.worlds.engine import Engine
from heatshield_collector.worlds.requests import Request, Step
from heatshield_collector.worlds.services import Instance, Service, Shape
from heatshield_collector.worlds.span_emitter import SpanEmitter
from heatshield_collector.worlds.telemetry import Faults, Mode, Several, Telemetry

__all__ = ["Asked", "World"]


@dataclass(slots=True)
class Asked:
    """One request of a user, and what became of it.

    Attributes:
        source: what makes the users' requests, and
        number: which of its requests it is: the same in the world without the culprits.
        latency_s: until the answer; ``None``: it runs.
    """

    source: str
    number: int
    user: str
    sent_s: float
    latency_s: float | None = None
    status: int = 0
    paced: bool = False
    waited_s: float = 0.0


class World:
    """Everything that there is.

    Args:
        seed: of all chance; each source of it has a stream of its own, so that leaving one out
            changes nothing for the others.
        mode: by what processes tell their costs; ``None``: there is no collector.
        faults: of telemetry.
        settings: of the collector.
        culprits: whether those who burn are in it.
        scale: times as many ids, where a scene is about their number.

    Attributes:
        asked: all requests of users.
    """

    def __init__(
        self,
        seed: int,
        mode: Mode | None = "reports",
        faults: Faults | None = None,
        settings: CollectorSettings | None = None,
        *,
        culprits: bool = True,
        scale: float = 1.0,
    ) -> None:
        self.engine = Engine()
        self.seed = seed
        self.culprits = culprits
        self.scale = scale
        self.asked: list[Asked] = []
        self.services: list[Service] = []
        self.faults = faults or Faults()
        self._mode: Mode | None = mode
        ids = self.chance("ids")
        self._id: Callable[[], int] = lambda: ids.getrandbits(64) or 1
        self._trace_id: Callable[[], int] = lambda: ids.getrandbits(128) or 1
        self._counts: dict[str, int] = {}
        self.collector: RealCollector | None = None
        self.start_ns, self.start_s = 1_700_000_000 * 10**9, 1_000.0
        if mode is not None:
            simulation = Simulation(settings or CollectorSettings(mode="protect"), seed=seed)
            self.start_s, self.start_ns = simulation.clock.monotonic(), simulation.clock.time_ns()
            self.collector = RealCollector(
                self.engine, simulation, self.faults, self.chance("the way to the collector")
            )

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return self.engine.now_s

    def chance(self, name: str) -> random.Random:
        """A stream of chance of its own."""
        return random.Random(f"{self.seed} {name}")  # noqa: S311 - no secret

    # -- parts -------------------------------------------------------------------------------------

    def service(self, name: str, count: int = 1, shape: Shape | None = None) -> Service:
        """Add a service."""
        one = Service(self.engine, name, count, shape or Shape(), self._id, self.start_s)
        skew = self.chance(f"clocks of {name}")
        for instance in one.instances:
            instance.clock_s = skew.uniform(-self.faults.skew_s, self.faults.skew_s)
            instance.telemetry = self._telemetry(instance)
        self.services.append(one)
        return one

    def backend(self, system: str, address: str, servers: int = 1) -> Backend:
        """Add a backend; without a system, one that nobody hears of."""
        return Backend(self.engine, system, address, servers)

    def _telemetry(self, instance: Instance) -> Telemetry | None:
        if self.collector is None:
            return None
        said: tuple[Any, ...] = (instance, self.start_ns, self.faults, self.collector.deliver)
        if self._mode == "spans":
            return SpanEmitter(*said)
        if self._mode == "reports":
            return ChargeEmitter(*said)
        return Several(ChargeEmitter(*said), SpanEmitter(*said))

    # -- what happens ------------------------------------------------------------------------------

    def ask(
        self, source: str, user: str, service: Service, call: str, steps: Sequence[Step],
        then: Callable[[Asked], None] | None = None,
    ) -> Asked:  # fmt: skip
        """A user calls a service now; ``then`` is told when the answer has come."""
        number = self._counts[source] = self._counts.get(source, 0) + 1
        asked = Asked(source, number, user, self.now_s)
        self.asked.append(asked)
        request = Request(user, call, steps, self.now_s, self._trace_id(), self._id())

        def answered(answer: Request) -> None:
            asked.latency_s = self.now_s - asked.sent_s
            asked.status, asked.paced = answer.status, answer.paced
            asked.waited_s = answer.waited_s
            if then is not None:
                then(asked)

        service.take(request, answered)
        return asked

    def run(self, until_s: float) -> "World":
        """Let time pass."""
        if self.collector is not None and self.now_s == 0:
            self.collector.connect([one for service in self.services for one in service.instances])
        self.engine.run(until_s)
        return self
