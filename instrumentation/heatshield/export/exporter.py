"""The one background thread that sends spans and log records.

A record costs its maker an append to a bounded queue. A batch goes out after ``flush_interval_s``
or ``batch_records``, or at once when a span is urgent. While the collector is away, what was
encoded waits with the :mod:`~heatshield.export.sender`, and where that is full, the oldest go.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import sleep
from typing import Any, Final, TypeVar

from opentelemetry.instrumentation.utils import suppress_instrumentation

from heatshield.clock import Clock
from heatshield.context.span_like import attributes_of
from heatshield.counters import COUNTERS, fail_open
from heatshield.export.encode import encode
from heatshield.export.logs import LogEvent
from heatshield.export.sender import Sender
from heatshield.export.urgency import Urgency
from heatshield.fork_locks import reentrant_lock
from heatshield.names import COST_ELEMENTS
from heatshield.process.shutdown import SHUTDOWN_S
from heatshield.process.wakeup import Wakeup
from heatshield.settings import ServiceSettings
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.span import Span

__all__ = ["Exporter"]

R = TypeVar("R")

MIN_BETWEEN_BATCHES_S: Final = 0.05
"""However many spans are urgent, at most 20 batches leave a second: a hot user must not make the
service spend its time on telling so."""

MIN_BETWEEN_STARTS_S: Final = 1.0
"""Where the thread can't be started (too many threads), every record would try it again."""

STARTING_S: Final = 0.05
STARTING_CHECKS: Final = 5
"""How long, and how often, to see whether a thread that was being started lives."""

FORK_WAITS_S: Final = 0.05
"""Most that a fork is held up until the thread, which only waits for records, has ended."""


class Exporter:
    """Queue and thread; the thread starts with the first record.

    Args:
        settings: endpoint, batch and queue bounds, timeouts.
        clock: for waiting times of payloads.
        resource: what this process is, asked for each batch.
        begin: called when something is to be sent for the first time.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        clock: Clock,
        resource: Callable[[], Mapping[str, str | int]],
        begin: Callable[[], object] = bool,
    ) -> None:
        self._begin = begin
        self._settings = settings
        self._clock = clock
        self._resource = resource
        # Reentrant, for a signal handler may fork or log while it is held.
        self._lock = reentrant_lock()
        self._reset()

    def _reset(self) -> None:
        self._spans: deque[Any] = deque()
        self._logs: deque[LogEvent] = deque()
        self._flushes: deque[Wakeup] = deque()
        self._urgency = Urgency()
        self._arrived = Wakeup()
        self._now = Wakeup()
        self._urgent = False
        self._stopping = Wakeup()
        self._draining = Wakeup()
        self._forking = Wakeup()
        self._forks = 0
        self._idle = self._sending = False
        self._sent_at = self._start_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._sender = Sender(self._settings, self._clock, self._stopping, self._draining)

    # -- what request threads call ---------------------------------------------------------------

    def on_end(self, span: Any) -> None:
        """Queue a span, ours or the SDK's; never blocks, never raises."""
        try:
            elements = attributes_of(span).get(COST_ELEMENTS, 0)
            duration_s = (span.end_time - span.start_time) / 1e9
            urgent = self._urgency.judge(
                span.name, duration_s, elements if type(elements) is int else 0
            )
            self._offer(self._spans, span, urgent=urgent)
        except Exception:  # noqa: BLE001  # telemetry must not fail the service
            COUNTERS.error("export")

    @fail_open("export", None)
    def log(self, event: LogEvent) -> None:
        """Queue a log record; never blocks, never raises."""
        self._offer(self._logs, event, urgent=False)

    def _offer(self, queue: deque[R], record: R, *, urgent: bool) -> None:
        if self._stopping.is_set():
            COUNTERS.drop("after_shutdown")
            return
        if len(queue) >= self._settings.queue_records and (dropped := _take(queue, 1)):
            COUNTERS.drop("queue_full")
            _release(dropped)
        queue.append(record)
        self._urgent = self._urgent or urgent
        if urgent or len(queue) >= self._settings.batch_records:
            self._now.set()
        if self._idle:
            self._arrived.set()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._lock:
            now = self._clock.monotonic()
            if self._thread is not None or self._stopping.is_set() or self._forks:
                return
            if now < self._start_at:
                return
            self._start_at = now + MIN_BETWEEN_STARTS_S
            thread = threading.Thread(target=self._run, name="heatshield-export", daemon=True)
            self._thread = thread
        self._begin()
        try:
            thread.start()  # without the lock: a signal may interrupt this, and its handler flushes
        except BaseException:
            self._thread = None  # it is tried again
            raise

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is queued now; ``False`` if that took longer than the time given."""
        if self._thread is None or not self._thread.is_alive():
            return not self._pending
        done = Wakeup()
        self._flushes.append(done)
        self._now.set()
        self._arrived.set()
        return done.wait(timeout_millis / 1000)

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
        self._stopping.set()
        self._now.set()
        self._arrived.set()
        self._draining.set()
        spans = _take(self._spans, len(self._spans))
        _release(spans)
        left = len(spans) + len(_take(self._logs, len(self._logs))) + self._sender.abandon()
        if left:
            COUNTERS.drop("shutdown", left)

    @fail_open("export", False)
    def _can_send(self) -> bool:
        self._start()
        thread = self._thread
        for _ in range(STARTING_CHECKS):
            if thread is None or thread.is_alive():
                break
            sleep(STARTING_S / STARTING_CHECKS)  # whom a signal interrupted was starting it
        return thread is not None and thread.is_alive()

    @fail_open("export", None)
    def _send_here(self) -> None:
        """Send from this thread: an interpreter that ends may start no other any more."""
        with suppress_instrumentation():
            self._send_all()

    # -- forks -----------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let the thread end if it only waits, so that none of ours is there when a process forks.

        One that sends goes on, and holds no lock that is anybody's but ours.
        """
        with self._lock:
            self._forks += 1
            thread = self._thread
        if thread is None or thread is threading.current_thread() or self._sending:
            return
        if thread.is_alive():
            self._forking.set()
            self._now.set()
            self._arrived.set()
            thread.join(FORK_WAITS_S)

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
        return {"spans": len(self._spans), "logs": len(self._logs)}

    @property
    def _pending(self) -> int:
        return len(self._spans) + len(self._logs) + self._sender.records

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress_instrumentation():
            while self._goes_on():
                try:
                    self._round()
                except Exception:  # noqa: BLE001  # the thread must outlive whatever comes
                    COUNTERS.error("export")
                    self._stopping.wait(MIN_BETWEEN_BATCHES_S)

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
            self._send_all()
        finally:
            self._sending = False
            for done in flushes:
                done.set()

    def _wait(self) -> None:
        self._idle = True
        if not self._pending and not self._flushes:
            self._arrived.wait()
        self._idle = False
        self._arrived.clear()
        if not self._flushes:
            self._now.wait(self._settings.flush_interval_s)
            early_s = self._sent_at + MIN_BETWEEN_BATCHES_S - self._clock.monotonic()
            self._forking.wait(max(0.0, early_s))
        self._now.clear()
        self._sent_at = self._clock.monotonic()

    def _send_all(self) -> None:
        self._encode()
        self._sender.deliver(meanwhile=self._encode)

    def _encode(self) -> None:
        """Hand what is queued to the sender; never fails."""
        urgent, self._urgent = self._urgent, False
        most = self._settings.batch_records
        for _ in range(1 + max(len(self._spans), len(self._logs)) // most):
            spans, logs = _take(self._spans, most), _take(self._logs, most)
            left = len(spans) + len(logs)
            try:
                for payload in encode(spans, logs, self._resource()):
                    left -= payload.records
                    self._sender.take(payload, urgent=urgent)
            except Exception:  # noqa: BLE001  # a mistake of ours must not end the thread
                COUNTERS.error("export")
                COUNTERS.drop("export_failed", left)
            finally:
                _release(spans)


def _release(spans: Iterable[Any]) -> None:
    if PROVIDER.watched:
        return  # processors of the service's own may hold them
    for span in spans:
        if type(span) is Span:
            span.release()


def _take(queue: deque[R], most: int) -> list[R]:
    taken: list[R] = []
    with suppress(IndexError):  # other threads may take from a full queue meanwhile
        while len(taken) < most:
            taken.append(queue.popleft())
    return taken
