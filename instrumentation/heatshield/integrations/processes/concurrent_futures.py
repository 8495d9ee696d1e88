"""concurrent.futures: what a request submits to a pool of threads is still that request's work.

``ThreadPoolExecutor.submit`` is also what ``map`` and asyncio's ``run_in_executor`` call. The
threads of the pool, which ``submit`` starts, belong to no request.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from typing import Final

from opentelemetry.context import Context

from heatshield.charges.pools import POOLS
from heatshield.context.attachment import attach, detach
from heatshield.context.handed_on import WORK_S, Work, handed_on
from heatshield.counters import fail_open
from heatshield.integrations.patches import Original, Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "concurrent_futures"

_NOTHING: Final = Context()
_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch the pool; replaces an earlier patch."""
    del services
    _PATCHES.undo()
    _PATCHES.wrap(ThreadPoolExecutor, "submit", _submitting)


def remove() -> None:
    """Take the patch out again."""
    _PATCHES.undo()


Submit = Callable[..., "Future[object]"]


def _submitting(original: Submit) -> Submit:
    @wraps(original)
    def submit(
        self: ThreadPoolExecutor, fn: Original, /, *args: object, **kwargs: object
    ) -> "Future[object]":
        POOLS.follow_executor(self)
        work = _work(fn)
        if work is None:
            return original(self, fn, *args, **kwargs)
        token = attach(_NOTHING)  # for the thread that it may start
        try:
            return original(self, work, *args, **kwargs)
        finally:
            detach(token)

    return submit


@fail_open("concurrent_futures", None)
def _work(function: Original) -> Work | None:
    context = handed_on(WORK_S)
    return None if context is None else Work(function, context)
