"""Which of the calls in an event loop computes: told by looking at the loop, a hundred times a
second.

All calls in a loop share its thread, so the thread's processor clock alone does not tell them
apart. A thread of ours looks every ten milliseconds which task the loop runs, and charges to that
task's call what the loop's thread has computed since the last look. So the sum is exact, and each
call's part is right within what chance does with a hundred looks a second.

A task is known by the call that began in it. A task that a handler starts (``gather``,
``create_task``) is known by its context, from Python 3.12 on; before that, where only one call is
open in the loop, it is that one's, and else nobody's.
"""

import asyncio
import sys
import time
from asyncio import AbstractEventLoop, Task, _get_running_loop
from collections.abc import Callable
from typing import Any, Final, cast

from heatshield.charges.open_call import OpenCall
from heatshield.context.request import REQUEST_KEY, Request
from heatshield.counters import COUNTERS
from heatshield.native import get_ident

__all__ = ["LOOK_S", "LoopClock"]

LOOK_S: Final = 0.01
"""Seconds between looks, while calls are open."""

LOOPS_MOST: Final = 16
"""Loops that are looked at; a process has one, or one a thread."""


class _Loop:
    """What is known of one loop."""

    def __init__(self, loop: AbstractEventLoop, thread: int) -> None:
        self.loop = loop
        self.clock: int | None = None
        self.thread = thread
        self.calls: dict[int, OpenCall] = {}  # by id of the task they began in
        self.seen_ns = 0


class LoopClock:
    """Measures processor time of calls in event loops."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Follow no loop any more."""
        self._loops: dict[int, _Loop] = {}
        self.unknown_ns = 0

    def enter(self, call: OpenCall) -> None:
        """A call begins in the task that runs here."""
        loop = _get_running_loop()
        task = asyncio.current_task(loop) if loop is not None else None
        if loop is None or task is None:
            return
        known = self._loops.get(id(loop))
        if known is None or known.loop is not loop:
            if len(self._loops) >= LOOPS_MOST:
                return
            known = self._loops[id(loop)] = _Loop(loop, get_ident())
        known.calls[id(task)] = call

    def leave(self, call: OpenCall) -> None:
        """A call has ended."""
        loop = _get_running_loop()
        known = self._loops.get(id(loop)) if loop is not None else None
        if known is None:
            return
        task = asyncio.current_task(loop)
        if known.calls.get(id(task)) is call:
            del known.calls[id(task)]
            return
        for key, one in list(known.calls.items()):
            if one is call:
                del known.calls[key]

    @property
    def is_busy(self) -> bool:
        """Whether any call is open in a loop."""
        return any(known.calls for known in tuple(self._loops.values()))

    def look(self) -> None:
        """Charge what loops have computed since the last look; by the thread that reports."""
        alive = sys._current_frames()  # noqa: SLF001 - documented, for debuggers and samplers
        for key, known in tuple(self._loops.items()):
            if known.thread not in alive or known.loop.is_closed():
                self._loops.pop(key, None)
                continue
            # Its thread is alive while this one holds Python's lock: it needs that to end.
            if known.clock is None:
                known.clock = time.pthread_getcpuclockid(known.thread)
                known.seen_ns = time.clock_gettime_ns(known.clock)
                continue
            now_ns = time.clock_gettime_ns(known.clock)
            spent_ns, known.seen_ns = now_ns - known.seen_ns, now_ns
            if spent_ns <= 0:
                continue
            call = self._running(known)
            if call is None:
                self.unknown_ns += spent_ns
            else:
                call.cpu_ns += spent_ns

    def _running(self, known: _Loop) -> OpenCall | None:
        task = _task_of(known.loop)
        if task is None:
            return None
        call = known.calls.get(id(task))
        if call is not None:
            return call
        request = _request_of(task)
        calls = tuple(known.calls.values())
        if request is not None:
            return next((one for one in calls if one.request is request), None)
        return calls[0] if len(calls) == 1 else None


def _task_of(loop: AbstractEventLoop) -> "Task[Any] | None":
    """The task that a loop of another thread runs now."""
    try:
        current = getattr(asyncio.tasks, "_current_tasks", None)
        if current is not None and sys.version_info < (3, 14):
            return cast("Task[Any] | None", current.get(loop))
        return asyncio.current_task(loop)
    except Exception:  # noqa: BLE001 - private, and another thread's
        COUNTERS.error("loop clock")
        return None


def _request_of(task: "Task[Any]") -> Request | None:
    """The request in whose context a task runs."""
    get_context: Callable[[], Any] | None = getattr(task, "get_context", None)
    if get_context is None:
        return None
    for value in get_context().values():
        # OpenTelemetry keeps its context, a dictionary, in one variable.
        if isinstance(value, dict) and REQUEST_KEY in value:
            return cast("Request", value[REQUEST_KEY])
    return None
