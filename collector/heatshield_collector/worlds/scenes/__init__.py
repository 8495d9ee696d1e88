"""All scenes, by name."""

from typing import Final

from heatshield_collector.worlds.scene import Scene
from heatshield_collector.worlds.scenes.incidents import INCIDENTS
from heatshield_collector.worlds.scenes.life import LIFE

__all__ = ["SCENES"]

SCENES: Final[dict[str, Scene]] = {scene.name: scene for scene in (*LIFE, *INCIDENTS)}
