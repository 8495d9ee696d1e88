"""What a child process does before anything else of ours, whoever forked it.

Python calls hooks after its own forks. A server in C, as uWSGI is, forks without a word to Python:
each of its workers then goes on with the state of the process that loaded the application. So what
a child has to do is registered here and done either by Python's hook, or by the first code that
looks at :data:`SAME_PROCESS` in the child. It is looked at where spans begin and end, where logs
are queued, and where a process begins or ends to serve.
"""

import mmap
import os
import sys
from collections.abc import Callable
from typing import Final, Protocol

from heatshield.fork_locks import reentrant_lock

__all__ = ["FORK_HOOKS", "SAME_PROCESS", "expects_fork", "in_child"]

MADV_WIPEONFORK: Final = 18
"""Linux: the kernel zeroes these pages in a child. Python's :mod:`mmap` does not name it."""


class _Flag(Protocol):
    """Its item 0 is true until this process is the child of the one that set it."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class _ProcessId:
    """The flag where the kernel wipes no pages; a system call at each look."""

    def __init__(self) -> None:
        self._pid = 0

    def __getitem__(self, index: int) -> int:
        return self._pid == os.getpid()

    def __setitem__(self, index: int, value: int) -> None:
        self._pid = os.getpid()


def _flag() -> _Flag:
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(MADV_WIPEONFORK)
    except (AttributeError, OSError, ValueError, TypeError):  # not Linux, or one before 4.14
        return _ProcessId()
    return page


SAME_PROCESS: Final = _flag()
"""``SAME_PROCESS[0]`` is 0 in a child that has not called its hooks. A look costs 20 ns, where
:func:`os.getpid` costs 100."""


class ForkHooks:
    """Calls what is registered, once in each child, in the order of registration.

    Attributes:
        was_forked: whether this process is such a child.
    """

    def __init__(self) -> None:
        self._hooks: list[Callable[[], object]] = []
        self.was_forked = self._is_beginning = False
        self._lock = reentrant_lock()
        SAME_PROCESS[0] = 1
        os.register_at_fork(after_in_child=self._forked_by_python)

    def register(self, hook: Callable[[], object]) -> None:
        """Have ``hook`` called in children; it must not raise."""
        self._hooks.append(hook)

    def notice(self) -> None:
        """Become a child, if this is one and has not; other threads of it wait meanwhile."""
        if SAME_PROCESS[0]:
            return
        with self._lock:
            if SAME_PROCESS[0] or self._is_beginning:
                return
            self._is_beginning = True  # what a hook calls may look again
            try:
                self._call()
            finally:
                self._is_beginning = False
                SAME_PROCESS[0] = 1  # last, so that no other thread goes ahead of a hook

    def _forked_by_python(self) -> None:
        self._is_beginning = False
        SAME_PROCESS[0] = 1
        self._call()

    def _call(self) -> None:
        self.was_forked = True
        for hook in self._hooks:
            hook()


FORK_HOOKS: Final = ForkHooks()

in_child: Final = FORK_HOOKS.register


def expects_fork() -> bool:
    """Whether this process is about to be forked by uWSGI, which first loads the application in it.

    No thread may be started before that: a fork in C does not wait for a thread that holds, or
    wants, Python's global lock, and the child would wait for that thread for ever.
    """
    uwsgi = sys.modules.get("uwsgi")  # there is such a module inside of uWSGI alone
    if uwsgi is None or FORK_HOOKS.was_forked:
        return False
    return getattr(uwsgi, "worker_id", int)() == 0 and hasattr(uwsgi, "masterpid")
