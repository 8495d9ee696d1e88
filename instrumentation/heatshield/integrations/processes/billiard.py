"""billiard: the processes that celery's prefork pool works in, which end without exit handlers."""

from typing import Final

from heatshield.integrations.patches import Patches, after, before
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "billiard"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch the pool's processes; replaces an earlier patch.

    Raises:
        ImportError: if billiard is not installed.
    """
    from billiard.pool import Worker

    _PATCHES.undo()
    _PATCHES.wrap(Worker, "after_fork", after(services.serving))
    _PATCHES.wrap(Worker, "_do_exit", before(services.flush))


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()
