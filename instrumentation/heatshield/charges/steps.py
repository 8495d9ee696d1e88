"""Measures a coroutine by what its steps take: exact, however many share the event loop.

A coroutine computes from where its loop resumes it to where it waits next. At both ends of such a
step the thread's processor clock is read, which costs less than a microsecond together. That
needs nothing of the loop, so it is the same on asyncio, uvloop and trio. What a request does in
other tasks has steps of its own; :mod:`~heatshield.charges.loop_clock` finds what it can of them.
"""

import time
import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar, cast

from heatshield.charges.meter import METER
from heatshield.charges.open_call import OpenCall
from heatshield.context.request import Request
from heatshield.native import get_ident

__all__ = ["stepped"]

T = TypeVar("T")


def stepped(work: Awaitable[T], request: Request | None) -> Awaitable[T]:
    """The same work, with its processor time charged to the call of its request.

    Where the task that awaits it is measured already, or nothing is, it is given back as it is.

    Args:
        work: a coroutine, which is awaited once, in the task that calls this. Any other awaitable
            is given back as it is, too.
        request: that it is part of.
    """
    if request is None or not METER.is_on or not isinstance(call := request.open_call, OpenCall):
        return work
    if call.parent is not None:
        call = call.outermost
    if call.thread_began_ns >= 0 or call.ended_ns or not hasattr(work, "send"):
        return work
    return _measured(cast("Coroutine[Any, Any, T]", work), call)


@types.coroutine
def _measured(work: Coroutine[Any, Any, T], call: OpenCall) -> Generator[Any, Any, T]:
    send, clock, loops = work.send, time.thread_time_ns, METER.loops.by_thread
    value: Any = None
    error: BaseException | None = None
    while True:
        call.thread = thread = get_ident()
        call.thread_began_ns = began_ns = clock()
        loop = loops.get(thread)
        around = None if loop is None else loop.running  # one may ask another in one process
        if loop is not None:
            loop.running = call
        try:
            waits_for = send(value) if error is None else work.throw(error)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            spent_ns = clock() - began_ns
            if call.thread_began_ns >= 0:  # else it has ended within the step
                call.thread_began_ns = -1
                call.cpu_ns += spent_ns
            if loop is not None:
                loop.running = around
                loop.measured_ns += spent_ns
            error = None
        try:
            value = yield waits_for
        except GeneratorExit:
            work.close()
            raise
        except BaseException as thrown:  # noqa: BLE001 - it is the coroutine's to handle
            error = thrown
