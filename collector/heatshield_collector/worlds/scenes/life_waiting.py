"""Ordinary life: what is open and costs nothing."""

from functools import partial
from typing import Final

from heatshield_collector.worlds.requests import Compute, Operate, Wait
from heatshield_collector.worlds.scene import BEGINS_S, Scene
from heatshield_collector.worlds.scenes.parts import computing, shop, threads, usual
from heatshield_collector.worlds.users import Ask, closed_loop
from heatshield_collector.worlds.world import World

__all__ = ["LIFE_WAITING"]

END_S: Final = BEGINS_S + 40.0
USERS: Final = 60


def long_polls(world: World) -> None:
    """Every user holds one to five open for 30 to 60 s; nothing is computed in them."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 30.0, END_S)
    chance = world.chance("polls")
    for at in range(USERS):
        poll = Ask(here.service, "GET /poll",
                   lambda dice: (Compute(0.0002), Wait(dice.uniform(30.0, 60.0))))  # fmt: skip
        closed_loop(world, f"poll {at}", poll, f"u-{at}", connections=chance.randint(1, 5),
                    from_s=chance.uniform(0.0, 30.0), to_s=END_S)  # fmt: skip


def six_polls(world: World) -> None:
    """Six long polls of a second on nothing, from one user."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 20.0, END_S)
    poll = Ask(here.service, "GET /poll", lambda _: (Compute(0.0002), Wait(1.0)))
    closed_loop(world, "six", poll, "poller", connections=6, from_s=BEGINS_S, to_s=END_S)


def debugger(world: World) -> None:
    """A developer stops in a breakpoint for ten minutes inside a request."""
    app = threads(world)
    usual(world, computing(app, "GET /", 0.004), 40.0, END_S)
    steps = (Compute(0.002), Wait(600.0))
    world.engine.at(BEGINS_S, world.ask, "debugger", "dev", app, "GET /", steps)


def reconnecting(world: World) -> None:
    """An idle websocket that reconnects every second; a stream; a worker that blocks for a job."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 30.0, END_S)
    socket = Ask(here.service, "GET /socket", lambda _: (Compute(0.0005), Wait(1.0)))
    stream = Ask(here.service, "Watch", lambda _: (Compute(0.0005), Wait(20.0)))
    jobs = world.backend("redis", "jobs:6379", servers=100)
    worker = Ask(here.service, "next job", lambda _: (Operate(jobs, 5.0, 1, "BLPOP"),))
    for source, ask in {"socket": socket, "stream": stream, "worker": worker}.items():
        closed_loop(world, source, ask, source, connections=2, from_s=BEGINS_S, to_s=END_S)


def slow_bodies(world: World) -> None:
    """Requests whose bodies trickle in for 40 s, and then full load: see the incident."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 100.0, END_S)
    body = (Wait(40.0), Operate(here.redis, 0.001))
    for at in range(3):
        act = partial(world.ask, "bodies", "hot", here.service, "POST /purchases", body)
        world.engine.at(60.0 + at, act)
    if world.culprits:
        burn = here.exactly("POST /purchases", 0.08, elements=20_004)
        closed_loop(world, "hot", burn, "hot", connections=4, from_s=BEGINS_S, to_s=END_S,
                    think_s=0.05)  # fmt: skip


LIFE_WAITING: Final = (
    Scene("long-polls", "everybody holds some open for a minute", "life", long_polls, END_S),
    Scene("six-polls", "six long polls of a second on nothing", "tried", six_polls, END_S),
    Scene("six-polls-spans", "the same, told by spans alone", "tried", six_polls, END_S,
          mode="spans"),
    Scene("debugger", "a breakpoint inside a request", "life", debugger, END_S),
    Scene("reconnecting", "idle websockets, streams, workers that block", "life", reconnecting,
          END_S),
    Scene("slow-bodies", "bodies trickle in for 40 s, then full load", "tried", slow_bodies,
          BEGINS_S + 20.0, culprits=("hot",)),
)  # fmt: skip
