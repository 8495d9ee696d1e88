"""The work of the last seconds, as numbers: who ran what where, from when to when.

It comes from charge reports, which also tell what still runs, and from the spans of senders that
send none; what is kept is the same. Users, calls, processes and backends are numbers here
(:class:`~heatshield_collector.detect.harm.ids.Ids`).
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow.compute as pc

from heatshield.call_key import DEFAULT_TENANT, SEPARATOR, CallKey
from heatshield.charge_report import ChargeReport, bucket_us
from heatshield.clock import Instant
from heatshield_collector.detect.harm.ids import NOBODY, REST_USERS, Numbers
from heatshield_collector.detect.harm.recent import Floats, Recent
from heatshield_collector.detect.harm.sender_clocks import SenderClocks
from heatshield_collector.detect.harm.span_columns import SpanColumns
from heatshield_collector.detect.harm.tables import (
    Computing,
    Costs,
    Operations,
    Requests,
    joined,
    select,
    slow_of,
)
from heatshield_collector.detect.harm.usual import UsualDurations, buckets_of
from heatshield_collector.link import Linked

__all__ = ["Process", "Work"]

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
        states: what processes said last.
    """

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.by_call, self.by_backend = UsualDurations(), UsualDurations()
        self.states: dict[int, Process] = {}
        self._clocks = SenderClocks()
        self._requests = Recent(len(Requests._fields))
        self._operations = Recent(len(Operations._fields))
        self._computing = Recent(len(Computing._fields))
        self._costs = Recent(len(Costs._fields))
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
        self._end_requests(
            rows.user[opens], rows.call[opens], rows.process[opens], rows.us[opens],
            rows.calls[opens], rows.errors[opens], instant.monotonic_s,
        )  # fmt: skip
        own = np.flatnonzero((rows.backend < 0) & (rows.busy_us > 0))
        self._computing.add(
            (
                rows.start_s[own], rows.end_s[own], rows.user[own], rows.call[own],
                rows.process[own], rows.busy_us[own], rows.request[own], 1.0, 0.0, 0.0,
            ),
            instant.monotonic_s,
        )  # fmt: skip
        there = np.flatnonzero((rows.backend >= 0) & ~rows.blocking)
        self._end_operations(
            rows.start_s[there], rows.end_s[there], rows.user[there], rows.call[there],
            rows.backend[there], rows.request[there], instant.monotonic_s,
        )  # fmt: skip
        costly = np.flatnonzero((rows.elements > 0) | (rows.calls > 0))
        self._costs.add(
            (rows.user[costly], rows.call[costly], rows.elements[costly], rows.calls[costly]),
            instant.monotonic_s,
        )

    def take_report(self, report: ChargeReport, instant: Instant) -> None:
        """Take in a charge report that has not come before."""
        now_s = instant.monotonic_s
        process = self.numbers.processes.of(f"{report.service}{SEPARATOR}{report.instance}")
        told_s = (report.at_ns - self._clocks.base_ns(instant)) / 1e9
        at_s = min(now_s, told_s + self._clocks.offset_s(process, told_s, now_s))
        state = report.process
        seconds = max(report.seconds, 1e-3)
        told = Process(
            at_s=now_s,
            busy=state.cpu_us / 1e6 / seconds,
            processors=max(0.1, min(state.processors, 4_096.0)),
            loop_lag_s=state.loop_lag_us / 1e6,
            queued=state.queued,
        )
        self.states.pop(process, None)
        self.states[process] = told
        if len(self.states) > 10_000:  # noqa: PLR2004 - the processes that are remembered
            del self.states[next(iter(self.states))]
        users = [self._user(pair.user) for pair in report.pairs]
        calls = [
            self.numbers.calls.of(_call_text(report.service, pair.call)) for pair in report.pairs
        ]
        self._take_durations(report, users, calls, process, told, now_s)
        self._take_costs(report, users, calls, process, at_s, seconds, now_s)
        self._take_operations(report, users, calls, told, at_s, now_s)

    def _user(self, user: str | None) -> int:
        return NOBODY if user is None else self.numbers.users.of(user) if user else REST_USERS

    def _take_durations(
        self, report: ChargeReport, users: list[int], calls: list[int], process: int,
        told: Process, now_s: float,
    ) -> None:  # fmt: skip
        ended = [
            (users[pair], calls[pair], bucket_us(bucket), count)
            for pair, bucket, count, is_open in report.durations
            if not is_open and count
        ]
        told.open = [
            (users[pair], calls[pair], process, bucket_us(bucket), count)
            for pair, bucket, count, is_open in report.durations
            if is_open and count
        ]
        if ended:
            user, call, us, count = np.array(ended, dtype=np.float64).T
            self._end_requests(user, call, process, us, count, np.zeros_like(us), now_s)

    def _take_costs(
        self, report: ChargeReport, users: list[int], calls: list[int], process: int,
        at_s: float, seconds: float, now_s: float,
    ) -> None:  # fmt: skip
        running = np.zeros(len(report.pairs))
        for pair, _, count, is_open in report.durations:
            running[pair] += count if is_open else 0
        rows = [
            (user, call, pair.cpu_us, user * 1e6 + call, pair.calls, open_calls)
            for user, call, pair, open_calls in zip(
                users, calls, report.pairs, running.tolist(), strict=True
            )
            if pair.cpu_us
        ]
        if rows:
            user, call, us, request, began, opened = np.array(rows, dtype=np.float64).T
            self._computing.add(
                (at_s - seconds, at_s, user, call, process, us, request, began, opened, 1.0), now_s
            )
        costs = [
            (user, call, pair.elements, pair.calls)
            for user, call, pair in zip(users, calls, report.pairs, strict=True)
            if pair.elements or pair.calls
        ]
        if costs:
            self._costs.add(list(np.array(costs, dtype=np.float64).T), now_s)

    def _take_operations(
        self, report: ChargeReport, users: list[int], calls: list[int], told: Process,
        at_s: float, now_s: float,
    ) -> None:  # fmt: skip
        rows: list[tuple[float, ...]] = []
        listed: dict[tuple[int, str], int] = {}
        for pair, backend, ago_us, duration_us in report.operations:
            self._number -= 1
            number, start_s = self.numbers.backends.of(backend), at_s - ago_us / 1e6
            at = (users[pair], calls[pair], number, self._number)
            if duration_us is None:
                told.running.append((start_s, *at))
            else:
                listed[pair, backend] = listed.get((pair, backend), 0) + 1
                rows.append((start_s, start_s + duration_us / 1e6, *at))
        if rows:
            start, end, user, call, number, request = np.array(rows, dtype=np.float64).T
            self._end_operations(start, end, user, call, number, request, now_s, usual=False)
        rest = [
            (users[pair], calls[pair], self.numbers.backends.of(backend), count)
            for pair, backend, _, many in report.backend_us
            if (count := many - listed.get((pair, backend), 0)) > 0
        ]
        if rest:
            user, call, number, count = np.array(rest, dtype=np.float64).T
            # Too short to be listed: known by their number alone, and not slow.
            self._operations.add(
                (at_s, at_s, user, call, number, self._number, count, 0.0, 1.0, 0.0), now_s
            )
        usual = [
            (self.numbers.backends.of(backend), bucket, count)
            for backend, bucket, count in report.backend_durations
        ]
        if usual:
            numbers, buckets, counts = np.array(usual, dtype=np.int64).T
            self.by_backend.add(numbers, buckets, counts, np.zeros_like(counts), now_s)

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


def _call_text(service: str, call: str) -> str:
    return f"{service.replace(SEPARATOR, '')}{SEPARATOR}{call.replace(SEPARATOR, '')}"
