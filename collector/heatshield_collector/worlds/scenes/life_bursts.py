"""Ordinary life: people and programs that do much at once, or much every day."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Final

from heatshield_collector.worlds.requests import Compute, Operate, Step
from heatshield_collector.worlds.scene import BEGINS_S, Scene
from heatshield_collector.worlds.scenes.parts import computing, lognormal, shop, threads, usual
from heatshield_collector.worlds.users import Ask, Population, closed_loop, crowd, pages, polls
from heatshield_collector.worlds.world import World

__all__ = ["LIFE_BURSTS"]

END_S: Final = BEGINS_S + 40.0
PEOPLE: Final = 6


def thumbnails(world: World, *, pictures: int, rate: float) -> None:
    """One worker; a person opens a page of pictures, 30 ms each, every five seconds."""
    app = threads(world, workers=1)
    usual(world, computing(app, "GET /", 0.004), rate, END_S)
    picture = computing(app, "GET /thumbnail", 0.03, 0.2)
    pages(world, "reader", None, picture, "reader", pictures=pictures, every_s=(5.0, 5.0),
          from_s=30.0, to_s=END_S)  # fmt: skip


def laptop(world: World) -> None:
    """A developer alone: reloads, and a script in a loop."""
    app = threads(world)
    page, picture = computing(app, "GET /", 0.05), computing(app, "GET /asset", 0.02)
    pages(world, "reloads", page, picture, "dev", pictures=12, every_s=(0.5, 4.0), from_s=5.0,
          to_s=END_S, connections=6)  # fmt: skip
    closed_loop(world, "script", page, "dev", connections=1, from_s=BEGINS_S, to_s=END_S)


def dashboard(world: World) -> None:
    """A page that polls six slow endpoints every five seconds, all day."""
    app = threads(world, instances=2)
    usual(world, computing(app, "GET /", 0.004), 30.0, END_S)
    asks = [computing(app, f"GET /panel/{at}", 0.15, 0.3) for at in range(6)]
    polls(world, "wall", asks, "wall", every_s=5.0, from_s=1.0, to_s=END_S)


def export(world: World) -> None:
    """A report that takes 20 s of one of eight workers; others feel nothing."""
    app = threads(world, processors=8.0)
    usual(world, computing(app, "GET /", 0.01), 60.0, END_S)
    report = Ask(app, "GET /report", lambda _: (Compute(20.0),))
    world.engine.at(BEGINS_S, world.ask, "export", "exporter", app, report.call, (Compute(20.0),))


def export_redis(world: World) -> None:
    """A report that reads a single-threaded Redis 30 times for 200 ms."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 60.0, END_S)
    steps = [Operate(here.redis, 0.2, 5_000, "SMEMBERS")] * 30
    world.engine.at(BEGINS_S, world.ask, "export", "exporter", here.service, "GET /report", steps)


def night_batch(world: World) -> None:
    """A service account does 40 % of all work while the platform is otherwise idle."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 8.0, END_S)
    crowd(world, "batch", here.ask("POST /batch", 0.006, elements=100), "batch", rate=60.0,
          from_s=BEGINS_S, to_s=END_S)  # fmt: skip


def shared_id(world: World, *, part: float, rate: float, surge: float) -> None:
    """One id for many people, at ordinary cost each; at some time more come of all."""
    ask = shop(world).ask("GET /cart", 0.002)
    usual(world, ask, rate * (1 - part), END_S)
    crowd(world, "kiosk", ask, "anonymous", rate=rate * part, to_s=END_S)
    crowd(world, "more people", ask, Population(1_000), rate=surge * (1 - part), from_s=BEGINS_S,
          to_s=END_S)  # fmt: skip
    crowd(world, "more at the kiosk", ask, "anonymous", rate=surge * part, from_s=BEGINS_S,
          to_s=END_S)  # fmt: skip


def new_user(world: World) -> None:
    """A first visit: an onboarding that makes 80 cheap calls."""
    here = shop(world)
    ask = here.ask("GET /cart", 0.001)
    usual(world, ask, 60.0, END_S)
    chance = world.chance("onboarding")
    for at in range(80):
        act = partial(world.ask, "new", "new", here.service, ask.call, ask.steps(chance))
        world.engine.at(BEGINS_S + 0.1 * at, act)


def comeback(world: World) -> None:
    """A user returns, the app syncs 500 small items in a minute."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 60.0, END_S)
    crowd(world, "sync", here.ask("PUT /item", 0.002), "back", rate=8.3, from_s=BEGINS_S,
          to_s=END_S)  # fmt: skip


def mass_seller(world: World) -> None:
    """Fifty times the median, as on every day."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 100.0, END_S)
    crowd(world, "seller", here.ask("POST /stock", 0.05, elements=10_000), "seller", rate=4.0,
          to_s=END_S)  # fmt: skip


def browsing(world: World) -> None:
    """Six people on one worker of a CMS, whose threads share Python's lock."""
    app = threads(world)
    database = world.backend("postgresql", "db:5432", servers=4)

    def page(chance: random.Random) -> Sequence[Step]:
        steps: list[Step] = []
        for _ in range(5):
            steps += [Compute(lognormal(chance, 0.012)),
                      Operate(database, lognormal(chance, 0.002), command="SELECT")]  # fmt: skip
        return steps

    def image(chance: random.Random) -> Sequence[Step]:
        return (Compute(lognormal(chance, 0.008)), Operate(database, 0.001, command="SELECT"))

    for at in range(PEOPLE):
        pages(world, f"person {at}", Ask(app, "GET /page", page), Ask(app, "GET /image", image),
              f"person-{at}", pictures=8, every_s=(2.0, 4.0), from_s=1.0 + at / 2, to_s=END_S,
              connections=6)  # fmt: skip


def _life(name: str, about: str, build: object, **more: object) -> Scene:
    return Scene(name, about, "life", build, seconds=END_S, **more)  # type: ignore[arg-type]


LIFE_BURSTS: Final = (
    _life("thumbnails", "a page of twelve pictures on one idle worker",
          partial(thumbnails, pictures=12, rate=2.0)),
    _life("thumbnails-60", "a page of sixty pictures on one idle worker",
          partial(thumbnails, pictures=60, rate=2.0)),
    _life("thumbnails-saturated", "a page of twelve pictures on one busy worker",
          partial(thumbnails, pictures=12, rate=120.0), may_pace=("reader",)),
    _life("laptop", "one user is all the traffic there is", laptop),
    _life("dashboard", "polls six slow endpoints every 5 s, all day", dashboard),
    _life("export", "20 s of one of eight workers; nobody feels it", export),
    _life("export-redis", "a report from a single-threaded Redis", export_redis,
          may_pace=("exporter",)),
    _life("night-batch", "a service account does 40 % of all work at night", night_batch,
          may_pace=("batch",)),
    _life("shared-id", "a kiosk is 37 % of all requests, and more people come",
          partial(shared_id, part=0.37, rate=100.0, surge=200.0)),
    _life("shared-id-overload", "a kiosk is 75 % of all requests, and too many come",
          partial(shared_id, part=0.75, rate=150.0, surge=450.0), overload=True),
    _life("new-user", "a first visit of 80 cheap calls", new_user),
    _life("comeback", "an app syncs 500 items in a minute", comeback),
    _life("mass-seller", "large as on every day", mass_seller),
    _life("browsing", "six people on one worker of a CMS", browsing),
    _life("browsing-spans", "the same, told by spans alone", browsing, mode="spans"),
)  # fmt: skip
