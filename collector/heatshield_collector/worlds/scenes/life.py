"""Ordinary life: what must never get anybody cut."""

from typing import Final

from heatshield_collector.worlds.scene import BEGINS_S, Scene
from heatshield_collector.worlds.scenes.parts import computing, shop, threads, usual
from heatshield_collector.worlds.users import Population, crowd, pages
from heatshield_collector.worlds.world import World

__all__ = ["LIFE"]

END_S: Final = BEGINS_S + 60.0


def thumbnails(world: World) -> None:
    """One worker, nearly idle; a person opens a page of twelve pictures, 30 ms each."""
    app = threads(world, workers=1)
    usual(world, computing(app, "GET /", 0.004), 2.0, END_S)
    picture = computing(app, "GET /thumbnail", 0.03, 0.2)
    pages(world, "reader", None, picture, "reader", pictures=12, every_s=(5.0, 5.0),
          from_s=30.0, to_s=END_S)  # fmt: skip


def flash_crowd(world: World) -> None:
    """All come at once."""
    ask = shop(world).ask("GET /cart", 0.001)
    usual(world, ask, 100.0, END_S)
    crowd(world, "crowd", ask, Population(5_000, 0.6), rate=900.0, from_s=BEGINS_S, to_s=END_S)


def mass_seller(world: World) -> None:
    """Fifty times the median, as on every day."""
    here = shop(world)
    usual(world, here.ask("GET /cart", 0.001), 100.0, END_S)
    crowd(world, "seller", here.ask("POST /stock", 0.05, elements=10_000), "seller", rate=4.0,
          to_s=END_S)  # fmt: skip


LIFE: Final = (
    Scene("thumbnails", "a page of twelve pictures on one idle worker", "life", thumbnails,
          may_pace=("reader",)),
    Scene("flash-crowd", "all users come at once", "life", flash_crowd, seconds=BEGINS_S + 30.0),
    Scene("mass-seller", "large as on every day", "life", mass_seller),
)  # fmt: skip
