"""Normal days: nobody burns. An hour passes in half a minute, so that a day is affordable."""

import math
from functools import partial
from typing import Final

from heatshield_collector.worlds.scene import Scene
from heatshield_collector.worlds.scenes.parts import PEOPLE, computing, shop, usual
from heatshield_collector.worlds.services import Shape
from heatshield_collector.worlds.users import Ask, Population, closed_loop, crowd
from heatshield_collector.worlds.world import World

__all__ = ["DAYS"]

HOUR_S: Final = 30.0
DAY_S: Final = 24 * HOUR_S
RATE: Final = 60.0
"""Requests a second at noon."""

SERVICES: Final = 40


def cycle(at_s: float) -> float:
    """Part of noon's traffic at a moment of the day."""
    return 0.55 - 0.45 * math.cos(2 * math.pi * at_s / DAY_S)


def day(world: World, *, s: float) -> None:
    """Two services' traffic with a daily cycle, bursts of single users and of all."""
    here = shop(world)
    app = world.service("app", 2, Shape("gil"))
    cart, page = here.ask("GET /cart", 0.0015), computing(app, "GET /", 0.006)
    usual(world, cart, RATE / 2, DAY_S, s=s, at_rate=cycle)
    usual(world, page, RATE / 2, DAY_S, s=s, at_rate=cycle, source="readers")
    people, chance = Population(PEOPLE, s), world.chance("bursts")
    for burst in range(24):
        at_s, user = chance.uniform(130.0, DAY_S - 20.0), people.draw(chance)
        ask: Ask = chance.choice((cart, page))
        if burst % 4:
            closed_loop(world, f"burst {burst}", ask, user, connections=2, from_s=at_s,
                        to_s=at_s + chance.uniform(1.0, 10.0), think_s=0.05)  # fmt: skip
        else:
            crowd(world, f"burst {burst}", ask, people, rate=chance.uniform(30.0, 120.0),
                  from_s=at_s, to_s=at_s + chance.uniform(5.0, 20.0))  # fmt: skip


def forty_services(world: World) -> None:
    """Forty services at light load, users dealt by a Zipf law, nobody hot."""
    for at in range(SERVICES):
        one = world.service(f"service-{at:02}", 1, Shape("gil"))
        crowd(world, f"people of {at}", computing(one, "GET /", 0.005, 1.5), Population(100),
              rate=1.5, to_s=300.0)  # fmt: skip


DAYS: Final = (
    *(
        Scene(f"day-{s}", f"a day in 12 minutes, users by Zipf s = {s}", "normal",
              partial(day, s=s), DAY_S)
        for s in (0.6, 1.0, 1.4)
    ),
    Scene("forty-services", "forty services at light load, nobody hot", "tried", forty_services,
          300.0),
)  # fmt: skip
