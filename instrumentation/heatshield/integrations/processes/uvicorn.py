"""uvicorn: its end by a signal, which no exit handler gets to see.

At its end uvicorn raises the signal that ended it once more, for the handler that was set before:
there may be none, and gunicorn's worker even resets it first. So the queue is sent before that.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Final

from heatshield.integrations.patches import Original, Patches, after_async
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
    _PATCHES.wrap(Server, "startup", after_async(services.serving))
    _PATCHES.wrap(Server, "capture_signals", _flushing(services.flush))


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()


Capturing = Callable[..., AbstractContextManager[object]]


def _flushing(flush: Callable[[], object]) -> Callable[[Capturing], Original]:
    def wrap(original: Capturing) -> Original:
        @wraps(original)
        @contextmanager
        def capture_signals(server: object) -> Iterator[None]:
            with original(server):
                try:
                    yield
                finally:
                    if getattr(server, "_captured_signals", True):
                        flush()

        return capture_signals

    return wrap
