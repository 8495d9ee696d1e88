"""The work of the last seconds, as numbers: who ran what where, from when to when.

It comes from charge reports, which also tell what still runs, and from the spans of senders that
send none; what is kept is the same. Users, calls, processes and backends are numbers here
(:class:`~heatshield_collector.detect.harm.ids.Ids`).
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from heatshield.call_key import DEFAULT_TENANT, SEPARATOR, CallKey
from heatshield.charge_report import ChargeReport
from heatshield.clock import Instant
from heatshield_collector.detect.harm.ids import Numbers
from heatshield_collector.detect.harm.recent import Floats, Recent
from heatshield_collector.detect.harm.report_columns import ReportColumns
from heatshield_collector.detect.harm.reused_traces import ReusedTraces
from heatshield_collector.detect.harm.sender_clocks import SenderClocks
from heatshield_collector.detect.harm.span_columns import SpanColumns
from heatshield_collector.detect.harm.tables import (
    Computing,
    Costs,
    Lags,
    Operations,
    Requests,
    joined,
    select,
    slow_of,
)
from heatshield_collector.detect.harm.usual import UsualDurations, buckets_of
from heatshield_collector.link import Linked
from heatshield_collector.link.reported import Reported

__all__ = ["Process", "Work"]

Integers = npt.NDArray[np.int64]

KEPT_S: Final = 2.5
"""How long work is kept; windows are at most two seconds."""

SILENT_S: Final = 2.0
"""What a process said to run is not believed for longer: it may be gone."""


@dataclass(slots=True)
class Process:
    """What a process has said of itself.

    Attributes:
        at_s: when, monotonic seconds.
        busy: processor seconds a second.
        processors: how many it may use.
        loop_lag_s: the longest that an event loop was late.
        queued: requests that wait for a worker.
    """

    at_s: float
    busy: float = 0.0
    processors: float = 1.0
    loop_lag_s: float = 0.0
    queued: int = 0
    open: list[tuple[float, ...]] = field(default_factory=list)
    running: list[tuple[float, ...]] = field(default_factory=list)


class Work:
    """Keeps the work of the last seconds. Not thread-safe.

    Attributes:
        numbers: of users, calls, processes and backends.
        by_call: usual durations of calls.
        by_backend: usual durations of operations, by backend.
        by_process: how late the event loops of processes usually are.
        states: what processes said last.
    """

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.by_call, self.by_backend = UsualDurations(), UsualDurations()
        self.by_process = UsualDurations()
        self.states: dict[int, Process] = {}
        self._clocks = SenderClocks()
        self._reused = ReusedTraces()
        self._requests = Recent(len(Requests._fields))
        self._operations = Recent(len(Operations._fields))
        self._computing = Recent(len(Computing._fields))
        self._costs = Recent(len(Costs._fields))
        self._lags = Recent(len(Lags._fields))
        self._number = 0  # of operations whose request is not known

    # -- in ----------------------------------------------------------------------------------------

    def take_spans(self, linked: Linked, instant: Instant) -> None:
        """Take in the charges of spans."""
        charges = linked.charges
        known = pc.or_(charges.column("user").is_null(), charges.column("eligible"))
        charges = charges.filter(pc.and_(known, pc.invert(charges.column("transferred"))))
        if not charges.num_rows:
            return
        rows = SpanColumns(self.numbers, charges, instant, self._clocks)
        opens = np.flatnonzero(rows.calls > 0)
        self._reused.note(rows.request[opens], rows.user[opens])
        request = self._reused.told_apart(rows.request)
        self._end_requests(
            rows.user[opens], rows.call[opens], rows.process[opens], rows.us[opens],
            rows.calls[opens], rows.errors[opens], instant.monotonic_s,
        )  # fmt: skip
        own = np.flatnonzero((rows.backend < 0) & (rows.busy_us > 0))
        self._computing.add(
            (
                rows.start_s[own], rows.end_s[own], rows.user[own], rows.call[own],
                rows.process[own], rows.busy_us[own], request[own], 1.0, 0.0, 0.0,
            ),
            instant.monotonic_s,
        )  # fmt: skip
        there = np.flatnonzero((rows.backend >= 0) & ~rows.blocking)
        self._end_operations(
            rows.start_s[there], rows.end_s[there], rows.user[there], rows.call[there],
            rows.backend[there], request[there], instant.monotonic_s,
        )  # fmt: skip
        costly = np.flatnonzero((rows.elements > 0) | (rows.calls > 0))
        self._costs.add(
            (rows.user[costly], rows.call[costly], rows.elements[costly], rows.calls[costly]),
            instant.monotonic_s,
        )

    def take_reports(self, reported: Reported, instant: Instant) -> None:
        """Take in charge reports that have not come before."""
        rows = ReportColumns(self.numbers, reported, instant, self._clocks)
        states = [
            self._note(process, report, instant.monotonic_s)
            for process, (report, _) in zip(rows.process, reported.reports, strict=True)
        ]
        self._take_lags(rows, states, instant.monotonic_s)
        self._take_durations(rows, states, instant.monotonic_s)
        self._take_costs(rows, reported, instant.monotonic_s)
        self._take_operations(rows, states, instant.monotonic_s)

    def _note(self, process: int, report: ChargeReport, now_s: float) -> Process:
        """Remember how a process is."""
        state = report.process
        told = Process(
            at_s=now_s,
            busy=state.cpu_us / 1e6 / max(report.seconds, 1e-3),
            processors=max(0.1, min(state.processors, 4_096.0)),
            loop_lag_s=state.loop_lag_us / 1e6,
            queued=state.queued,
        )
        self.states.pop(process, None)
        self.states[process] = told
        if len(self.states) > 10_000:  # noqa: PLR2004 - the processes that are remembered
            del self.states[next(iter(self.states))]
        return told

    def _take_lags(self, rows: ReportColumns, states: list[Process], now_s: float) -> None:
        """How late loops were: whoever asked meanwhile waited, and is not seen to have waited."""
        process = np.array(rows.process, dtype=np.int64)
        us = np.array([state.loop_lag_s * 1e6 for state in states])
        slow, _ = slow_of(self.by_process.p95_us(now_s), process.astype(np.float64), us)
        self._lags.add((rows.at_s, process, np.minimum(rows.seconds, KEPT_S), slow), now_s)
        ones = np.ones(len(us), dtype=np.int64)
        self.by_process.add(process, buckets_of(us), ones, 0 * ones, now_s)

    def _take_durations(self, rows: ReportColumns, states: list[Process], now_s: float) -> None:
        pair, us, calls, runs = rows.durations()
        process = np.array(rows.process, dtype=np.float64)[rows.report[pair]]
        columns = (rows.user[pair], rows.call[pair], process, us, calls)
        some = calls > 0
        user, call, of, took_us, count = (column[some & ~runs] for column in columns)
        self._end_requests(user, call, of, took_us, count, np.zeros_like(count), now_s)
        some &= runs
        open_ = zip(*(column[some].tolist() for column in columns), strict=True)
        for report, row in zip(rows.report[pair][some].tolist(), open_, strict=True):
            states[report].open.append(row)

    def _take_costs(self, rows: ReportColumns, reported: Reported, now_s: float) -> None:
        cpu = np.flatnonzero(reported.costs["cpu_us"] > 0)
        if len(cpu):
            of, us = rows.report[cpu], reported.costs["cpu_us"][cpu]
            at_s, user, call = rows.at_s[of], rows.user[cpu], rows.call[cpu]
            process = np.array(rows.process, dtype=np.float64)[of]
            self._computing.add(
                (
                    at_s - rows.seconds[of], at_s, user, call, process, us,
                    user * 1e6 + call, reported.costs["calls"][cpu], reported.open[cpu], 1.0,
                ),
                now_s,
            )  # fmt: skip
        elements, calls = reported.costs["elements"], reported.costs["calls"]
        some = np.flatnonzero((elements > 0) | (calls > 0))
        self._costs.add((rows.user[some], rows.call[some], elements[some], calls[some]), now_s)

    def _take_operations(self, rows: ReportColumns, states: list[Process], now_s: float) -> None:
        pair, backend, start, end, runs = rows.operations()
        numbers = np.arange(self._number - 1, self._number - 1 - len(pair), -1)
        self._number -= len(pair)
        user, call = rows.user[pair], rows.call[pair]
        running = zip(
            *(one[runs].tolist() for one in (start, user, call, backend, numbers)), strict=True
        )
        for report, row in zip(rows.report[pair][runs].tolist(), running, strict=True):
            states[report].running.append(row)
        ended = ~runs
        self._end_operations(
            start[ended], end[ended], user[ended], call[ended], backend[ended].astype(np.float64),
            numbers[ended].astype(np.float64), now_s, usual=False,
        )  # fmt: skip
        self._take_unlisted(rows, pair[ended], backend[ended], now_s)
        usual = rows.backend_durations()
        if len(usual[0]):
            self.by_backend.add(*usual, np.zeros_like(usual[2]), now_s)

    def _take_unlisted(
        self, rows: ReportColumns, listed_pair: Integers, listed_backend: Integers, now_s: float
    ) -> None:
        """Operations too short to be listed: known by their number alone, and not slow."""
        pair, backend, operations = rows.backends()
        both = 1 + max(backend.max(initial=0), listed_backend.max(initial=0))
        where, listed = np.unique(listed_pair * both + listed_backend, return_counts=True)
        if len(where):
            key = pair * both + backend
            at = np.minimum(np.searchsorted(where, key), len(where) - 1)
            operations -= np.where(where[at] == key, listed[at], 0)
        rest = np.flatnonzero(operations > 0)
        of = pair[rest]
        at_s = rows.at_s[rows.report[of]]
        self._number -= 1
        self._operations.add(
            (
                at_s, at_s, rows.user[of], rows.call[of], backend[rest], self._number,
                operations[rest], 0.0, 1.0, 0.0,
            ),
            now_s,
        )  # fmt: skip

    def _end_requests(
        self, user: Floats, call: Floats, process: Floats | int, us: Floats, calls: Floats,
        failed: Floats, now_s: float,
    ) -> None:  # fmt: skip
        if not len(us):
            return
        slow, judged = slow_of(self.by_call.p95_us(now_s), call, us)
        self._requests.add((now_s, user, call, process, us, calls, slow, judged, failed), now_s)
        self.by_call.add(
            call.astype(np.int64), buckets_of(us), calls.astype(np.int64), failed.astype(np.int64),
            now_s,
        )  # fmt: skip

    def _end_operations(
        self, start_s: Floats, end_s: Floats, user: Floats, call: Floats, backend: Floats,
        request: Floats, now_s: float, *, usual: bool = True,
    ) -> None:  # fmt: skip
        if not len(start_s):
            return
        us = (end_s - start_s) * 1e6
        slow, judged = slow_of(self.by_backend.p95_us(now_s), backend, us)
        self._operations.add(
            (start_s, end_s, user, call, backend, request, 1.0, slow, judged, 0.0), now_s
        )
        if usual:
            ones = np.ones(len(us), dtype=np.int64)
            self.by_backend.add(backend.astype(np.int64), buckets_of(us), ones, 0 * ones, now_s)

    # -- out ---------------------------------------------------------------------------------------

    def requests(self, now_s: float, window_s: float) -> Requests:
        """Calls that ended in the window, and those that run now and are slow already."""
        ended = Requests(*self._requests.since(now_s - KEPT_S))
        ended = select(ended, ended.at_s > now_s - window_s)
        rows = [(*row, now_s - state.at_s) for state in self._alive(now_s) for row in state.open]
        if not rows:
            return ended
        user, call, process, us, calls, more_s = np.array(rows, dtype=np.float64).T
        us = us + more_s * 1e6
        slow, judged = slow_of(self.by_call.p95_us(now_s), call, us)
        # One that runs and is not slow may yet become so: it is no evidence for either.
        running = Requests(
            np.full_like(us, now_s), user, call, process, us, calls, slow, judged * slow, 0 * us
        )
        return joined(ended, running)

    def answered(self, now_s: float, window_s: float) -> tuple[Floats, Floats, Floats]:
        """Calls that ended in the window: columns of the process, the user and how many."""
        ended = Requests(*self._requests.since(now_s - KEPT_S))
        ended = select(ended, ended.at_s > now_s - window_s)
        return ended.process, ended.user, ended.calls

    def operations(self, now_s: float, window_s: float) -> Operations:
        """Operations of the window; what began before it is cut to it."""
        ended = Operations(*self._operations.since(now_s - KEPT_S))
        ended = select(ended, (ended.end_s > now_s - window_s) & (ended.end_s <= now_s + 0.1))
        rows = [row for state in self._alive(now_s) for row in state.running]
        if not rows:
            return ended
        start, user, call, backend, request = np.array(rows, dtype=np.float64).T
        end = np.full_like(start, now_s)
        us = (end - start) * 1e6
        slow, judged = slow_of(self.by_backend.p95_us(now_s), backend, us)
        ones = np.ones_like(start)
        running = Operations(
            start, end, user, call, backend, request, ones, slow, judged * slow, ones
        )
        return joined(ended, running)

    def late(self, processes: Floats, now_s: float, window_s: float) -> float:
        """The part of the window, 0 to 1, in which the event loops of processes were far later than
        is usual for them.
        """
        rows = Lags(*self._lags.since(now_s - KEPT_S))
        rows = select(rows, (rows.at_s > now_s - window_s) & np.isin(rows.process, processes))
        slow_s = float((rows.seconds * rows.slow).sum())
        return min(1.0, slow_s / (window_s * max(1, len(processes))))

    def computing(self, now_s: float, window_s: float) -> Computing:
        """What was computed in the window."""
        rows = Computing(*self._computing.since(now_s - KEPT_S))
        return select(rows, (rows.end_s > now_s - window_s) & (rows.end_s <= now_s + 0.1))

    def elements_per_call(self, user: int, call: int) -> tuple[float, float]:
        """Elements a call of one user, and of all others, lately; 0: not known."""
        rows = Costs(*self._costs.since(-np.inf))
        here = rows.call == call
        own, others = here & (rows.user == user), here & (rows.user != user)
        return tuple(  # type: ignore[return-value]
            float(rows.elements[which].sum() / max(1.0, rows.calls[which].sum()))
            for which in (own, others)
        )

    def key(self, user: int, call: int) -> CallKey:
        """The key of a user on a call."""
        service, _, name = self.numbers.calls.name(call).partition(SEPARATOR)
        return CallKey(DEFAULT_TENANT, self.numbers.users.name(user) or None, service, name)

    def forget(self, now_s: float) -> None:
        """Let go of what is too old."""
        self._costs.since(now_s - KEPT_S)

    def _alive(self, now_s: float) -> list[Process]:
        return [state for state in self.states.values() if now_s - state.at_s <= SILENT_S]
