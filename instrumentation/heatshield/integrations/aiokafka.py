"""Kafka by `aiokafka`."""

from typing import Final

from heatshield.integrations.equipment import Equipment
from heatshield.integrations.patching import Patches

__all__ = ["NAME", "install", "remove"]

NAME: Final = "aiokafka"

_PATCHES: Final = Patches()


def install(equipment: Equipment) -> None:  # noqa: ARG001
    """Instrument what is sent and what is received."""
    remove()


def remove() -> None:
    """Put everything back as it was."""
    _PATCHES.undo()
