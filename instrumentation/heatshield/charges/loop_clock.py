"""What a request computes in tasks of an event loop beside its own: told by looking at the loop.

A request's own task is measured exactly (:mod:`~heatshield.charges.steps`). A task that a handler
starts (``gather``, ``create_task``) is not: a thread of ours looks a hundred times a second which
task the loop runs, and charges to that task's call what the loop's thread has computed since the
last look beside measured steps. Such a task is known by the context that it runs in. What the loop
does for nobody in particular, such as reading requests, is nobody's.
"""

import asyncio
import gc
import sys
import time
from asyncio import AbstractEventLoop, Task, _get_running_loop
from contextvars import Context
from typing import Any, Final, cast

from heatshield.charges.open_call import OpenCall
from heatshield.context.request import REQUEST_KEY, Request
from heatshield.counters import COUNTERS
from heatshield.native import get_ident

__all__ = ["LOOK_S", "LoopClock"]

LOOK_S: Final = 0.01
"""Seconds between looks, while loops compute beside measured steps."""

LOOPS_MOST: Final = 16
"""Loops that are looked at; a process has one, or one a thread."""


class _Loop:
    """What is known of one loop.

    Attributes:
        clock: of its thread.
        seen_ns: processor time of its thread at the last look,
        stepped_ns: and what of that was measured.
        measured_ns: processor time of steps that were measured and have ended.
        running: the call that a step runs for now.
    """

    def __init__(self, loop: AbstractEventLoop, thread: int) -> None:
        self.loop, self.thread = loop, thread
        self.clock = time.pthread_getcpuclockid(thread)
        self.seen_ns = time.clock_gettime_ns(self.clock)
        self.stepped_ns = self.measured_ns = 0
        self.running: OpenCall | None = None


class LoopClock:
    """Measures tasks of requests beside their own.

    Attributes:
        beside_ns: processor time of loops beside measured steps.
        nobody_ns: what of that no call was found for.
        by_thread: the loops, by the idents of their threads.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Follow no loop any more."""
        self.beside_ns = self.nobody_ns = 0
        self.by_thread: dict[int, _Loop] = {}

    def follow(self) -> None:
        """Look at the loop that runs here from now on."""
        loop, thread = _get_running_loop(), get_ident()
        known = self.by_thread.get(thread)
        if loop is None or (known is not None and known.loop is loop):
            return
        if known is None and len(self.by_thread) >= LOOPS_MOST:
            return
        self.by_thread[thread] = _Loop(loop, thread)

    def look(self) -> None:
        """Charge what loops have computed since the last look; by the thread that reports."""
        for thread, known in tuple(self.by_thread.items()):
            try:
                now_ns = time.clock_gettime_ns(known.clock)
            except OSError:  # the thread has ended
                self.by_thread.pop(thread, None)
                continue
            if known.loop.is_closed():
                self.by_thread.pop(thread, None)
                continue
            self._charge(known, known.running, now_ns)

    def _charge(self, known: _Loop, running: OpenCall | None, now_ns: int) -> None:
        stepped_ns = known.measured_ns
        began_ns = running.thread_began_ns if running is not None else -1
        if began_ns >= 0:
            stepped_ns += max(0, now_ns - began_ns)
        beside_ns = now_ns - known.seen_ns - (stepped_ns - known.stepped_ns)
        known.seen_ns, known.stepped_ns = now_ns, stepped_ns
        if beside_ns <= 0:
            return
        self.beside_ns += beside_ns
        call = None if began_ns >= 0 else _call_of(_task_of(known.loop))
        if call is None:
            self.nobody_ns += beside_ns
        else:
            call.cpu_ns += beside_ns


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


def _call_of(task: "Task[Any] | None") -> OpenCall | None:
    """The request's call in whose context a task runs."""
    context = _context_of(task) if task is not None else None
    if context is None:
        return None
    for value in context.values():
        # OpenTelemetry keeps its context, a dictionary, in one variable.
        if isinstance(value, dict) and REQUEST_KEY in value:
            call = cast("Request", value[REQUEST_KEY]).open_call
            return call.outermost if isinstance(call, OpenCall) else None
    return None


def _context_of(task: "Task[Any]") -> Context | None:
    if sys.version_info >= (3, 12):
        return task.get_context()
    # Earlier ones don't tell it; what a task refers to first of all contexts is its own.
    return next((one for one in gc.get_referents(task) if isinstance(one, Context)), None)
