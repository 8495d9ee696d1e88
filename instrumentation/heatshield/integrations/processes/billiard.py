"""billiard: the processes that celery's prefork pool works in, which end without exit handlers."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from heatshield.integrations.patches import Patches
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
    _PATCHES.wrap(Worker, "after_fork", _then(services.serving))
    _PATCHES.wrap(Worker, "_do_exit", _first(services.flush))


def remove() -> None:
    """Take it out again."""
    _PATCHES.undo()


def _then(serving: Callable[[], object]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def after_fork(worker: Any) -> None:
            original(worker)
            serving()

        return after_fork

    return wrap


def _first(flush: Callable[[], object]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Before the process says that it ends: it is killed soon after."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def leave(worker: Any, *args: Any, **kwargs: Any) -> None:
            flush()
            original(worker, *args, **kwargs)

        return leave

    return wrap
