"""threading: what a request starts a thread for is still that request's work.

A daemon thread that runs a library's own code is none: it is a loop that the library starts when it
is first used, such as a client that sends in the background. Of a service's own code daemon threads
get the request, for a shorter time.
"""

import os
import threading
from collections.abc import Callable
from functools import partial, wraps
from types import CodeType, MethodType
from typing import Final

from heatshield.context.handed_on import DAEMON_S, WORK_S, Work, handed_on
from heatshield.counters import fail_open
from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "threading"

_NO_WORK: Final = frozenset({"heatshield", "anyio"})
"""Packages whose threads are none: ours, and workers that run each job in the context it came with;
an idle one would keep the request that it was started in."""

_STANDARD_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120  # on each start
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch threads; replaces an earlier patch."""
    del services
    _PATCHES.undo()
    # gevent's class, which may stand there instead, inherits it.
    owner = next(one for one in threading.Thread.__mro__ if "start" in vars(one))
    _PATCHES.wrap(owner, "start", _starting)


def remove() -> None:
    """Take the patch out again; what is handed on already runs on with it."""
    _PATCHES.undo()


Start = Callable[[threading.Thread], None]


def _starting(original: Start) -> Start:
    @wraps(original)
    def start(self: threading.Thread) -> None:
        if not _hand_on(self):
            original(self)
            return
        try:
            original(self)
        except BaseException:
            vars(self).pop("run", None)
            raise

    return start


@fail_open("threading", False)
def _hand_on(thread: threading.Thread) -> bool:
    """Have a thread run in the current context; returns whether it will.

    ``Thread.run`` is not patched, as subclasses override it. The thread's own ``run`` is, until it
    is called.
    """
    if thread.ident is not None or "run" in vars(thread):  # started already; someone else's
        return False
    context = handed_on(DAEMON_S if thread.daemon else WORK_S)
    if context is None or _is_no_work(thread):
        return False
    work = Work(thread.run, context)

    def run() -> None:
        vars(thread).pop("run", None)
        work()

    vars(thread)["run"] = run
    return True


def _is_no_work(thread: threading.Thread) -> bool:
    function: object = thread.run
    if type(thread).run is threading.Thread.run:
        function = getattr(thread, "_target", None)
    elif type(thread) is threading.Timer:
        function = thread.function
    while isinstance(function, partial | MethodType):
        function = function.func if isinstance(function, partial) else function.__func__
    if str(getattr(function, "__module__", "")).partition(".")[0] in _NO_WORK:
        return True
    return thread.daemon and _is_of_a_library(function)


def _is_of_a_library(function: object) -> bool:
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type):  # an object that can be called
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004
    if not isinstance(code, CodeType):
        return True  # written in C
    file = code.co_filename
    return (
        file.startswith((_STANDARD_LIBRARY, "<frozen "))
        or any(part in file for part in _INSTALLED)
    )  # fmt: skip
