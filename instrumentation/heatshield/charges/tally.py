"""Sums up what calls have cost since the last report: everything off the requests' way."""

import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from operator import itemgetter
from typing import Final, TypeVar

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
from heatshield.charges.open_call import OpenCall, Operation, ThreadWork

__all__ = ["OTHER_CALLS", "Spent", "Tally", "Told"]

OTHER_CALLS: Final = "(other calls)"
"""Stands for calls of the rest that there was no room for: more than :data:`MAX_PAIRS`."""

RUNNING_MOST: Final = 500
"""Calls that run and are told of by each report: 2 ms of processor time."""

K = TypeVar("K")
T = TypeVar("T")

PairKey = tuple[str | None, str]
"""A user, and a call. The user is ``None`` where nobody knows one; empty, it stands for all those
whom there was no room for."""


class _Costs:
    """What a pair has cost since the last report. Hundreds are made a second, so it is plain."""

    __slots__ = (
        "backend_ns", "bytes", "calls", "cpu_ns", "elements", "ended", "errors", "open",
        "operations", "rows", "traces", "wait_ns",
    )  # fmt: skip

    def __init__(self) -> None:
        self.cpu_ns = self.wait_ns = self.elements = self.rows = self.bytes = 0
        self.calls = self.errors = 0
        self.traces: list[tuple[bool, int, int]] = []  # is kept, cost, id
        self.backend_ns: dict[str, int] = {}
        self.operations: dict[str, int] = {}
        self.ended: dict[int, int] = {}  # by bucket
        self.open: dict[int, int] = {}

    @property
    def busy_ns(self) -> int:
        return self.cpu_ns + sum(self.backend_ns.values())

    def add(self, other: "_Costs") -> None:
        for name in ("cpu_ns", "wait_ns", "elements", "rows", "bytes", "calls", "errors"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("backend_ns", "operations", "ended", "open"):
            sums = getattr(self, name)
            for key, value in getattr(other, name).items():
                _add(sums, key, value)

    def evidence(self) -> tuple[str, ...]:
        """Trace ids, the costliest first of those that are kept, then the others."""
        if len(self.traces) == 1:
            return (f"{self.traces[0][2]:032x}",)
        ids = dict.fromkeys(trace for _, _, trace in sorted(self.traces, reverse=True))
        return tuple(f"{trace:032x}" for trace in list(ids)[:MAX_TRACES])


def _add(sums: dict[K, int], key: K, value: int) -> None:
    sums[key] = sums.get(key, 0) + value


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
        keeps: whether a trace's spans are sent.
    """

    def __init__(
        self,
        meter: Meter,
        thread_clock: Callable[[int], int | None] | None = None,
        keeps: Callable[[int], bool] = bool,
    ) -> None:
        self._meter, self._keeps = meter, keeps
        self._reports = 0
        self._thread_clock = thread_clock or _thread_clock
        self._costs: defaultdict[PairKey, _Costs] = defaultdict(_Costs)
        self._listed: list[tuple[int, PairKey, Operation]] = []
        self._durations: dict[tuple[str, int], int] = {}

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to tell."""
        meter = self._meter
        return not (meter.calls or meter.operations or meter.ended_calls or meter.ended_operations)

    def report(self, told: Told) -> ChargeReport:
        """What has been noted since the last report."""
        meter = self._meter
        self._costs.clear()
        self._listed, self._durations = [], {}
        for operation in (*_drained(meter.ended_operations), *meter.operations.values()):
            self._take_operation(operation, told.now_ns)
        ended = dict.fromkeys(_drained(meter.ended_calls))
        running = self._running_now()
        work: defaultdict[OpenCall, list[ThreadWork]] = defaultdict(list)
        for one in list(meter.work.values()):
            work[one.call].append(one)
            if one.call.ended_ns:
                ended[one.call] = None  # it goes on after its answer
        spent = Spent(self._thread_clock, work)
        within = _sums_within(running, spent, told.now_ns)
        for call in ended:
            if not call.is_refused:
                self._take_ended(call, spent.by(call), told.now_ns)
        for call in running:
            self._take_running(call, spent.by(call), within[call], told.now_ns)
        return self._made(told)

    def _running_now(self) -> list[OpenCall]:
        """Calls that run. Of very many, such as sockets that are open for hours, only every n-th
        report tells, and then of all.
        """
        self._reports += 1
        calls = self._meter.calls
        return [] if self._reports % (1 + len(calls) // RUNNING_MOST) else list(calls.values())

    def _take_operation(self, one: Operation, now_ns: int) -> None:
        took_ns = (one.ended_ns or now_ns) - one.began_ns
        spent_ns, one.told_ns = max(0, took_ns - one.told_ns), max(took_ns, one.told_ns)
        owner = one.owner
        user = one.request.user if one.request is not None else None
        key = (user, one.call or (owner.name if owner is not None else ""))
        costs = self._costs[key]
        if one.ended_ns:
            costs.elements += one.elements
            costs.rows += one.rows
            costs.bytes += one.bytes
        if one.is_blocking:
            return
        _add(costs.backend_ns, one.backend, spent_ns)
        if owner is not None:
            owner.backend_ns += spent_ns
        if one.ended_ns:
            _add(costs.operations, one.backend, 1)
            _add(self._durations, (one.backend, bucket_of(took_ns / 1e3)), 1)
        self._listed.append((took_ns, key, one))

    def _take_ended(self, call: OpenCall, cpu_ns: int, now_ns: int) -> None:
        costs = self._costs[call.user, call.name]
        wall_ns = max(0, (call.ended_ns or now_ns) - call.began_ns - call.waited_ns)
        self._charge(
            call, costs, cpu_ns - call.guarded_cpu_ns, wall_ns - call.guarded_wall_ns, counts=True
        )
        self._note_trace(call, costs, cpu_ns)
        if call.is_closed:
            return
        call.is_closed = True
        costs.errors += call.is_failed
        costs.elements += call.elements
        costs.rows += call.rows
        costs.bytes += call.bytes
        _add(costs.ended, bucket_of(wall_ns / 1e3), 1)
        if call.request is not None and call.request.open_call is call:
            call.request.open_call = None  # else only a full garbage collection would free them

    def _take_running(
        self, call: OpenCall, cpu_ns: int, within: tuple[int, int], now_ns: int
    ) -> None:
        costs = self._costs[call.user, call.name]
        wall_ns = max(0, now_ns - call.began_ns - call.waited_ns)
        guarded_cpu_ns, guarded_wall_ns = within
        counts = call.is_let_in
        self._charge(call, costs, cpu_ns - guarded_cpu_ns, wall_ns - guarded_wall_ns, counts=counts)
        if counts:
            _add(costs.open, bucket_of(wall_ns / 1e3), 1)
        self._note_trace(call, costs, cpu_ns)

    def _note_trace(self, call: OpenCall, costs: _Costs, cpu_ns: int) -> None:
        is_kept = self._keeps(call.trace_id)
        costs.traces.append((is_kept, cpu_ns + call.backend_ns, call.trace_id))

    @staticmethod
    def _charge(call: OpenCall, costs: _Costs, cpu_ns: int, wall_ns: int, *, counts: bool) -> None:
        """Charge what is more than was told before.

        Args:
            call: the call.
            costs: of its pair.
            cpu_ns: what it has computed so far,
            wall_ns: and how long it has run, both without guards within.
            counts: it is let in, so it is a call, and waits.
        """
        cpu = max(0, cpu_ns - call.cpu_told_ns)
        call.cpu_told_ns += cpu
        costs.cpu_ns += cpu
        if not counts:
            return
        if not call.is_apart:
            wait_ns = wall_ns - call.cpu_told_ns - call.backend_ns
            wait = max(0, wait_ns - call.wait_told_ns)
            call.wait_told_ns += wait
            costs.wait_ns += wait
        costs.calls += not call.is_told
        call.is_told = True

    def _made(self, told: Told) -> ChargeReport:
        rows, places = self._rows()
        return ChargeReport(
            told.service,
            told.instance,
            told.number,
            told.at_ns,
            told.seconds,
            told.process,
            pairs=[_pair(key, costs) for key, costs in rows],
            backend_us=[
                BackendTime(place, backend, spent // 1_000, costs.operations.get(backend, 0))
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
                for _, key, one in nlargest(MAX_OPERATIONS, self._listed, key=itemgetter(0))
            ],
        )

    def _rows(self) -> tuple[list[tuple[PairKey, _Costs]], dict[PairKey, int]]:
        """The costliest pairs and the rest, and the place of each pair among them."""
        costliest = list(self._costs.items())
        if len(costliest) > MAX_PAIRS:
            costliest.sort(key=lambda one: (-one[1].busy_ns, -one[1].calls, str(one[0])))
        rows, others = costliest[:MAX_PAIRS], costliest[MAX_PAIRS:]
        places = {key: place for place, (key, _) in enumerate(rows)}
        rest: dict[str, int] = {}
        for key, costs in others:
            call = key[1] if key[1] in rest or len(rest) < MAX_PAIRS else OTHER_CALLS
            if call not in rest:
                rest[call] = len(rows)
                rows.append((("", call), _Costs()))
            rows[rest[call]][1].add(costs)
            places[key] = rest[call]
        return rows, places


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


class Spent:
    """Processor time of calls so far, of those that run by the clocks of their threads.

    Args:
        thread_clock: processor time of a thread.
        work: what other threads do for calls now.
    """

    def __init__(
        self,
        thread_clock: Callable[[int], int | None],
        work: Mapping[OpenCall, Sequence[ThreadWork]],
    ) -> None:
        self._thread_clock, self._work = thread_clock, work
        self._known: dict[OpenCall, int] = {}

    def by(self, call: OpenCall) -> int:
        """Nanoseconds, with what guards within it have computed."""
        spent_ns = self._known.get(call)
        if spent_ns is None:
            spent_ns = self._known[call] = self._measured(call)
        return spent_ns

    def _measured(self, call: OpenCall) -> int:
        if call.parent is not None and not call.ended_ns:
            return max(0, self.by(call.outermost) - call.base_ns)
        spent_ns = call.cpu_ns  # first: it grows when what is read below has ended
        thread, began_ns = call.thread, call.thread_began_ns
        if began_ns >= 0:
            spent_ns += self._since(thread, began_ns)
        for work in self._work.get(call, ()):
            spent_ns += self._since(work.thread, work.began_ns)
        return spent_ns

    def _since(self, thread: int, began_ns: int) -> int:
        now_ns = self._thread_clock(thread)
        return 0 if now_ns is None else max(0, now_ns - began_ns)


def _sums_within(
    running: Iterable[OpenCall], spent: Spent, now_ns: int
) -> dict[OpenCall, tuple[int, int]]:
    """Of each call that runs, the processor time and duration of guards directly within."""
    sums = {call: (call.guarded_cpu_ns, call.guarded_wall_ns) for call in running}
    for call in running:
        around = call.parent
        if around is not None and around in sums and not call.ended_ns:
            cpu_ns, wall_ns = sums[around]
            sums[around] = (cpu_ns + spent.by(call), wall_ns + now_ns - call.began_ns)
    return sums


def _thread_clock(thread: int) -> int | None:
    """Processor time of a thread that lives; this thread holds Python's lock, so it stays so."""
    if thread not in sys._current_frames():  # noqa: SLF001 - documented, for debuggers
        return None
    return time.clock_gettime_ns(time.pthread_getcpuclockid(thread))
