"""What scenes are made of: a shop on one Redis, a service of threads, and their usual traffic."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from heatshield_collector.worlds.backends import Backend
from heatshield_collector.worlds.requests import Compute, Operate, Step
from heatshield_collector.worlds.services import Kind, Service, Shape
from heatshield_collector.worlds.users import Ask, Population, crowd
from heatshield_collector.worlds.world import World

__all__ = ["PEOPLE", "Shop", "computing", "lognormal", "shop", "threads", "usual"]

PEOPLE: Final = 1_000
"""Users of a scene, dealt by a Zipf law."""

SIGMA: Final = 1.0
"""Of the logarithm of costs."""

MICRO_S: Final = 0.0005
"""Processor time of a request that asks a backend, beside."""


def lognormal(chance: random.Random, mean_s: float, sigma: float = SIGMA) -> float:
    """A cost of this mean."""
    return mean_s * chance.lognormvariate(-sigma * sigma / 2, sigma)


@dataclass(frozen=True, slots=True)
class Shop:
    """A service whose calls ask one single-threaded Redis."""

    service: Service
    redis: Backend

    def ask(self, call: str, seconds: float, *, elements: int = 4, times: int = 1) -> Ask:
        """A call that does so many operations, of this mean in all."""

        def steps(chance: random.Random) -> Sequence[Step]:
            each = [lognormal(chance, seconds / times) for _ in range(times)]
            return (
                Compute(MICRO_S),
                *(Operate(self.redis, one, elements, "SMEMBERS") for one in each),
            )

        return Ask(self.service, call, steps)

    def exactly(self, call: str, seconds: float, *, elements: int = 4) -> Ask:
        """A call with one operation that takes just so long."""
        plan = (Compute(MICRO_S), Operate(self.redis, seconds, elements, "SMEMBERS"))
        return Ask(self.service, call, lambda _: plan)


def shop(world: World, *, instances: int = 2, redis: str = "cart:6379") -> Shop:
    """A shop of asynchronous processes on one Redis."""
    return Shop(
        world.service("shop", instances, Shape("loop")),
        world.backend("redis", redis),
    )


def threads(
    world: World, name: str = "app", *, instances: int = 1, workers: int = 8,
    processors: float = 1.0,
) -> Service:  # fmt: skip
    """A service of threads; with one processor, they share Python's lock."""
    kind: Kind = "gil" if processors == 1.0 else "threads"
    return world.service(name, instances, Shape(kind, workers, processors))


def computing(service: Service, call: str, seconds: float, sigma: float = SIGMA) -> Ask:
    """A call that computes."""
    return Ask(service, call, lambda chance: (Compute(lognormal(chance, seconds, sigma)),))


def usual(
    world: World, ask: Ask, rate: float, to_s: float, *, s: float = 1.0, source: str = "people",
    from_s: float = 0.0, at_rate: Callable[[float], float] | None = None,
) -> None:  # fmt: skip
    """The usual traffic of all users."""
    people = Population(PEOPLE, s)
    crowd(world, source, ask, people, rate=rate, from_s=from_s, to_s=to_s, at_rate=at_rate)
