"""uvicorn: its end by a signal, which no exit handler gets to see.

At its end uvicorn raises the signal that ended it once more, for whoever handled it before: that
may be nobody, and a worker of gunicorn's even resets it first. So what is queued leaves before.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "uvicorn"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch the server; replaces an earlier patch.

    Raises:
        ImportError: if uvicorn is not installed.
    """
    from uvicorn.server import Server

    _PATCHES.undo()
    _PATCHES.wrap(Server, "startup", _serving(services.serving))
    _PATCHES.wrap(Server, "capture_signals", _flushing(services.flush))


def remove() -> None:
    """Take it out again."""
    _PATCHES.undo()


def _serving(serving: Callable[[], object]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def startup(server: Any, *args: Any, **kwargs: Any) -> None:
            await original(server, *args, **kwargs)
            serving()

        return startup

    return wrap


def _flushing(flush: Callable[[], object]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        @contextmanager
        def capture_signals(server: Any) -> Iterator[None]:
            with original(server):
                try:
                    yield
                finally:
                    if getattr(server, "_captured_signals", True):
                        flush()

        return capture_signals

    return wrap
