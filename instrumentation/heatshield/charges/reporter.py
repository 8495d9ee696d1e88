"""The thread that reports what calls cost: five times a second while the process serves."""

import json
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from heatshield.charge_report import REPORT_S, ChargeReport, ProcessState
from heatshield.charges.loop_clock import LOOK_S
from heatshield.charges.meter import Meter
from heatshield.charges.tally import Tally, Told
from heatshield.clock import Clock
from heatshield.counters import COUNTERS, fail_open
from heatshield.export.answer import Answer, Unreachable
from heatshield.export.connection import Connection
from heatshield.fork_hooks import expects_fork
from heatshield.fork_locks import lock
from heatshield.names import CHARGES_PATH
from heatshield.native import NativeThread
from heatshield.process.completion import Completion
from heatshield.process.wakeup import Wakeup
from heatshield.tracing.suppression import suppressed

__all__ = ["Reporter"]

IDLE_S: Final = 1.0
"""Seconds between reports while nothing runs: they say that the process lives, and is idle."""

EARLY_S: Final = 0.05
"""Seconds between reports at least, where something is far beyond its usual: at most 20 a second,
as of batches of spans."""

LOOKS_FROM: Final = 0.02
"""Part of a core that loops compute beside measured steps, from which on they are looked at. One
look at each report tells of less."""

TIMEOUT_S: Final = 2.0
"""For a report. Later ones wait meanwhile."""

WAITING_MOST: Final = 50
"""Reports that wait for a collector that is away: ten seconds. The oldest go first, counted."""

UNKNOWN_S: Final = 60.0
"""Seconds without reports to a collector that does not know them."""

HEARD_S: Final = 3.0
"""Seconds for which a report that was taken shows that the collector charges by reports."""

RESTART_S: Final = 10.0
"""Seconds before another try where the thread could not be started."""

NOT_FOUND: Final = 404

_REFUSED_FOR_GOOD: Final = frozenset({400, 413, 422})
"""Statuses of a collector that will never take this report."""


class Reporter:
    """Reports what a meter notes, on a thread of its own.

    Args:
        endpoint: the collector's address.
        meter: notes calls and operations.
        clock: stamps, and is waited on.
        service: of this process.
        instance: names this process, asked anew after a fork.
        token: that the collector requires, if it does.
        perf_ns: the clock of the meter.
        state: how the process is, asked for each report.
        keeps: whether the spans of a trace are sent; evidence should be there to look at.
        is_ours: whether spans of this process are heatshield's, so that calls are noted. Else there
            are no reports, and the collector charges spans.
    """

    def __init__(  # noqa: PLR0913 - each is named
        self,
        endpoint: str,
        meter: Meter,
        clock: Clock,
        *,
        service: str,
        instance: Callable[[], str],
        perf_ns: Callable[[], int],
        state: Callable[[], ProcessState],
        keeps: Callable[[int], bool] = bool,
        is_ours: Callable[[], bool] = lambda: True,
        token: str = "",
    ) -> None:
        self._clock, self._meter = clock, meter
        self._service, self._instance = service, instance
        self._perf_ns, self._state, self._is_ours = perf_ns, state, is_ours
        self._keeps = keeps
        self._connect = partial(Connection, endpoint, TIMEOUT_S, clock, token)
        self._lock = lock()
        self._start_at = float("-inf")
        self._reset()

    def _reset(self) -> None:
        self._thread: NativeThread | None = None
        self._stopping, self._gone, self._bell = Wakeup(), Wakeup(), Wakeup()
        self._flushes: deque[Completion] = deque()
        self._looks = False
        self._connection = self._connect()
        self._tally = Tally(self._meter, keeps=self._keeps)
        self._waiting: deque[bytes] = deque()
        self._number = 0
        self._told_s = self._clock.monotonic()
        self._silent_until_s = self._heard_s = float("-inf")
        self.dropped = 0

    @property
    def started(self) -> bool:
        """Whether the thread was started in this process."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread; once is enough, more does nothing. Never raises."""
        if self._thread is not None:
            return
        with self._lock:
            now_s = self._clock.monotonic()
            if self._thread is not None or self._stopping.is_set() or now_s < self._start_at:
                return
            if expects_fork():
                return
            self._start_at = now_s + RESTART_S
            self._launch()

    @fail_open("charges start", None)
    def _launch(self) -> None:
        thread = NativeThread(self._run, "heatshield-charges")
        thread.start()
        self._thread = thread
        self._meter.is_on = True

    def hurry(self) -> None:
        """Something is far beyond its usual: report at once. Never blocks."""
        self._bell.set()

    def flush(self, most_s: float) -> None:
        """Report now, as the process may end, and wait for that, at most so long."""
        if self._thread is not None and self._thread.is_alive() and not self._stopping.is_set():
            done = Completion()
            self._flushes.append(done)
            self._bell.set()
            self._clock.wait(done, max(0.0, most_s))

    @property
    def is_heard(self) -> bool:
        """Whether the collector takes this process's reports, so it needs no spans to charge."""
        return self._clock.monotonic() - self._heard_s < HEARD_S

    def stop(self, most_s: float) -> None:
        """End the thread, which sends a last report; wait for that, at most so long."""
        self._meter.is_on = False
        self._stopping.set()
        self._bell.set()
        thread = self._thread
        if thread is not None and self._clock.wait(self._gone, most_s):
            thread.join()
        if thread is None or self._gone.is_set():
            self._meter.reset()

    def after_fork(self) -> None:
        """In a child process, which is another instance; it reports nothing until it serves."""
        self._connection.leave_to_parent()
        self._meter.is_on = False
        self._meter.reset()
        self._start_at = float("-inf")
        self._reset()

    def _run(self) -> None:
        stopping, gone = self._stopping, self._gone
        with suppressed():
            while not stopping.is_set():
                self._await_turn(stopping)
                flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
                self._tell_safely()
                for done in flushes:
                    done.set()
        gone.set()

    def _await_turn(self, stopping: Wakeup) -> None:
        """Wait until a report is due, looking at event loops meanwhile."""
        is_hurried = False
        while not stopping.is_set() and not self._flushes:
            looks = self._looks and bool(self._meter.calls)
            if looks:
                self._meter.loops.look()
            every_s = IDLE_S if self._tally.is_idle else EARLY_S if is_hurried else REPORT_S
            left_s = self._told_s + every_s - self._clock.monotonic()
            if left_s <= 0:
                return
            # A request that begins meanwhile is seen with the next look.
            if self._clock.wait(self._bell, min(left_s, LOOK_S if looks else REPORT_S)):
                self._bell.clear()
                is_hurried = True

    @fail_open("charges", None)
    def _tell_safely(self) -> None:
        now_s = self._clock.monotonic()
        seconds, self._told_s = now_s - self._told_s, now_s
        report = self.gather(seconds)
        if now_s < self._silent_until_s or not self._is_ours():
            self._waiting.clear()
            return
        self._waiting.append(json.dumps(report.to_json(), separators=(",", ":")).encode())
        while len(self._waiting) > WAITING_MOST:
            self._waiting.popleft()
            self.dropped += 1
            COUNTERS.error("charge report dropped")
        self._send()

    def gather(self, seconds: float) -> ChargeReport:
        """The next report.

        Args:
            seconds: since the last one.
        """
        self._number += 1
        loops = self._meter.loops
        beside_ns = loops.beside_ns
        loops.look()
        self._looks = loops.beside_ns - beside_ns > LOOKS_FROM * seconds * 1e9
        return self._tally.report(
            Told(
                self._service,
                self._instance(),
                self._number,
                self._perf_ns(),
                self._clock.time_ns(),
                seconds,
                self._state(),
            )
        )

    def _send(self) -> None:
        while self._waiting:
            try:
                answer = self._connection.request(
                    "POST",
                    CHARGES_PATH,
                    body=self._waiting[0],
                    headers={"content-type": "application/json"},
                )
            except Unreachable:
                return  # they wait
            if not self._is_settled(answer):
                return
            if self._waiting:
                self._waiting.popleft()

    def _is_settled(self, answer: Answer) -> bool:
        if answer.ok:
            self._heard_s = self._clock.monotonic()
            return True
        if answer.status == NOT_FOUND:  # an older collector
            self._silent_until_s = self._clock.monotonic() + UNKNOWN_S
            self._waiting.clear()
        elif answer.status in _REFUSED_FOR_GOOD:
            COUNTERS.error("charge report refused")
            return True
        return False
