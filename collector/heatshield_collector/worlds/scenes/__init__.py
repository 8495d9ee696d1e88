"""All scenes, by name."""

from typing import Final

from heatshield_collector.worlds.scene import Scene
from heatshield_collector.worlds.scenes.days import DAYS
from heatshield_collector.worlds.scenes.incidents import INCIDENTS
from heatshield_collector.worlds.scenes.life_bursts import LIFE_BURSTS
from heatshield_collector.worlds.scenes.life_overload import LIFE_OVERLOAD
from heatshield_collector.worlds.scenes.life_waiting import LIFE_WAITING

__all__ = ["SCENES"]

SCENES: Final[dict[str, Scene]] = {
    scene.name: scene for scene in (*LIFE_BURSTS, *LIFE_OVERLOAD, *LIFE_WAITING, *INCIDENTS, *DAYS)
}
