"""multiprocessing: processes that are forked end without exit handlers, but with finalizers."""

from collections.abc import Callable
from multiprocessing import util
from typing import Final

from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "multiprocessing"

LAST: Final = -1_000
"""Priority of our finalizer: the last, so that what the others log is sent, too."""


class _Children:
    """Outlives installations, as what is registered for child processes can't be taken back."""

    def __init__(self) -> None:
        self.flush: Callable[[], object] | None = None
        self._registered = False

    def lead_to(self, flush: Callable[[], object]) -> None:
        self.flush = flush
        if not self._registered:
            self._registered = True
            util.register_after_fork(self, _Children._began)

    def _began(self) -> None:
        util.Finalize(None, self._end, exitpriority=LAST)

    def _end(self, *_: object) -> None:
        if self.flush is not None:
            self.flush()


_CHILDREN: Final = _Children()


def install(services: Services) -> None:
    """Send what is queued when a child process ends."""
    _CHILDREN.lead_to(services.flush)


def remove() -> None:
    """Stop sending at the end of child processes."""
    _CHILDREN.flush = None
