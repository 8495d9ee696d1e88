"""``os.exec*``: the program that takes this one's place takes its memory, queues and all."""

import os
from typing import Final

from heatshield.integrations.patches import Patches, before
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "exec"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch the two functions that the others of the family end in; replaces an earlier patch."""
    _PATCHES.undo()
    for name in ("execv", "execve"):
        _PATCHES.wrap(os, name, before(services.flush))


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()
