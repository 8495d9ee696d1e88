"""anyio: what a request has a worker thread do, as Starlette does with handlers that are no
coroutines, is measured by that thread's clock.

anyio hands on the context by itself.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Final, TypeVar

import anyio.to_thread

from heatshield.charges.pools import POOLS
from heatshield.context.handed_on import MEASURED
from heatshield.context.request import Request, request_in
from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "anyio_threads"

T = TypeVar("T")

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch the hand-over to threads; replaces an earlier patch."""
    del services
    _PATCHES.undo()
    _PATCHES.wrap(anyio.to_thread, "run_sync", _measuring)


def remove() -> None:
    """Take the patch out again."""
    _PATCHES.undo()


RunSync = Callable[..., Awaitable[object]]


def _measuring(original: RunSync) -> RunSync:
    @wraps(original)
    def run_sync(func: Callable[..., object], *args: object, **kwargs: object) -> Awaitable[object]:
        request = request_in() if MEASURED.begin is not None else None
        if request is not None:
            POOLS.follow_limiter(kwargs.get("limiter"))
            func = _measured(func, request)
        return original(func, *args, **kwargs)

    return run_sync


def _measured(function: Callable[..., T], request: Request) -> Callable[..., T]:
    def run(*args: object) -> T:
        begin, end = MEASURED.begin, MEASURED.end
        work = begin(request) if begin is not None else None
        try:
            return function(*args)
        finally:
            if work is not None and end is not None:
                end(work)

    return run
