"""Notes what calls cost, on their way: a few hundred nanoseconds at each end.

All sums are made by the thread that reports. Here is only what must be measured where the call
runs: the thread's own processor clock at both ends, and which calls and operations are open.
"""

import time
from asyncio import _get_running_loop
from collections import deque
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import SpanKind, StatusCode

from heatshield.charges.backend import backend_of
from heatshield.charges.loop_clock import LoopClock
from heatshield.charges.open_call import OpenCall, Operation, ThreadWork
from heatshield.context.request import Request
from heatshield.names import COST_BYTES, COST_ELEMENTS, COST_ROWS, GUARD, REJECTED, WAITED_US
from heatshield.native import get_ident
from heatshield.tracing.span import ENTRY_KINDS, Span

if TYPE_CHECKING:
    from heatshield.tracing.values import Attributes

__all__ = ["METER", "Meter"]

KEPT: Final = 50_000
"""Calls that have ended and wait for the next report; more is more than a process can serve."""


class Meter:
    """Notes calls and operations.

    Attributes:
        calls: those that run, by span id.
        operations: the same of operations on backends.
        ended_calls: those that have ended since the last report.
        ended_operations: the same.
        is_on: whether anything is noted.
        work: what other threads do for calls, by thread.
        loops: measures what runs in event loops.
    """

    def __init__(self) -> None:
        self.is_on = False
        self.loops = LoopClock()
        self.reset()

    def reset(self) -> None:
        """Forget all."""
        self.calls: dict[int, OpenCall] = {}
        self.operations: dict[int, Operation] = {}
        self.ended_calls: deque[OpenCall] = deque(maxlen=KEPT)
        self.ended_operations: deque[Operation] = deque(maxlen=KEPT)
        self.work: dict[int, ThreadWork] = {}
        self.loops.reset()

    def begin(self, span: Span) -> None:
        """A span of ours begins."""
        if not self.is_on:
            return
        kind = span.kind
        if kind is SpanKind.CLIENT:
            backend = backend_of(span.raw_attributes)
            if backend:
                self.operations[span.span_id] = Operation(
                    span.request, span.call, backend, time.perf_counter_ns()
                )
            return
        is_guard = kind is SpanKind.INTERNAL
        if is_guard and GUARD not in span.raw_attributes:
            return
        is_async = _get_running_loop() is not None
        call = OpenCall(
            span.request,
            span.guard or span.name if is_guard else "",
            span.trace_id,
            time.perf_counter_ns(),
            get_ident(),
            -1 if is_async or is_guard else time.thread_time_ns(),
        )
        self.calls[span.span_id] = call
        if span.request is not None and not is_guard:
            span.request.open_call = call
        if is_async and not is_guard:
            self.loops.enter(call)

    def begin_work(self, request: Request) -> ThreadWork | None:
        """This thread begins to work for a request that another has begun."""
        call = request.open_call
        thread = get_ident()
        if not self.is_on or not isinstance(call, OpenCall) or thread in self.work:
            return None
        if call.thread == thread and call.thread_began_ns >= 0:
            return None  # the call's own thread, which has its clock
        work = self.work[thread] = ThreadWork(call, thread, time.thread_time_ns())
        return work

    def end_work(self, work: object) -> None:
        """It has ended."""
        if isinstance(work, ThreadWork):
            work.note(time.thread_time_ns())
            self.work.pop(work.thread, None)

    def end(self, span: Span) -> None:
        """A span of ours has ended."""
        kind = span.kind
        attributes = span.raw_attributes
        if kind is SpanKind.CLIENT:
            operation = self.operations.pop(span.span_id, None)
            if operation is not None:
                operation.ended_ns = time.perf_counter_ns()
                _add_costs(operation, attributes)
                if not operation.call:
                    operation.call = span.call
                self.ended_operations.append(operation)
            return
        call = self.calls.pop(span.span_id, None)
        if call is None:
            return
        if call.thread_began_ns >= 0 and call.thread == get_ident():
            call.thread_ended_ns = time.thread_time_ns()
        if kind in ENTRY_KINDS:
            call.call = span.call
            self.loops.leave(call)
        call.is_failed = span.status_code is StatusCode.ERROR
        call.is_refused = REJECTED in attributes
        waited_us = attributes.get(WAITED_US, 0)
        call.waited_ns = int(waited_us) * 1_000 if isinstance(waited_us, int) else 0
        _add_costs(call, attributes)
        call.ended_ns = time.perf_counter_ns()
        self.ended_calls.append(call)


def _add_costs(to: OpenCall | Operation, attributes: "Attributes") -> None:
    for name, cost in (("elements", COST_ELEMENTS), ("rows", COST_ROWS), ("bytes", COST_BYTES)):
        amount = attributes.get(cost)
        if isinstance(amount, int) and amount > 0:
            setattr(to, name, getattr(to, name) + amount)


METER: Final = Meter()
"""This process's; it outlives runtimes, as spans do that are open while one ends."""
