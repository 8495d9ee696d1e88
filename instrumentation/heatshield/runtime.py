"""What ``instrument()`` sets in motion, and what ends it. One :class:`Runtime` a process."""

import atexit
import os
import sys
import threading
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.propagate import set_global_textmap

from heatshield.breakers.gate import GATE
from heatshield.breakers.rejection import BreakerOpen
from heatshield.breakers.table import BreakerTable
from heatshield.breakers.watch import Watch
from heatshield.clock import Clock, SystemClock
from heatshield.counters import COUNTERS, fail_open
from heatshield.current import call_in, request_in, start
from heatshield.export.exporter import Exporter
from heatshield.identity import Identity
from heatshield.integrations.arming import Armed
from heatshield.integrations.equipment import Equipment
from heatshield.propagation import RequestPropagator
from heatshield.resource import Instance
from heatshield.settings import ServiceSettings
from heatshield.spans import stamp_user
from heatshield.tracing.joining import settle
from heatshield.tracing.provider import PROVIDER

__all__ = ["Runtime", "begin", "end", "flush", "name_user", "status"]


class Runtime:
    """Everything that runs in an instrumented process.

    Args:
        settings: of the service.
        clock: for leases and waiting times.
    """

    def __init__(self, settings: ServiceSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.identity = Identity(settings)
        self.instance = Instance(settings)
        self.table = BreakerTable(settings.service, settings.tenant, enforce=settings.enforce)
        self.exporter = Exporter(settings, clock, lambda: self.instance.attributes)
        self.watch = Watch(
            settings.endpoint,
            self.table,
            clock,
            service=settings.service,
            instance=lambda: self.instance.id,
            workers=settings.workers,
        )
        self.propagator = RequestPropagator(self.identity, settings.b3, edge=settings.edge)
        self.integrations = Armed(
            Equipment(
                settings=settings,
                identity=self.identity,
                propagator=self.propagator,
                log=self.exporter.log,
                serving=self.watch.start,
                flush=self.exporter.drain,
            )
        )

    def install(self) -> None:
        """Hook into OpenTelemetry and into every library that is there. Starts no thread yet."""
        set_global_textmap(self.propagator)
        settle(_export, _seen)
        PROVIDER.outlet = self.finished
        GATE.install(self.table, self.clock)
        self.integrations.arm()

    def finished(self, span: Any) -> None:
        """Export a span that ended; never blocks, never raises."""
        self.exporter.on_end(span)
        if not self.watch.started:
            self.watch.start()

    def stop(self) -> None:
        """Send what is queued for at most two seconds; enforce nothing any more."""
        GATE.remove()
        self.integrations.disarm()
        self.exporter.shutdown()
        PROVIDER.outlet = None
        self.watch.stop()

    def after_fork(self) -> None:
        """Become another instance, with empty queues and threads of one's own."""
        self.instance.renew()
        self.integrations.after_fork()
        self.exporter.after_fork()
        self.watch.after_fork()


def _export(span: Any) -> None:
    """Export a span of the service's own provider."""
    runtime = _RUNNING.get()
    if runtime is not None:
        runtime.finished(span)


def _seen() -> None:
    """A span of the service's own provider starts."""
    runtime = _RUNNING.get()
    if runtime is not None and not runtime.watch.started:
        runtime.watch.start()


class _Running:
    """Holds this process's runtime."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None
        self._hooked = False

    def get(self) -> Runtime | None:
        return self._runtime

    def begin(self, settings: ServiceSettings, clock: Clock) -> None:
        with self._lock:
            if self._runtime is not None:
                return
            runtime = Runtime(settings, clock)
            runtime.install()
            self._runtime = runtime
            if not self._hooked:
                self._hooked = True
                _register_counters()
                atexit.register(self.end)
                os.register_at_fork(after_in_child=self._after_fork)

    def end(self) -> None:
        with self._lock:
            runtime = self._runtime
            if runtime is not None:
                runtime.stop()
                self._runtime = None

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        COUNTERS.after_fork()
        if self._runtime is not None:
            self._runtime.after_fork()


_RUNNING: Final = _Running()


def begin(settings: ServiceSettings, clock: Clock | None = None) -> None:
    """Instrument this process; once is enough, more does nothing."""
    _RUNNING.begin(settings, clock or SystemClock())


@fail_open("counters", None)
def _register_counters() -> None:
    """Show the counters in the service's own registry, if it has one."""
    from prometheus_client import REGISTRY

    REGISTRY.register(COUNTERS)


def end() -> None:
    """Send what is queued and stop."""
    _RUNNING.end()


def flush(timeout_s: float) -> bool:
    """Send what is queued; ``False`` if that took longer."""
    runtime = _RUNNING.get()
    return runtime is None or runtime.exporter.force_flush(int(timeout_s * 1000))


def name_user(user: object) -> None:
    """Name the acting user of what runs now.

    Raises:
        BreakerOpen: if the handler runs already and a breaker is open for this user's call.
    """
    runtime = _RUNNING.get()
    if runtime is None:
        return
    refusal = _name_user(runtime, user)
    if refusal is not None:
        raise refusal


@fail_open("user", None)
def _name_user(runtime: Runtime, user: object) -> BreakerOpen | None:
    request = request_in()
    if request is None or not request.call:
        request = start()  # no server's: tasks side by side must not share it
    known_as = runtime.identity.name(request, user)
    if known_as is None:
        COUNTERS.drop("user_not_acceptable")
        return None
    stamp_user(trace.get_current_span(), request)
    stamp_user(request.span, request)
    calls = {call_in()} | {request.call} if request.entered else {call_in()} - {request.call}
    refusals = (GATE.refusal(call, known_as) for call in calls if call)
    return next((refusal for refusal in refusals if refusal is not None), None)


def status() -> dict[str, Any]:
    """What a person who looks for the fault wants to know about this process."""
    runtime = _RUNNING.get()
    found: dict[str, Any] = {"instrumented": runtime is not None, "python": sys.version.split()[0]}
    if runtime is None:
        return found
    applied = runtime.table.at
    return found | {
        "service": runtime.settings.service,
        "instance": runtime.instance.id,
        "endpoint": runtime.settings.endpoint,
        "enforce": runtime.table.enforce,
        "integrations": runtime.integrations.states(),
        "breakers": {
            "applied": str(applied) if applied is not None else None,
            "mode": runtime.table.mode.value,
            "entries": len(runtime.table.entries),
            "would_have_rejected": runtime.table.would_have_rejected(),
        },
        "dropped": COUNTERS.dropped,
        "errors": COUNTERS.errors,
    }
