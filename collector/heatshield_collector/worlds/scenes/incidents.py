"""Incidents: a user burns what others need."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Final

from heatshield_collector.worlds.requests import Compute, Operate, Step, Visit
from heatshield_collector.worlds.scene import BEGINS_S, Scene
from heatshield_collector.worlds.scenes.parts import (
    Shop,
    computing,
    lognormal,
    shop,
    threads,
    usual,
)
from heatshield_collector.worlds.services import Shape
from heatshield_collector.worlds.telemetry import Faults
from heatshield_collector.worlds.users import Ask, closed_loop, crowd
from heatshield_collector.worlds.world import World

__all__ = ["INCIDENTS"]

END_S: Final = BEGINS_S + 20.0
BOMB_IDS_PER_S: Final = 1_000.0
"""New ids a second of the cardinality bomb, times ``--scale``."""


def burn(world: World, here: Shop, user: str = "hot", *, connections: int = 4,
         from_s: float = BEGINS_S, to_s: float = END_S, apart_s: float = 0.0) -> None:  # fmt: skip
    """Keep the Redis busy with 80 ms an operation, over several connections."""
    if world.culprits:
        ask = here.exactly("POST /purchases", 0.08, elements=20_004)
        closed_loop(world, user, ask, user, connections=connections, from_s=from_s, to_s=to_s,
                    think_s=0.05, apart_s=apart_s)  # fmt: skip


def hot_user(world: World) -> None:
    """Four connections, one after the other in a second."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 100.0, END_S)
    burn(world, here, apart_s=0.3)


def slow_ramp(world: World) -> None:
    """One more connection every ten seconds."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 100.0, BEGINS_S + 60.0)
    if world.culprits:
        ask = here.exactly("POST /purchases", 0.06, elements=15_000)
        closed_loop(world, "hot", ask, "hot", connections=6, from_s=BEGINS_S,
                    to_s=BEGINS_S + 60.0, think_s=0.1, apart_s=10.0)  # fmt: skip


def two_at_once(world: World) -> None:
    """Two users, two connections each."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 100.0, END_S)
    burn(world, here, "hot", connections=2)
    burn(world, here, "hot2", connections=2)


def from_the_start(world: World) -> None:
    """Burns before the collector knows anything."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 100.0, END_S)
    burn(world, here, from_s=0.5)


def computes(world: World) -> None:
    """Keeps event loops busy with 60 ms of computing a request."""
    app = world.service("app", 2, Shape("loop"))
    usual(world, computing(app, "GET /", 0.003), 60.0, END_S)
    if world.culprits:
        ask = Ask(app, "POST /render", lambda _: (Compute(0.06),))
        closed_loop(world, "hot", ask, "hot", connections=8, from_s=BEGINS_S, to_s=END_S)


def late_loop(world: World) -> None:
    """Keeps one event loop busy, which sees of the others' requests only when it gets to them."""
    app = world.service("app", 1, Shape("loop", reads_late=True))
    usual(world, computing(app, "GET /", 0.003), 60.0, END_S)
    if world.culprits:
        ask = Ask(app, "POST /render", lambda _: (Compute(0.06),))
        closed_loop(world, "hot", ask, "hot", connections=6, from_s=BEGINS_S, to_s=END_S)


def database(world: World) -> None:
    """Keeps a database of four servers busy with queries of 0.4 s, over eight connections."""
    app = world.service("app", 2, Shape("loop", connections=10))
    postgres = world.backend("postgresql", "db:5432", servers=4)

    def query(chance: random.Random) -> Sequence[Step]:
        return (Compute(0.0005), Operate(postgres, lognormal(chance, 0.004), command="SELECT"))

    usual(world, Ask(app, "GET /", query), 80.0, END_S)
    if world.culprits:
        slow = (Compute(0.0005), Operate(postgres, 0.4, 50_000, "SELECT"))
        ask = Ask(app, "GET /search", lambda _: slow)
        closed_loop(world, "hot", ask, "hot", connections=8, from_s=BEGINS_S, to_s=END_S)


def backlog(world: World) -> None:
    """Keeps four synchronous workers busy; others wait in the backlog, where nobody sees them."""
    app = world.service("app", 1, Shape("threads", 4, 4.0, has_backlog=True))
    usual(world, computing(app, "GET /", 0.004), 60.0, END_S)
    if world.culprits:
        ask = Ask(app, "POST /render", lambda _: (Compute(0.3),))
        closed_loop(world, "hot", ask, "hot", connections=12, from_s=BEGINS_S, to_s=END_S)


def long_calls(world: World, *, seconds: float, rate: float) -> None:
    """Calls that compute for long, in threads that share Python's lock."""
    app = threads(world, instances=2, workers=8)
    end_s = BEGINS_S + 30.0
    usual(world, computing(app, "GET /", 0.004), 40.0, end_s)
    if world.culprits:
        ask = Ask(app, "POST /report", lambda _: (Compute(seconds),))
        crowd(world, "hot", ask, "hot", rate=rate, from_s=BEGINS_S, to_s=end_s)


def few_others(world: World) -> None:
    """Calls of 4 s, eight a second, and eight other people who ask for something cheap."""
    app = threads(world, workers=8)
    end_s = BEGINS_S + 26.0
    cheap = computing(app, "GET /", 0.004)
    for at in range(8):
        closed_loop(world, f"other {at}", cheap, f"other-{at}", connections=1, from_s=1.0,
                    to_s=end_s, think_s=0.3)  # fmt: skip
    if world.culprits:
        ask = Ask(app, "POST /report", lambda _: (Compute(4.0),))
        crowd(world, "hot", ask, "hot", rate=8.0, from_s=BEGINS_S, to_s=end_s)


def through_gateway(world: World) -> None:
    """A gateway in front of the shop; a user burns the shop's Redis."""
    gateway = world.service("gateway", 1, Shape("loop"))
    here = shop(world, instances=1)

    def through(ask: Ask) -> Ask:
        def steps(chance: random.Random) -> Sequence[Step]:
            return (Compute(0.0003), Visit(here.service, ask.call, ask.steps(chance)))

        return Ask(gateway, ask.call, steps)

    usual(world, through(here.ask("GET /cart", 0.001)), 80.0, END_S)
    if world.culprits:
        ask = through(here.exactly("POST /purchases", 0.08, elements=20_004))
        closed_loop(world, "hot", ask, "hot", connections=4, from_s=BEGINS_S, to_s=END_S,
                    think_s=0.05)  # fmt: skip


def cardinality_bomb(world: World) -> None:
    """Every request of a flood has an id of its own; a user burns beside."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 80.0, END_S)
    ids = world.chance("ids of the bomb")
    # More ids cost no more together: what is tried is how many there are.
    steps = (Compute(0.0003 / world.scale), Operate(here.redis, 0.0002 / world.scale))
    every_s = 1.0 / (BOMB_IDS_PER_S * world.scale)

    def come() -> None:
        user = f"bomb-{ids.getrandbits(64):x}"
        world.ask("bomb", user, here.service, "GET /cart", steps)
        if world.now_s < END_S:
            world.engine.after(every_s, come)

    world.engine.at(BEGINS_S - 10.0, come)
    burn(world, here)


def forged_capacity(world: World) -> None:
    """A client claims 4,096 workers for its service."""
    here = Shop(
        world.service("shop", 2, Shape("loop", claims=4_096)),
        world.backend("redis", "cart:6379"),
    )
    usual(world, here.ask("GET /cart", 0.001), 100.0, END_S)
    burn(world, here)


def _incident(name: str, about: str, build: object, **more: object) -> Scene:
    said = {"seconds": END_S, "kind": "incident", "culprits": ("hot",)} | more
    return Scene(name, about, build=build, **said)  # type: ignore[arg-type]


LONG_S: Final = BEGINS_S + 30.0

INCIDENTS: Final = (
    _incident("hot-user", "a new user keeps a Redis busy", hot_user),
    _incident("hot-user-spans", "the same, told by spans alone", hot_user, mode="spans"),
    _incident("computes", "a new user keeps event loops busy", computes),
    _incident("computes-spans", "the same, told by spans alone", computes, mode="spans"),
    _incident("late-loop", "a new user keeps an event loop busy; others wait unseen", late_loop),
    _incident("database", "a new user keeps a database busy", database),
    _incident("database-spans", "the same, told by spans alone", database, mode="spans"),
    _incident("backlog", "a user keeps synchronous workers busy; others wait unseen", backlog),
    _incident("slow-ramp", "one more connection every ten seconds", slow_ramp,
              seconds=BEGINS_S + 60.0),
    _incident("two-at-once", "two users together keep a Redis busy", two_at_once,
              culprits=("hot", "hot2")),
    _incident("from-the-start", "burns before the collector knows anything", from_the_start,
              begins_s=0.0),
    _incident("long-calls-4s", "calls of 4 s of computing",
              partial(long_calls, seconds=4.0, rate=8.0), seconds=LONG_S),
    _incident("long-calls-60s", "calls of 60 s of computing",
              partial(long_calls, seconds=60.0, rate=8.0), seconds=LONG_S),
    _incident("few-others", "calls of 4 s, and eight others who ask for little", few_others,
              kind="tried", seconds=BEGINS_S + 26.0),
    _incident("missing-parents", "the gateway's spans never arrive", through_gateway,
              mode="spans", faults=Faults(lost=("gateway",))),
    _incident("skew-and-duplicates", "clocks 5 s off, 5 % arrive twice", through_gateway,
              faults=Faults(skew_s=5.0, duplicates=0.05)),
    _incident("skew-and-duplicates-spans", "the same, told by spans alone", through_gateway,
              mode="spans", faults=Faults(skew_s=5.0, duplicates=0.05)),
    _incident("named-last", "only the last service knows the user", through_gateway,
              faults=Faults(named_in="shop")),
    _incident("named-last-spans", "the same, told by spans alone", through_gateway, mode="spans",
              faults=Faults(named_in="shop")),
    _incident("sampled", "1 % of the traces are sent, beside reports", through_gateway,
              mode="both", faults=Faults(trace_ratio=0.01)),
    _incident("cardinality-bomb", "a flood in which each request has an id of its own",
              cardinality_bomb),
    _incident("cardinality-bomb-spans", "the same, told by spans alone", cardinality_bomb,
              mode="spans"),
    _incident("forged-capacity", "a client claims 4,096 workers", forged_capacity),
    _incident("forged-capacity-spans", "the same, told by spans alone", forged_capacity,
              mode="spans"),
    _incident("one-trace", "every request has the same trace id", through_gateway, mode="both",
              faults=Faults(one_trace=True)),
    _incident("one-trace-spans", "the same, told by spans alone", through_gateway, mode="spans",
              faults=Faults(one_trace=True)),
)  # fmt: skip
