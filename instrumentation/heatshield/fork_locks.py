"""Locks that a fork does not hand down.

Only the thread that forks lives on in the child. A lock that another thread held at that moment
would stay locked there for ever; a lock that is made here is free in the child, as those of
:mod:`logging` are. What it guards may have been half changed: its owner resets it.
"""

import os
import threading
from typing import Any, Final
from weakref import WeakSet

__all__ = ["lock", "reentrant_lock"]

_LOCKS: Final[WeakSet[Any]] = WeakSet()


def lock() -> threading.Lock:
    """A :class:`threading.Lock` that is free in a child process. Not for short-lived objects."""
    made = threading.Lock()
    _LOCKS.add(made)
    return made


def reentrant_lock() -> Any:
    """A :class:`threading.RLock` of that kind."""
    made = threading.RLock()
    _LOCKS.add(made)
    return made


def _free() -> None:
    for made in _LOCKS:
        made._at_fork_reinit()  # noqa: SLF001  # what the standard library does with its own


os.register_at_fork(after_in_child=_free)
