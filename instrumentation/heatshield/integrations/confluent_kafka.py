"""Kafka by `confluent_kafka`."""

from typing import Final

from heatshield.integrations.equipment import Equipment
from heatshield.integrations.patching import Patches

__all__ = ["NAME", "install", "remove"]

NAME: Final = "confluent_kafka"

_PATCHES: Final = Patches()


def install(equipment: Equipment) -> None:  # noqa: ARG001
    """Instrument what is sent and what is received."""
    remove()


def remove() -> None:
    """Put everything back as it was."""
    _PATCHES.undo()
