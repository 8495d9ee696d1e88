"""The metrics of an instrumented process: what starts, shows, sends and ends them."""

from asyncio import _get_running_loop
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Final

from wrapt.importer import register_post_import_hook

from heatshield import native
from heatshield.clock import Clock
from heatshield.counters import fail_open
from heatshield.fork_hooks import expects_fork
from heatshield.fork_locks import IMPORTING_METRICS
from heatshield.metrics.gc_pauses import GC_PAUSES
from heatshield.metrics.loop_lag import LOOP_LAG
from heatshield.metrics.readings import READINGS, Reading
from heatshield.metrics.red import RED
from heatshield.native import NativeThread
from heatshield.process.completion import Completion
from heatshield.process.green_calls import GREEN_CALLS
from heatshield.settings import ServiceSettings

if TYPE_CHECKING:
    from heatshield.metrics.exposition import Port
    from heatshield.metrics.periodic import PeriodicTask, PeriodicThread, Schedule
    from heatshield.metrics.push import Push

__all__ = ["ServiceMetrics"]

App = Callable[..., Awaitable[None]]
"""An ASGI application."""

MIRROR_S: Final = 1.0
"""Seconds between writes to the files of multi-process mode."""

FIRST_PUSH_S: Final = 1.0
"""Seconds until the first snapshot leaves, so that a new process is seen soon."""

PORT_S: Final = 5.0
"""Seconds between tries to listen on the port: when the worker that has it ends, another takes
it."""

STARTING_S: Final = 1.0
"""Most that the end of a process waits for what its first request has begun to import."""

FORK_WAITS_S: Final = 0.05
"""Most that a fork is held up until the thread, which mostly waits, has ended."""


class ServiceMetrics:
    """Starts no thread and imports no ``prometheus_client`` before the process begins to serve.

    That library decides when it is imported whether it works in multi-process mode; by the time the
    process serves, the service has had its chance to say so.

    Args:
        settings: of the service.
        clock: for when something is due.
        resource: what this process is, asked for each snapshot.
        breakers: entries held by mode.
        kill_switch: 1 for each cause that has thrown it.
        queues: records that wait to be sent, by queue.

    Attributes:
        started: whether :meth:`start` has been called in this process.
        path: what the service answers with :meth:`page`; empty for nothing.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        clock: Clock,
        resource: Callable[[], Mapping[str, str | int]],
        breakers: Reading,
        kill_switch: Reading,
        queues: Reading,
    ) -> None:
        self.path = settings.metrics_path
        self._settings = settings
        self._clock = clock
        self._resource = resource
        self._readings = breakers, kill_switch, queues
        self._reset()

    def _reset(self) -> None:
        self.started = False
        self._lock = native.lock()
        self._schedule: Schedule | None = None
        self._thread: PeriodicThread | None = None
        self._push: Push | None = None
        self._port: Port | None = None
        self._page: App | None = None
        self._finals: list[Callable[[], object]] = []
        self._starting: NativeThread | None = None
        self._ready = Completion()  # it has started, or there is nothing that starts

    def serve(self) -> None:
        """The process serves, here in its event loop if there is one."""
        self._start_from_here()
        LOOP_LAG.follow()

    def install(self) -> None:
        """Measure from now on, and be in the default registry once the service imports it."""
        READINGS.breakers, READINGS.kill_switch, READINGS.queues = self._readings
        GC_PAUSES.install()
        register_once()

    def begin_request(self) -> None:
        """A request begins, here in its event loop if there is one."""
        if not self.started:
            self._start_from_here()
        RED.begin()
        LOOP_LAG.follow()

    def _start_from_here(self) -> None:
        """Start; not in an event loop, where the imports would hold up all requests."""
        if self.started or self._starting is not None:
            return
        if _get_running_loop() is None:
            self.start()
            return
        start = partial(self._start_aside, self._ready)
        self._starting = thread = NativeThread(start, "heatshield-start")
        try:
            thread.start()
        except RuntimeError:  # there can be no more threads
            self._start_aside(self._ready)

    def _start_aside(self, ready: Completion) -> None:
        try:
            self.start()
        finally:
            ready.set()

    def _await_start(self) -> None:
        if self._starting is not None:
            self._clock.wait(self._ready, STARTING_S)

    @fail_open("metrics", None)
    def start(self) -> None:
        """Begin to send and to listen; more calls do nothing."""
        if expects_fork():
            return
        with self._lock:
            if self.started:
                return
            self.started = True
            with IMPORTING_METRICS:
                from heatshield.metrics.periodic import PeriodicThread, Schedule

                if self._schedule is None:
                    self._schedule = Schedule(self._what_to_do(), self._clock.monotonic())
            if self._schedule:
                GREEN_CALLS.start()
                thread = PeriodicThread(self._schedule, self._finish, self._clock)
                thread.start()
                self._thread = thread

    def _what_to_do(self) -> "list[PeriodicTask]":
        # Imported on this thread and not on that: a fork must not meet a half-done import.
        from heatshield.metrics import multiprocess
        from heatshield.metrics.exposition import Port, mirror, retire
        from heatshield.metrics.periodic import PeriodicTask
        from heatshield.metrics.push import Push

        settings, tasks = self._settings, []
        if settings.metrics_port:
            self._port = Port(settings.metrics_host, settings.metrics_port)
            tasks.append(PeriodicTask(self._port.open, PORT_S))
        if multiprocess.in_use():
            tasks.append(PeriodicTask(mirror, MIRROR_S))
            self._finals.append(retire)
        if settings.metrics_interval_s:
            self._push = Push(settings, self._clock, self._resource)
            first_s = min(FIRST_PUSH_S, settings.metrics_interval_s)
            tasks.append(PeriodicTask(self._push.send, settings.metrics_interval_s, first_s))
            self._finals.append(self._push.send_last)
        return tasks

    def _finish(self) -> None:
        from heatshield.metrics.periodic import attempt

        for final in self._finals:
            attempt(final)

    def page(self) -> App:
        """The ASGI application that answers at :attr:`path`."""
        if self._page is None:
            with IMPORTING_METRICS:
                from heatshield.metrics.exposition import asgi_app

            self._page = asgi_app()
        return self._page

    def send_now(self) -> Completion:
        """Have a snapshot sent now; the event that is returned is set once it is."""
        self._await_start()
        return _done() if self._thread is None else self._thread.run_now()

    def finish(self) -> Completion:
        """Have the last snapshot sent; the event that is returned is set once it is."""
        self._await_start()
        if self._thread is None and self._schedule:  # a fork ended the thread
            self.start()
        return _done() if self._thread is None else self._thread.end()

    def stop(self, most_s: float) -> None:
        """Wait for the last snapshot, listen and measure no more."""
        self._clock.wait(self.finish(), most_s)
        if self._port is not None:
            self._port.close()
        GC_PAUSES.remove()
        LOOP_LAG.reset()
        READINGS.clear()
        self._reset()

    def before_fork(self) -> None:
        """Have no thread while the process forks; the next request starts another."""
        with self._lock:
            thread, self._thread = self._thread, None
            self.started = False
        if thread is not None:
            thread.pause(FORK_WAITS_S)

    def after_fork_in_parent(self) -> None:
        """Go on where the thread paused."""
        if self._schedule is not None:
            self.start()

    def after_fork(self) -> None:
        """In a child process: count from nothing, with a thread of its own when it serves."""
        RED.after_fork()
        GC_PAUSES.after_fork()
        LOOP_LAG.reset()
        for part in (self._port, self._push):
            if part is not None:
                part.leave_to_parent()
        self._reset()


def _done() -> Completion:
    done = Completion()
    done.set()
    return done


@fail_open("metrics", None)
def _register(_module: ModuleType) -> None:
    from prometheus_client import REGISTRY

    from heatshield.metrics.families import OWN

    REGISTRY.register(OWN)


class _Once:
    def __init__(self) -> None:
        self._done = False

    def __call__(self) -> None:
        if not self._done:
            self._done = True
            register_post_import_hook(_register, "prometheus_client")


register_once: Final = _Once()
"""Show this process's figures in the default registry as soon as there is one."""
