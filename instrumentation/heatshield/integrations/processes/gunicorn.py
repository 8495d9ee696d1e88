"""gunicorn: its workers serve once they have loaded the application, its master never does."""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final

from heatshield.integrations.patches import Patches
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
        import_module("gunicorn.workers.base").Worker, "load_wsgi", _serving(services.serving)
    )


def remove() -> None:
    """Take it out again."""
    _PATCHES.undo()


def _serving(serving: Callable[[], object]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def load_wsgi(worker: Any) -> None:
            original(worker)
            serving()

        return load_wsgi

    return wrap
