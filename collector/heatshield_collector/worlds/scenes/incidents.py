"""Incidents: somebody burns, or something breaks."""

from typing import Final

from heatshield_collector.worlds.scene import BEGINS_S, Scene
from heatshield_collector.worlds.scenes.parts import shop, usual
from heatshield_collector.worlds.users import closed_loop
from heatshield_collector.worlds.world import World

__all__ = ["INCIDENTS"]

END_S: Final = BEGINS_S + 20.0


def hot_user(world: World) -> None:
    """Four connections, each operation keeps the Redis for 80 ms."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 100.0, END_S)
    if world.culprits:
        burn = here.exactly("POST /purchases", 0.08, elements=20_004)
        closed_loop(world, "hot", burn, "hot", connections=4, from_s=BEGINS_S, to_s=END_S,
                    think_s=0.05, apart_s=0.3)  # fmt: skip


INCIDENTS: Final = (
    Scene("hot-user", "a new user keeps a Redis busy", "incident", hot_user, seconds=END_S,
          culprits=("hot",)),
)  # fmt: skip
