"""What ``instrument()`` sets in motion, and what ends it. One :class:`Runtime` a process."""

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import set_global_textmap
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider

from heatshield.breakers.gate import GATE
from heatshield.breakers.rejection import BreakerOpen
from heatshield.breakers.table import BreakerTable
from heatshield.breakers.watch import Watch
from heatshield.clock import Clock, SystemClock
from heatshield.counters import COUNTERS, fail_open
from heatshield.current import call_in, request_in, start
from heatshield.export.exporter import Exporter
from heatshield.identity import Identity
from heatshield.propagation import RequestPropagator
from heatshield.resource import Instance
from heatshield.settings import ServiceSettings
from heatshield.spans import StampProcessor, stamp_user

__all__ = ["Runtime", "begin", "end", "flush", "name_user", "status"]

MAX_ATTRIBUTE_LENGTH: Final = 4_096
"""Characters of a span attribute: a statement or URL beyond this tells nothing more."""

ACTIVE: Final = "active"

_LOGGER: Final = logging.getLogger("heatshield")


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
        self.integrations: dict[str, str] = {}
        self._removers: dict[str, Callable[[], None]] = {}

    def install(self) -> None:
        """Hook into OpenTelemetry and into every library that is there. Starts no thread yet."""
        set_global_textmap(RequestPropagator(self.identity, self.settings.b3))
        _OUTLET.attach(self)
        GATE.install(self.table, self.clock)
        for name, (installer, remover) in self._parts().items():
            self.integrations[name] = self._try(name, installer)
            if self.integrations[name] == ACTIVE:
                self._removers[name] = remover

    def _try(self, name: str, step: Callable[[], None]) -> str:
        """Put one integration in or out; says whether it is active, or why not."""
        if name in self.settings.disabled:
            return "disabled"
        try:
            step()
        except ImportError:
            return "absent"
        except Exception as error:
            COUNTERS.error(name)
            _LOGGER.warning("heatshield could not instrument %s", name, exc_info=True)
            return f"failed: {error!r}"
        return ACTIVE

    def _parts(self) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
        """How to put in and take out each integration, by name."""
        from heatshield.integrations import httpx, logging, redis, starlette, structlog

        def serve() -> None:
            starlette.install(
                self.settings, self.identity, serving=self.watch.start, flush=self.exporter.drain
            )

        log, ids = self.exporter.log, self.settings.console_ids
        return {
            starlette.NAME: (serve, starlette.remove),
            httpx.NAME: (httpx.install, httpx.remove),
            redis.NAME: (redis.install, redis.remove),
            logging.NAME: (lambda: logging.install(log, console_ids=ids), logging.remove),
            structlog.NAME: (lambda: structlog.install(log, console_ids=ids), structlog.remove),
        }

    def stop(self) -> None:
        """Send what is queued for at most two seconds; enforce nothing any more."""
        GATE.remove()
        for name, remover in self._removers.items():
            self._try(name, remover)
        self.exporter.shutdown()
        self.watch.stop()

    def after_fork(self) -> None:
        """Become another instance, with empty queues and threads of one's own."""
        self.instance.renew()
        self.exporter.after_fork()
        self.watch.after_fork()


class _Outlet(SpanProcessor):
    """Stands in the tracer provider, which outlives runtimes, and leads to the current one."""

    def __init__(self) -> None:
        self._stamp = StampProcessor()
        self._attached = False

    def attach(self, runtime: Runtime) -> None:
        """Join the provider that is set globally, or set one."""
        if self._attached:
            return
        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            provider = TracerProvider(
                resource=Resource.create(dict(runtime.instance.attributes)),
                span_limits=SpanLimits(max_span_attribute_length=MAX_ATTRIBUTE_LENGTH),
                shutdown_on_exit=False,
            )
            trace.set_tracer_provider(provider)
        provider.add_span_processor(self)
        self._attached = True

    @fail_open("span start", None)
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp user and call."""
        runtime = _RUNNING.get()
        if runtime is not None:
            self._stamp.on_start(span, parent_context)
            if not runtime.watch.started:
                runtime.watch.start()

    @fail_open("span end", None)
    def on_end(self, span: ReadableSpan) -> None:
        """Export."""
        runtime = _RUNNING.get()
        if runtime is not None:
            runtime.exporter.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is queued now."""
        runtime = _RUNNING.get()
        return runtime is None or runtime.exporter.force_flush(timeout_millis)


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
_OUTLET: Final = _Outlet()


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
        "integrations": dict(runtime.integrations),
        "breakers": {
            "applied": str(applied) if applied is not None else None,
            "mode": runtime.table.mode.value,
            "entries": len(runtime.table.entries),
            "would_have_rejected": runtime.table.would_have_rejected(),
        },
        "dropped": COUNTERS.dropped,
        "errors": COUNTERS.errors,
    }
