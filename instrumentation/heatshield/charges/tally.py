"""Sums up what calls have cost since the last report: everything off the requests' way."""

import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from heatshield.charge_report import (
    MAX_OPERATIONS,
    MAX_PAIRS,
    MAX_TRACES,
    BackendDurationCount,
    BackendTime,
    ChargeReport,
    DurationCount,
    Pair,
    ProcessState,
    bucket_of,
)
from heatshield.charge_report import Operation as OperationRow
from heatshield.charges.meter import Meter
from heatshield.charges.open_call import OpenCall, Operation

__all__ = ["Tally", "Told"]

T = TypeVar("T")

PairKey = tuple[str | None, str]
"""A user, and a call. The user is ``None`` where nobody knows one; empty, it stands for all those
whom there was no room for."""


@dataclass(slots=True)
class _Costs:
    """What a pair has cost since the last report."""

    cpu_ns: int = 0
    wait_ns: int = 0
    elements: int = 0
    rows: int = 0
    bytes: int = 0
    calls: int = 0
    errors: int = 0
    traces: list[tuple[int, int]] = field(default_factory=list)
    backend_ns: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    ended: Counter[int] = field(default_factory=Counter)
    open: Counter[int] = field(default_factory=Counter)

    @property
    def busy_ns(self) -> int:
        return self.cpu_ns + sum(self.backend_ns.values())

    def add(self, other: "_Costs") -> None:
        for name in ("cpu_ns", "wait_ns", "elements", "rows", "bytes", "calls", "errors"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.backend_ns += other.backend_ns
        self.operations += other.operations
        self.ended += other.ended
        self.open += other.open

    def evidence(self) -> tuple[str, ...]:
        """Trace ids, the costliest first."""
        ids = dict.fromkeys(trace for _, trace in sorted(self.traces, reverse=True))
        return tuple(f"{trace:032x}" for trace in list(ids)[:MAX_TRACES])


@dataclass(frozen=True, slots=True)
class Told:
    """Who says it, and when.

    Attributes:
        now_ns: by :func:`time.perf_counter_ns`.
        at_ns: the same moment, nanoseconds since the Unix epoch.
    """

    service: str
    instance: str
    number: int
    now_ns: int
    at_ns: int
    seconds: float
    process: ProcessState


class Tally:
    """Makes a report of what a meter has noted since the last one. Used by one thread.

    Args:
        meter: notes calls and operations.
        thread_clock: processor time of a thread of this process by its ident, nanoseconds; ``None``
            where it is gone.
    """

    def __init__(
        self, meter: Meter, thread_clock: Callable[[int], int | None] | None = None
    ) -> None:
        self._meter = meter
        self._thread_clock = thread_clock or _thread_clock
        self._costs: defaultdict[PairKey, _Costs] = defaultdict(_Costs)
        self._listed: list[tuple[int, PairKey, Operation]] = []
        self._durations: Counter[tuple[str, int]] = Counter()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to tell."""
        meter = self._meter
        return not (meter.calls or meter.operations or meter.ended_calls or meter.ended_operations)

    def report(self, told: Told) -> ChargeReport:
        """What has been noted since the last report."""
        self._costs.clear()
        for work in list(self._meter.work.values()):
            thread_ns = self._thread_clock(work.thread)
            if thread_ns is not None and self._meter.work.get(work.thread) is work:
                work.note(thread_ns)
        self._listed, self._durations = [], Counter()
        ended = _drained(self._meter.ended_calls)
        running = list(self._meter.calls.values())
        by_request = {id(one.request): one for one in (*ended, *running) if one.request is not None}
        operations = (*_drained(self._meter.ended_operations), *self._meter.operations.values())
        for operation in operations:
            self._take_operation(operation, by_request.get(id(operation.request)), told.now_ns)
        for call in ended:
            if not call.is_refused:
                self._take_ended(call)
        for call in running:
            self._take_running(call, told.now_ns)
        return self._made(told)

    def _take_operation(self, one: Operation, call: OpenCall | None, now_ns: int) -> None:
        took_ns = (one.ended_ns or now_ns) - one.began_ns
        spent_ns, one.told_ns = max(0, took_ns - one.told_ns), max(took_ns, one.told_ns)
        user = one.request.user if one.request is not None else None
        key = (user, one.call or (call.name if call is not None else ""))
        costs = self._costs[key]
        costs.backend_ns[one.backend] += spent_ns
        if call is not None:
            call.backend_ns += spent_ns
        if one.ended_ns:
            costs.operations[one.backend] += 1
            costs.elements += one.elements
            costs.rows += one.rows
            costs.bytes += one.bytes
            self._durations[one.backend, bucket_of(took_ns / 1e3)] += 1
        self._listed.append((took_ns, key, one))

    def _take_ended(self, call: OpenCall) -> None:
        costs = self._costs[call.user, call.name]
        cpu_ns = call.cpu_ns
        if call.thread_began_ns >= 0:
            in_thread = call.thread_ended_ns - call.thread_began_ns
            cpu_ns += in_thread if call.thread_ended_ns >= 0 else call.cpu_told_ns - call.cpu_ns
        wall_ns = max(0, call.ended_ns - call.began_ns - call.waited_ns)
        self._charge(call, costs, cpu_ns, wall_ns)
        costs.errors += call.is_failed
        costs.elements += call.elements
        costs.rows += call.rows
        costs.bytes += call.bytes
        costs.ended[bucket_of(wall_ns / 1e3)] += 1
        costs.traces.append((cpu_ns + call.backend_ns, call.trace_id))
        if call.request is not None and call.request.open_call is call:
            call.request.open_call = None  # else only a full garbage collection would free them

    def _take_running(self, call: OpenCall, now_ns: int) -> None:
        cpu_ns = call.cpu_ns
        if call.thread_began_ns >= 0:
            thread_ns = self._thread_clock(call.thread)
            cpu_ns += 0 if thread_ns is None else max(0, thread_ns - call.thread_began_ns)
        costs = self._costs[call.user, call.name]
        wall_ns = now_ns - call.began_ns
        self._charge(call, costs, cpu_ns, wall_ns)
        costs.open[bucket_of(wall_ns / 1e3)] += 1
        costs.traces.append((cpu_ns + call.backend_ns, call.trace_id))

    @staticmethod
    def _charge(call: OpenCall, costs: _Costs, cpu_ns: int, wall_ns: int) -> None:
        """Charge what is more than was told before."""
        cpu = max(0, cpu_ns - call.cpu_told_ns)
        backend = max(0, call.backend_ns - call.backend_told_ns)
        wall = max(0, wall_ns - call.wall_told_ns)
        call.cpu_told_ns += cpu
        call.backend_told_ns += backend
        call.wall_told_ns += wall
        costs.cpu_ns += cpu
        costs.wait_ns += max(0, wall - cpu - backend)
        costs.calls += not call.is_told
        call.is_told = True

    def _made(self, told: Told) -> ChargeReport:
        costliest = sorted(
            self._costs.items(), key=lambda one: (-one[1].busy_ns, -one[1].calls, str(one[0]))
        )
        rows, places = costliest[:MAX_PAIRS], {}
        rest: dict[str, _Costs] = {}
        for (_, call), costs in costliest[MAX_PAIRS:]:
            rest.setdefault(call, _Costs()).add(costs)
        rows += [(("", call), costs) for call, costs in rest.items()]
        for place, (key, _) in enumerate(rows):
            places[key] = place
        for (user, call), _ in costliest[MAX_PAIRS:]:
            places.setdefault((user, call), places["", call])
        return ChargeReport(
            told.service,
            told.instance,
            told.number,
            told.at_ns,
            told.seconds,
            told.process,
            pairs=[_pair(key, costs) for key, costs in rows],
            backend_us=[
                BackendTime(place, backend, spent // 1_000, costs.operations[backend])
                for place, (_, costs) in enumerate(rows)
                for backend, spent in costs.backend_ns.items()
            ],
            backend_durations=[
                BackendDurationCount(backend, bucket, count)
                for (backend, bucket), count in self._durations.items()
            ],
            durations=[
                DurationCount(place, bucket, count, is_open)
                for place, (_, costs) in enumerate(rows)
                for counts, is_open in ((costs.ended, False), (costs.open, True))
                for bucket, count in counts.items()
            ],
            operations=[
                _operation_row(one, places[key], told.now_ns)
                for _, key, one in sorted(self._listed, key=lambda row: -row[0])[:MAX_OPERATIONS]
            ],
        )


def _pair(key: PairKey, costs: _Costs) -> Pair:
    return Pair(
        *key,
        costs.cpu_ns // 1_000,
        costs.wait_ns // 1_000,
        costs.elements,
        costs.rows,
        costs.bytes,
        costs.calls,
        costs.errors,
        costs.evidence(),
    )


def _operation_row(one: Operation, place: int, now_ns: int) -> OperationRow:
    ended_us = (one.ended_ns - one.began_ns) // 1_000 if one.ended_ns else None
    return OperationRow(place, one.backend, max(0, now_ns - one.began_ns) // 1_000, ended_us)


def _drained(queue: "deque[T]") -> list[T]:
    """What a queue has; what comes meanwhile stays for the next report."""
    return [queue.popleft() for _ in range(len(queue))]


def _thread_clock(thread: int) -> int | None:
    """Processor time of a thread that lives; this thread holds Python's lock, so it stays so."""
    if thread not in sys._current_frames():  # noqa: SLF001 - documented, for debuggers
        return None
    return time.clock_gettime_ns(time.pthread_getcpuclockid(thread))
