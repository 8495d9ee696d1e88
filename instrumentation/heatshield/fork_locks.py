"""Locks that a fork does not hand down, and locks that a fork waits for.

Only the thread that forks lives on in the child. A lock that another thread held at that moment
would stay locked there for ever; a lock that is made here is free in the child, as those of
:mod:`logging` are. What it guards may have been half changed: its owner resets it.

Where gevent has patched :mod:`threading`, they are locks of the system nevertheless, as our threads
are its threads; nothing under them may give way to another greenlet.
"""

import logging  # noqa: F401  # first: hooks before a fork run from the last to the first
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol, cast
from weakref import WeakSet

from heatshield import native

__all__ = [
    "IMPORTING",
    "IMPORTING_METRICS",
    "ForkBarrier",
    "importing",
    "lock",
    "reentrant_lock",
]


class _Lock(Protocol):
    """A lock of :mod:`threading`."""

    def _at_fork_reinit(self) -> None:
        """Be free, whichever thread held it."""
        ...


_LOCKS: Final[WeakSet[_Lock]] = WeakSet()


def lock() -> threading.Lock:
    """A lock that is free in a child process. Not for short-lived objects."""
    made = native.lock()
    _LOCKS.add(cast("_Lock", made))
    return made


def reentrant_lock() -> threading.RLock:
    """A lock of that kind that a thread may take again."""
    made = native.rlock()
    _LOCKS.add(cast("_Lock", made))
    return made


def _free() -> None:
    for made in _LOCKS:
        made._at_fork_reinit()  # noqa: SLF001  # what the standard library does with its own


# Never after a fork in C: by the time that is noticed, the child may have threads that hold some.
os.register_at_fork(after_in_child=_free)


class _Inner(Protocol):
    """Any lock."""

    def acquire(self) -> object: ...

    def release(self) -> object: ...


class _Forking(threading.local):
    """What the thread that forks has taken."""

    has_lock = False
    inner: tuple[_Inner, ...] = ()


class ForkBarrier:
    """A reentrant lock that a fork waits for.

    What happens under it takes locks that are not ours, and that nobody would free in the child. A
    fork waits by the system's time, for it is the operating system that forks.

    Args:
        most_s: how long a fork waits at most; under the lock may run what is not ours.
    """

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._lock = reentrant_lock()
        self._inner: tuple[Callable[[], _Inner], ...] = ()
        self._forking = _Forking()
        os.register_at_fork(
            before=self._before, after_in_parent=self._after, after_in_child=self._release_inner
        )

    def hold_too(self, inner: Callable[[], _Inner]) -> None:
        """Have a fork take another lock, too, but after this one.

        Args:
            inner: returns a lock that is taken under this one; eventlet may replace it. A fork that
                took it first would wait for this one, whose holder waits for that.
        """
        self._inner = (*self._inner, inner)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def _before(self) -> None:
        self._forking.has_lock = self._lock.acquire(timeout=self._most_s)
        self._forking.inner = tuple(found() for found in self._inner)
        for one in self._forking.inner:
            one.acquire()

    def _after(self) -> None:
        self._release_inner()
        if self._forking.has_lock:
            self._lock.release()

    def _release_inner(self) -> None:
        # Empty after a fork in C, before which nothing was taken: uWSGI calls the hooks of a child
        # alone.
        inner, self._forking.inner = self._forking.inner, ()
        for one in inner:
            one.release()


IMPORTING: Final = ForkBarrier(most_s=5.0)
"""Held while something of ours is imported that only some services need, and they only late.

Python's lock of a module that another thread was importing at a fork stays locked in the child, and
the child's first import of it waits for ever. Modules make loggers as they are imported: a fork
takes the lock of :mod:`logging`, as that does by itself, after this one.
"""

IMPORTING_METRICS: Final = ForkBarrier(most_s=5.0)
"""Held instead of :data:`IMPORTING` for what brings ``prometheus_client`` in.

That takes long and is done beside the event loop, whose first request must not wait for it. Under
this barrier the other one may be taken, and not the other way round: a fork takes this one first,
too, for it was made later.
"""

_NOTHING: Final = nullcontext()
_IMPORTED: Final[set[str]] = set()


def importing(module: str) -> AbstractContextManager[None]:
    """:data:`IMPORTING` for the import of ``module``, or nothing once that is imported as a whole.

    So calls on a request's way take no lock, and do not wait for the imports of other threads.
    """
    if module in _IMPORTED:
        return _NOTHING
    found = sys.modules.get(module)
    if found is None or getattr(found.__spec__, "_initializing", False):
        return IMPORTING
    _IMPORTED.add(module)
    return _NOTHING
