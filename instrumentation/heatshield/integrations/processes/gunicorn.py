"""gunicorn: its workers serve once they have loaded the application, its master never does."""

from importlib import import_module
from typing import Final

from heatshield.integrations.patches import Patches, after
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "gunicorn"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch the workers; replaces an earlier patch.

    Raises:
        ImportError: if gunicorn is not installed.
    """
    _PATCHES.undo()
    _PATCHES.wrap(
        import_module("gunicorn.workers.base").Worker, "load_wsgi", after(services.serving)
    )


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()
