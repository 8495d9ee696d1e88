"""Notes what calls cost, on their way: about a microsecond at each end.

All sums are made by the thread that reports. Here is only what must be measured where the call
runs: the thread's own processor clock at both ends, and which calls and operations are open.

A synchronous handler has its thread, and that thread's clock tells. An asynchronous one is measured
step by step (:mod:`~heatshield.charges.steps`). Greenlets (gevent, eventlet) share one thread and
tell nobody when they switch: which of them computes is not known, so their processor time is
charged to nobody, and what they wait for and their time in backends is charged as ever.
"""

import time
from asyncio import _get_running_loop
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import SpanKind, StatusCode

from heatshield.charges.backend import backend_of, is_blocking
from heatshield.charges.loop_clock import LoopClock
from heatshield.charges.open_call import OpenCall, Operation, ThreadWork
from heatshield.context.request import Request
from heatshield.names import COST_BYTES, COST_ELEMENTS, COST_ROWS, GUARD, REJECTED
from heatshield.native import are_threads_green, get_ident
from heatshield.tracing.span import ENTRY_KINDS, Span

if TYPE_CHECKING:
    from heatshield.tracing.values import Attributes

__all__ = ["METER", "Meter"]

KEPT: Final = 20_000
"""Calls that have ended and wait for the next report, and that run; more is more than a process can
serve."""


class Meter:
    """Notes calls and operations.

    Args:
        perf_ns: the clock of durations.
        thread_ns: processor time of the thread that asks.

    Attributes:
        calls: those that run, by span id.
        operations: the same of operations on backends.
        ended_calls: those that have ended since the last report.
        ended_operations: the same.
        is_on: whether anything is noted.
        work: what other threads do for calls, by thread.
        loops: measures what runs in event loops.
    """

    def __init__(
        self,
        perf_ns: Callable[[], int] = time.perf_counter_ns,
        thread_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._perf_ns, self._thread_ns = perf_ns, thread_ns
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
        if not self.is_on or len(self.calls) >= KEPT:
            return
        kind = span.kind
        if kind is SpanKind.CLIENT:
            self._begin_operation(span)
        elif kind in ENTRY_KINDS:
            self._begin_call(span)
        elif kind is SpanKind.INTERNAL and GUARD in span.raw_attributes:
            self._begin_guard(span)

    def _begin_operation(self, span: Span) -> None:
        backend = backend_of(span.raw_attributes)
        if backend:
            self.operations[span.span_id] = self._operation(span, backend, self._perf_ns())

    @staticmethod
    def _operation(span: Span, backend: str, began_ns: int) -> Operation:
        owner = span.request.open_call if span.request is not None else None
        if not isinstance(owner, OpenCall):
            owner = None
        made = Operation(span.request, owner, span.call, backend, began_ns)
        made.is_blocking = is_blocking(span.name)
        return made

    def _begin_call(self, span: Span) -> None:
        call = OpenCall(span.request, span.trace_id, self._perf_ns(), get_ident())
        if span.request is not None:
            if isinstance(span.request.open_call, OpenCall):
                return  # a span within the request's own: its cost is that one's
            span.request.open_call = call
        self.calls[span.span_id] = call
        if _get_running_loop() is not None:
            self.loops.follow()
        elif not are_threads_green():
            call.thread_began_ns = self._thread_ns()

    def _begin_guard(self, span: Span) -> None:
        request = span.request
        call = OpenCall(request, span.trace_id, self._perf_ns(), get_ident())
        call.call = span.guard or span.name
        around = request.open_call if request is not None else None
        if isinstance(around, OpenCall) and request is not None:
            spent_ns = self._spent_here_ns(around.outermost)
            if spent_ns < 0:
                call.is_apart = True
            else:
                call.parent, call.base_ns = around, spent_ns
                request.open_call = call
        elif _get_running_loop() is None and not are_threads_green():
            call.thread_began_ns = self._thread_ns()
        self.calls[span.span_id] = call

    def _spent_here_ns(self, call: OpenCall) -> int:
        """Processor time of a call that computes in this thread; -1 where it does not."""
        thread = get_ident()
        work = self.work.get(thread)
        if work is not None and work.call is call:
            return call.cpu_ns + self._thread_ns() - work.began_ns
        if call.thread_began_ns >= 0 and call.thread == thread:
            return call.cpu_ns + self._thread_ns() - call.thread_began_ns
        return -1

    def begin_work(self, request: Request) -> ThreadWork | None:
        """This thread begins to work for a request that another has begun."""
        call = request.open_call
        thread = get_ident()
        if not self.is_on or not isinstance(call, OpenCall) or thread in self.work:
            return None
        call = call.outermost
        if are_threads_green() or (call.thread == thread and call.thread_began_ns >= 0):
            return None  # the call's own thread, which has its clock
        work = self.work[thread] = ThreadWork(call, thread, self._thread_ns())
        return work

    def end_work(self, work: object) -> None:
        """It has ended."""
        if isinstance(work, ThreadWork):
            spent_ns = self._thread_ns() - work.began_ns
            self.work.pop(work.thread, None)
            call = work.call
            call.cpu_ns += spent_ns
            if call.ended_ns:
                self.ended_calls.append(call)  # it has cost more since

    def end(self, span: Span) -> None:
        """A span of ours has ended."""
        if span.kind is SpanKind.CLIENT:
            self._end_operation(span)
            return
        call = self.calls.pop(span.span_id, None)
        if call is not None:
            self._end_call(call, span)

    def _end_operation(self, span: Span) -> None:
        now_ns = self._perf_ns()
        operation = self.operations.pop(span.span_id, None)
        if operation is None:  # its attributes were set after it began, as other libraries do
            backend = backend_of(span.raw_attributes)
            if not backend:
                return
            operation = self._operation(span, backend, now_ns - (span.end_time - span.start_time))
        operation.ended_ns = now_ns
        _add_costs(operation, span.raw_attributes)
        operation.call = operation.call or span.call
        self.ended_operations.append(operation)

    def _end_call(self, call: OpenCall, span: Span) -> None:
        attributes = span.raw_attributes
        call.is_failed = span.status_code is StatusCode.ERROR
        call.is_refused = REJECTED in attributes
        _add_costs(call, attributes)
        if call.thread_began_ns >= 0:
            here = call.thread == get_ident()  # else it is not known what it cost since
            spent_ns = self._thread_ns() - call.thread_began_ns if here else 0
            call.thread_began_ns = -1
            call.cpu_ns += spent_ns
        call.ended_ns = self._perf_ns()
        if call.parent is not None:
            self._end_guard(call, call.parent)
        elif span.kind in ENTRY_KINDS:
            call.call = span.call
        self.ended_calls.append(call)

    def _end_guard(self, call: OpenCall, around: OpenCall) -> None:
        spent_ns = self._spent_here_ns(around.outermost)
        call.cpu_ns = max(call.cpu_told_ns, spent_ns - call.base_ns)
        around.guarded_cpu_ns += call.cpu_ns
        around.guarded_wall_ns += call.ended_ns - call.began_ns
        if call.request is not None and call.request.open_call is call:
            call.request.open_call = around


def _add_costs(to: OpenCall | Operation, attributes: "Attributes") -> None:
    if COST_ELEMENTS in attributes:
        to.elements = _amount(attributes[COST_ELEMENTS])
    if COST_ROWS in attributes:
        to.rows = _amount(attributes[COST_ROWS])
    if COST_BYTES in attributes:
        to.bytes = _amount(attributes[COST_BYTES])


def _amount(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


METER: Final = Meter()
"""This process's; it outlives runtimes, as spans do that are open while one ends."""
