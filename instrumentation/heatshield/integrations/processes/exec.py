"""``os.exec*``: the program that takes this one's place takes its memory, queues and all."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "exec"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch the two functions that the others of the family end in; replaces an earlier patch."""
    _PATCHES.undo()

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def replace_program(*args: Any, **kwargs: Any) -> Any:
            services.flush()
            return original(*args, **kwargs)

        return replace_program

    for name in ("execv", "execve"):
        _PATCHES.wrap(os, name, wrap)


def remove() -> None:
    """Take it out again."""
    _PATCHES.undo()
