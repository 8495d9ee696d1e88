"""Ordinary life: everybody is the cause, or something that is no user."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Final

from heatshield_collector.worlds.requests import Compute, Operate, Step
from heatshield_collector.worlds.scene import BEGINS_S, Scene
from heatshield_collector.worlds.scenes.parts import Shop, computing, shop, threads, usual
from heatshield_collector.worlds.users import Ask, Population, closed_loop, crowd
from heatshield_collector.worlds.world import World

__all__ = ["LIFE_OVERLOAD"]

END_S: Final = BEGINS_S + 40.0
HOUR_S: Final = 3_600.0


def flash_crowd(world: World) -> None:
    """All come at once; the platform saturates."""
    ask = shop(world).ask("GET /cart", 0.001)
    usual(world, ask, 100.0, END_S)
    crowd(world, "crowd", ask, Population(5_000, 0.6), rate=900.0, from_s=BEGINS_S,
          to_s=BEGINS_S + 20.0)  # fmt: skip


def bad_deploy(world: World) -> None:
    """A call becomes 30 times as expensive for everybody."""
    here = shop(world)
    before, after = here.ask("GET /cart", 0.001), here.ask("GET /cart", 0.03)

    def steps(chance: random.Random) -> Sequence[Step]:
        return (before if world.now_s < BEGINS_S else after).steps(chance)

    usual(world, Ask(here.service, "GET /cart", steps), 60.0, END_S)


def slow_dependency(world: World) -> None:
    """A backend that nobody hears of stalls; every request that needs it waits."""
    app = threads(world, instances=2)
    dependency = world.backend("", "mail:25", servers=20)
    world.engine.at(BEGINS_S, dependency.stall, 8.0)
    world.engine.at(BEGINS_S + 15.0, dependency.stall, 2.0)
    needs = Ask(app, "POST /order", lambda _: (Compute(0.003), Operate(dependency, 0.02)))
    usual(world, needs, 30.0, END_S)
    usual(world, computing(app, "GET /", 0.004), 30.0, END_S, source="readers")


def retry_storm(world: World) -> None:
    """A service restarts; callers give up after a second, and ask up to three times more."""
    app = threads(world, instances=2)
    for instance in app.instances:
        world.engine.at(BEGINS_S, instance.processors.change_speed, 0.02)
        world.engine.at(BEGINS_S + 5.0, instance.processors.change_speed, 1.0)
    ask = computing(app, "GET /", 0.015)
    crowd(world, "people", ask, Population(1_000), rate=70.0, to_s=END_S, gives_up_s=1.0,
          retries=3)  # fmt: skip


def cold_start(world: World, *, from_s: float) -> None:
    """Caches are cold: every request is eight times as slow, and less so over a minute."""
    here = shop(world)

    def warm() -> None:
        age_s = world.now_s - from_s
        here.redis.factor = 1.0 + 7.0 * max(0.0, 1.0 - age_s / 60.0)
        if age_s < 60.0:  # noqa: PLR2004
            world.engine.after(1.0, warm)

    world.engine.at(from_s, warm)
    usual(world, here.ask("GET /cart", 0.001), 120.0, from_s + 60.0)


def noisy_machine(world: World) -> None:
    """Processors taken by another program, pauses, clocks that step, a late collector."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 60.0, END_S)
    usual(world, computing(here.service, "GET /", 0.004), 40.0, END_S, source="readers")
    instances = here.service.instances
    for at, instance in enumerate(instances):
        for spell in range(3):
            begin_s = BEGINS_S + 8.0 * spell + at
            world.engine.at(begin_s, instance.processors.change_speed, 0.15)
            world.engine.at(begin_s + 3.0, instance.processors.change_speed, 1.0)
        pause = partial(instance.processors.start, 0.4, lambda: None)
        for at_s in range(int(BEGINS_S), int(END_S), 7):
            world.engine.at(at_s, pause)
        world.engine.at(BEGINS_S + 10.0, setattr, instance, "clock_s", HOUR_S * (1 - 2 * at))
    world.engine.at(BEGINS_S + 25.0, _be_late, world)


def _be_late(world: World) -> None:
    if world.collector is not None:
        world.collector.late_until_s = world.now_s + 3.0


def victim(world: World) -> None:
    """Somebody burns a Redis; an ordinary user who is there all the time is slow for it."""
    here = shop(world)
    ask = here.ask("GET /cart", 0.001)
    usual(world, ask, 60.0, END_S)
    crowd(world, "victim", ask, "victim", rate=20.0, to_s=END_S)
    if world.culprits:
        _burn(world, here)


def _burn(world: World, here: Shop) -> None:
    burn = here.exactly("POST /purchases", 0.08, elements=20_004)
    closed_loop(world, "hot", burn, "hot", connections=4, from_s=BEGINS_S, to_s=END_S,
                think_s=0.05)  # fmt: skip


def noisy_neighbour(world: World) -> None:
    """Another tenant, whom nobody hears of, keeps the Redis 85 % busy."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 80.0, END_S)
    chance = world.chance("neighbour")

    def serve() -> None:
        here.redis.serve(0.034, lambda: None)
        world.engine.after(chance.expovariate(25.0), serve)

    world.engine.at(BEGINS_S, serve)


def _life(name: str, about: str, build: object, **more: object) -> Scene:
    said = {"seconds": END_S, "kind": "life"} | more
    return Scene(name, about, build=build, **said)  # type: ignore[arg-type]


LIFE_OVERLOAD: Final = (
    _life("flash-crowd", "all users come at once", flash_crowd, overload=True,
          seconds=BEGINS_S + 25.0),
    _life("bad-deploy", "a call becomes 30 times as expensive for everybody", bad_deploy,
          overload=True),
    _life("slow-dependency", "a backend that nobody hears of stalls", slow_dependency,
          overload=True),
    _life("retry-storm", "a service restarts, its callers retry", retry_storm, overload=True),
    _life("cold-start", "the collector starts under full load, caches are cold",
          partial(cold_start, from_s=0.0), seconds=60.0),
    _life("cold-caches", "all services start under full load", partial(cold_start, from_s=BEGINS_S),
          seconds=BEGINS_S + 60.0),
    _life("noisy-machine", "processors taken, pauses, clock steps, a late collector",
          noisy_machine),
    _life("victim", "an ordinary user while somebody else burns the Redis", victim,
          culprits=("hot",)),
    _life("noisy-neighbour", "a tenant nobody hears of keeps the Redis busy", noisy_neighbour,
          kind="incident", overload=True),
)  # fmt: skip
