"""Ends a query from another thread: its asker has left, or it took too long."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from heatshield_collector.store.protocol import StoreError

__all__ = ["Interrupt", "QueryEndedError", "current_interrupt", "interrupted_by"]

_CURRENT: Final[ContextVar["Interrupt | None"]] = ContextVar("interrupt", default=None)


class QueryEndedError(StoreError):
    """The query was ended before it had its answer."""


class Interrupt:
    """What ends the statements of one asker. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], object] | None = None
        self._ended = False

    def end(self) -> None:
        """End the statement that runs, and let no other begin.

        A statement that is just beginning may not notice; so call this until its thread is done.
        """
        with self._lock:
            self._ended = True
            if self._stop is not None:
                self._stop()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            QueryEndedError: :meth:`end` was called.
        """
        if self._ended:
            raise QueryEndedError("the query was ended: its asker left, or it took too long")

    @contextmanager
    def stops(self, stop: Callable[[], object]) -> Iterator[None]:
        """Have :meth:`end` call ``stop`` while the block runs."""
        with self._lock:
            self.check()
            self._stop = stop
        try:
            yield
        finally:
            with self._lock:
                self._stop = None


@contextmanager
def interrupted_by(interrupt: Interrupt) -> Iterator[None]:
    """Have all queries of this thread, in this block, be ended by ``interrupt``."""
    token = _CURRENT.set(interrupt)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_interrupt() -> Interrupt | None:
    """What ends queries here; ``None`` where nothing does: the collector's own are never ended."""
    return _CURRENT.get()
