"""Locks that a fork does not hand down.

Only the thread that forks lives on in the child. A lock that another thread held at that moment
would stay locked there for ever; a lock that is made here is free in the child, as those of
:mod:`logging` are. What it guards may have been half changed: its owner resets it.

Few are made at import time, where gevent may not have patched :mod:`threading` yet: a lock of the
system is right there, too, as long as nothing under it gives way to another greenlet.
"""

import os
import threading
from typing import Final, Protocol, cast
from weakref import WeakSet

__all__ = ["lock", "reentrant_lock"]


class _Lock(Protocol):
    """A lock of :mod:`threading`."""

    def _at_fork_reinit(self) -> None:
        """Be free, whichever thread held it."""
        ...


_LOCKS: Final[WeakSet[_Lock]] = WeakSet()


def lock() -> threading.Lock:
    """A :class:`threading.Lock` that is free in a child process. Not for short-lived objects."""
    made = threading.Lock()
    _LOCKS.add(cast("_Lock", made))
    return made


def reentrant_lock() -> threading.RLock:
    """A :class:`threading.RLock` of that kind."""
    made = threading.RLock()
    _LOCKS.add(cast("_Lock", made))
    return made


def _free() -> None:
    for made in _LOCKS:
        made._at_fork_reinit()  # noqa: SLF001  # what the standard library does with its own


os.register_at_fork(after_in_child=_free)
