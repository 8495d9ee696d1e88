"""A scene: a world to be filled, and what is true of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from heatshield_collector.worlds.telemetry import Faults, Mode
from heatshield_collector.worlds.world import World

__all__ = ["BEGINS_S", "Kind", "Scene"]

Kind = Literal["life", "normal", "incident", "tried"]
"""``life``: nobody does wrong. ``normal``: a day. ``incident``: users burn, or something breaks.
``tried``: what earlier detection got wrong."""

BEGINS_S: Final = 140.0
"""When it happens: before, what is usual is learnt, and the cold start passes (120 s)."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene.

    Attributes:
        name: as the command line says it.
        about: one line for people.
        kind: what is expected.
        build: fills a world; those who burn only if ``world.culprits``.
        seconds: that it lasts.
        begins_s: when it happens.
        culprits: who burn.
        may_pace: a short pace of these users is fair; ``*``: of anybody.
        mode: by what processes tell their costs.
        faults: of telemetry.
        overload: others are harmed and no user is the cause, which should be told.
        cold_start_s: of the collector.
    """

    name: str
    about: str
    kind: Kind
    build: Callable[[World], None]
    seconds: float = BEGINS_S + 60.0
    begins_s: float = BEGINS_S
    culprits: tuple[str, ...] = ()
    may_pace: tuple[str, ...] = ()
    mode: Mode = "reports"
    faults: Faults = field(default_factory=Faults)
    overload: bool = False
    cold_start_s: float = 120.0
