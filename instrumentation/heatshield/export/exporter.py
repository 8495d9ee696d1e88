"""The one background thread that sends spans and log records, and when it does.

A record costs its maker an append to a bounded queue. A batch goes out after ``flush_interval_s``
or ``batch_records``, or at once when a span is urgent. While the collector is away, what was
encoded waits with the :mod:`~heatshield.export.sender`, and where that is full, the oldest go.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from heatshield.clock import Clock
from heatshield.counters import COUNTERS, fail_open
from heatshield.export.logs import LogEvent
from heatshield.export.records import Records
from heatshield.export.sender import Sender
from heatshield.fork_hooks import FORK_HOOKS, SAME_PROCESS, expects_fork
from heatshield.fork_locks import reentrant_lock
from heatshield.native import NativeThread
from heatshield.process.completion import Completion
from heatshield.process.green_calls import GREEN_CALLS
from heatshield.process.shutdown import SHUTDOWN_S
from heatshield.process.wakeup import Wakeup
from heatshield.settings import ServiceSettings
from heatshield.tracing.span import EndedSpan
from heatshield.tracing.suppression import suppressed

__all__ = ["Exporter"]

MIN_BETWEEN_BATCHES_S: Final = 0.05
"""However many spans are urgent, at most 20 batches leave a second: a hot user must not make the
service spend its time on telling so."""

MIN_BETWEEN_STARTS_S: Final = 1.0
"""Where the thread can't be started (too many threads), every record would try it again."""

STARTING_S: Final = 0.05
"""How long a thread that is being started may take until it runs."""

FORK_WAITS_S: Final = 0.05
"""Most that a fork is held up until the thread, which only waits for records, has ended."""


class Exporter:
    """Queues records, and sends them in a thread that starts with the first one.

    Args:
        settings: endpoint, batch and queue bounds, timeouts.
        clock: says when, and is waited on.
        resource: what this process is, asked for each batch.
        begin: called when something is to be sent for the first time.
        chance: uniform random numbers, for the jitter of retries.
        is_charged: whether the collector knows costs without spans.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        clock: Clock,
        resource: Callable[[], Mapping[str, str | int]],
        begin: Callable[[], object] = bool,
        chance: Callable[[], float] = random.random,
        is_charged: Callable[[], bool] = bool,
    ) -> None:
        self._begin = begin
        self._settings = settings
        self._clock = clock
        self._resource = resource
        self._chance = chance
        self._is_charged = is_charged
        # Reentrant, for a signal handler may fork or log while it is held.
        self._lock = reentrant_lock()
        self._reset()

    def _reset(self) -> None:
        self._records = Records(self._settings, self._resource, self._is_charged)
        self._flushes: deque[Completion] = deque()
        self._arrived = Wakeup()
        self._now = Wakeup()
        self._stopping = Wakeup()
        self._draining = Wakeup()
        self._forking = Wakeup()
        self._forks = 0
        self._idle = self._sending = self._is_over = False
        self._sent_at = self._start_at = float("-inf")
        self._thread: NativeThread | None = None
        self._running = Wakeup()
        self._gone = Wakeup()
        self._sender = Sender(
            self._settings, self._clock, self._stopping, self._draining, self._chance
        )

    # -- what request threads call ---------------------------------------------------------------

    def on_end(self, span: EndedSpan) -> bool:
        """Queue a span, ours or the SDK's; whether it can't wait. Never blocks, never raises."""
        try:
            if self._is_over:
                COUNTERS.drop("after_shutdown")
                return False
            at_once = self._records.add_span(span)
            self._wake(at_once)
        except Exception:  # noqa: BLE001  # telemetry must not fail the service
            COUNTERS.error("export")
            return False
        return at_once

    @fail_open("export", None)
    def log(self, event: LogEvent) -> None:
        """Queue a log record; never blocks, never raises."""
        if not SAME_PROCESS[0]:
            FORK_HOOKS.notice()
        if self._is_over:
            COUNTERS.drop("after_shutdown")
            return
        self._wake(self._records.add_log(event))

    def _wake(self, at_once: bool) -> None:  # noqa: FBT001  # on every record's way
        if at_once:
            self._now.set()
        if self._idle:
            self._arrived.set()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        if self._thread is not None or expects_fork():
            return
        with self._lock:
            now = self._clock.monotonic()
            if self._thread is not None or self._stopping.is_set() or self._forks:
                return
            if now < self._start_at:
                return
            self._start_at = now + MIN_BETWEEN_STARTS_S
            self._running, self._gone = Wakeup(), Wakeup()
            run = partial(self._run, self._running, self._gone)
            thread = NativeThread(run, "heatshield-export")
            self._thread = thread
        self._begin()
        GREEN_CALLS.start()
        try:
            thread.start()  # without the lock: a signal may interrupt this, and its handler flushes
        except BaseException:
            self._thread = None  # it is tried again
            raise

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is queued now; ``False`` if that took longer than the time given."""
        if self._thread is None or not self._thread.is_alive():
            return not self._pending
        done = Completion()
        self._flushes.append(done)
        self._now.set()
        self._arrived.set()
        return self._clock.wait(done, timeout_millis / 1000)

    def drain(self, most_s: float = SHUTDOWN_S) -> bool:
        """Send what is queued now, for at most so long: this process is about to end.

        A collector that can't be reached is not tried twice: it will hardly be back by then.
        """
        self._sender.ends_at = self._clock.monotonic() + most_s
        self._draining.set()
        try:
            if self._pending and not self._can_send():
                self._send_here()
            return self.force_flush(int(most_s * 1000))
        finally:
            self._sender.ends_at = None
            self._draining.clear()

    def shutdown(self, most_s: float = SHUTDOWN_S) -> None:
        """Send what is queued, for at most so long, and stop the thread."""
        self.drain(most_s)
        self._is_over = True
        self._stopping.set()
        self._now.set()
        self._arrived.set()
        self._draining.set()
        left = self._records.abandon() + self._sender.abandon()
        if left:
            COUNTERS.drop("shutdown", left)

    @fail_open("export", False)
    def _can_send(self) -> bool:
        self._start()
        thread = self._thread
        if thread is not None and not thread.is_alive():
            # A signal has interrupted the thread that was starting it.
            self._clock.wait(self._running, STARTING_S)
        return thread is not None and thread.is_alive()

    @fail_open("export", None)
    def _send_here(self) -> None:
        """Send from this thread: an interpreter that ends may start no other any more."""
        with suppressed():
            self._send_all()

    # -- forks -----------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let the thread end if it only waits, so that none of ours is there when a process forks.

        One that sends goes on, and holds no lock but our own.
        """
        with self._lock:
            self._forks += 1
            thread, gone = self._thread, self._gone
        if thread is None or thread.is_current() or self._sending:
            return
        if thread.is_alive():
            self._forking.set()
            self._now.set()
            self._arrived.set()
            if self._clock.wait(gone, FORK_WAITS_S):
                thread.join()  # it has nothing left to do

    def after_fork_in_parent(self) -> None:
        """Go on with what is queued."""
        with self._lock:
            self._forks = max(0, self._forks - 1)  # 0: it was made while another thread forked
            if self._forks:
                return
            self._forking.clear()
        if self._pending or self._flushes:
            self._can_send()

    def after_fork(self) -> None:
        """In a child process: the parent sends what was queued; here everything starts empty."""
        self._sender.leave_to_parent()
        self._reset()

    def queued(self) -> dict[str, float]:
        """Records that wait to be sent, by queue."""
        return self._records.by_queue()

    @property
    def _pending(self) -> int:
        return len(self._records) + self._sender.records

    # -- the thread ------------------------------------------------------------------------------

    def _run(self, running: Wakeup, gone: Wakeup) -> None:
        running.set()
        with suppressed():
            while self._goes_on():
                try:
                    self._round()
                except Exception:  # noqa: BLE001  # the thread must outlive any failure
                    COUNTERS.error("export")
                    self._clock.wait(self._stopping, MIN_BETWEEN_BATCHES_S)
        gone.set()

    def _goes_on(self) -> bool:
        if self._stopping.is_set():
            return False
        with self._lock:
            if self._forks:
                self._thread = None  # under the lock, so that the next one is surely started
                self._start_at = float("-inf")
                return False
        return True

    def _round(self) -> None:
        self._wait()
        if self._forks:
            return
        flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
        self._sending = True
        try:
            if not self._stopping.is_set():
                self._send_all()
        finally:
            self._sending = False
            for done in flushes:
                done.set()

    def _wait(self) -> None:
        """Wait for a record, and then for its batch to be full, old or urgent enough."""
        self._idle = True
        if not self._pending and not self._flushes:
            self._clock.wait(self._arrived)
        self._idle = False
        self._arrived.clear()
        if not self._flushes:
            self._clock.wait(self._now, self._settings.flush_interval_s)
            early_s = self._sent_at + MIN_BETWEEN_BATCHES_S - self._clock.monotonic()
            if early_s > 0:
                self._clock.wait(self._forking, early_s)
        self._now.clear()
        self._sent_at = self._clock.monotonic()

    def _send_all(self) -> None:
        self._encode()
        self._sender.deliver(meanwhile=self._encode)

    def _encode(self) -> None:
        """Hand what is queued to the sender; never fails."""
        self._records.encode(self._sender.take)
