"""What ``instrument()`` sets in motion, and what ends it. One :class:`Runtime` a process."""

import atexit
import os
import sys
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from time import monotonic, time_ns
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.propagate import set_global_textmap
from opentelemetry.trace import SpanKind

from heatshield.breakers.gate import GATE
from heatshield.breakers.table import BreakerTable
from heatshield.breakers.watch import Watch
from heatshield.clock import Clock, SystemClock
from heatshield.context.propagator import RequestPropagator
from heatshield.context.request import call_in, request_in
from heatshield.context.user_scope import Acting, acting
from heatshield.contract import BreakerMode
from heatshield.counters import COUNTERS, fail_open
from heatshield.export.exporter import Exporter
from heatshield.export.otlp import forget
from heatshield.fork_locks import lock
from heatshield.identity.sources import Identity
from heatshield.integrations.registry import Armed
from heatshield.integrations.services import Equipment
from heatshield.metrics.calls import count
from heatshield.metrics.service import ServiceMetrics
from heatshield.process.resource import Instance
from heatshield.process.shutdown import ShutdownBudget
from heatshield.process.sigterm import SigtermHandler
from heatshield.rejection import BreakerOpen
from heatshield.resilience.downstream import DOWNSTREAM
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.settings import ServiceSettings
from heatshield.settings_advice import advice
from heatshield.tracing.joining import settle
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.span import ENTRY_KINDS, RESOURCE
from heatshield.tracing.stamp import stamp_user

__all__ = ["Runtime", "begin", "end", "flush", "name_user", "process", "status"]

_CALLING: Final = (SpanKind.CLIENT, SpanKind.PRODUCER)
"""Spans that don't make a process an instance: a supervisor or a script may call others, too."""


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
        self.exporter = Exporter(
            settings, clock, lambda: self.instance.attributes, begin=SIGTERM_HANDLER.arm
        )
        self.metrics = ServiceMetrics(
            settings, clock, lambda: self.instance.attributes, self._held, self.exporter.queued
        )
        self.shutdown_budget = ShutdownBudget(self._send, clock)
        self.watch = Watch(
            settings.endpoint,
            self.table,
            clock,
            service=settings.service,
            instance=lambda: self.instance.id,
            workers=settings.workers,
        )
        self.propagator = RequestPropagator(
            self.identity, settings.b3, edge=settings.edge, to=settings.propagate_to
        )
        self.integrations = Armed(
            Equipment(
                settings=settings,
                identity=self.identity,
                propagator=self.propagator,
                log=self.exporter.log,
                serving=self._serve,
                flush=self.shutdown_budget.send,
                page=self.metrics.page,
            )
        )

    def install(self) -> None:
        """Hook into OpenTelemetry and into every library that is there. Starts no thread yet."""
        SANITIZER.install(self.settings, self.identity.aliases)
        forget()
        set_global_textmap(self.propagator)
        settle(_export, _seen)
        PROVIDER.outlet = self.finished
        RESOURCE.attributes = lambda: self.instance.attributes
        PROVIDER.entered = self.metrics.begin_request
        GATE.install(self.table, self.clock)
        self.metrics.install()
        self.integrations.arm()

    def finished(self, span: Any) -> None:
        """Export and count a span that ended; never blocks."""
        self.exporter.on_end(span)
        count(span)
        if not self.watch.started:
            self.note(span)

    def note(self, span: Any) -> None:
        """Follow the breakers from now on if this span shows that the process serves."""
        if not self.watch.started and span.kind not in _CALLING:
            self.watch.start()

    def _serve(self) -> None:
        self.watch.start()
        self.metrics.serve()

    def _send(self, most_s: float) -> None:
        """Send what is queued and a snapshot of the metrics, side by side."""
        ends_s = monotonic() + most_s
        sent = self.metrics.send_now()
        self.exporter.drain(most_s)
        sent.wait(max(0.0, ends_s - monotonic()))

    def _held(self) -> dict[str, float]:
        """Breaker entries for this service, by mode."""
        mine = (one for one in self.table.entries if one.service == self.settings.service)
        held = Counter(one.mode.value for one in mine)
        return {mode.value: float(held[mode.value]) for mode in BreakerMode}

    def stop(self) -> None:
        """Send what is queued for at most two seconds; enforce nothing any more."""
        GATE.remove()
        self.integrations.disarm()
        self.watch.end()
        self.metrics.finish()
        self.shutdown_budget.spend(lambda: self.exporter.shutdown(self.shutdown_budget.left_s))
        PROVIDER.outlet = PROVIDER.entered = None
        self.shutdown_budget.spend(lambda: self.metrics.stop(self.shutdown_budget.left_s))
        self.watch.stop(self.shutdown_budget.left_s)

    @fail_open("fork", None)
    def after_fork(self) -> None:
        """Become another instance, with empty queues, and threads of one's own when needed."""
        self.instance.renew()
        self.exporter.after_fork()
        self.metrics.after_fork()
        self.watch.after_fork()
        self.table.forget_rejections()
        self._leave_spans_to_parent()

    def _leave_spans_to_parent(self) -> None:
        """The spans that a fork happens in are the parent's to end, though both go on in them."""
        trace_id = trace.get_current_span().get_span_context().trace_id
        forked_ns = time_ns()

        def outlet(span: Any) -> None:
            if span.trace_id != trace_id or span.start_time > forked_ns:
                self.finished(span)

        PROVIDER.outlet = outlet if trace_id else self.finished


def _export(span: Any) -> None:
    """Export a span of the service's own provider."""
    runtime = _RUNNING.get()
    if runtime is not None:
        runtime.finished(span)


def _seen(span: Any) -> None:
    """A span of the service's own provider starts."""
    runtime = _RUNNING.get()
    if runtime is not None:
        runtime.note(span)
        if span.kind in ENTRY_KINDS:
            runtime.metrics.begin_request()


class _Running:
    """Holds this process's runtime."""

    def __init__(self) -> None:
        self._lock = lock()
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
                atexit.register(self.end)
                os.register_at_fork(
                    before=self._before_fork,
                    after_in_parent=self._after_fork_in_parent,
                    after_in_child=self._after_fork,
                )

    def end(self) -> None:
        with self._lock:
            runtime = self._runtime
            if runtime is not None:
                runtime.stop()
                self._runtime = None
                SIGTERM_HANDLER.disarm()

    def send_queued(self) -> None:
        runtime = self._runtime
        if runtime is not None:
            runtime.shutdown_budget.send()

    @fail_open("fork", None)
    def _before_fork(self) -> None:
        SIGTERM_HANDLER.before_fork()
        if self._runtime is not None:
            self._runtime.exporter.before_fork()
            self._runtime.metrics.before_fork()

    @fail_open("fork", None)
    def _after_fork_in_parent(self) -> None:
        SIGTERM_HANDLER.after_fork_in_parent()
        if self._runtime is not None:
            self._runtime.exporter.after_fork_in_parent()
            self._runtime.metrics.after_fork_in_parent()

    def _after_fork(self) -> None:
        SIGTERM_HANDLER.after_fork()
        COUNTERS.after_fork()
        if self._runtime is not None:
            self._runtime.after_fork()


_RUNNING: Final = _Running()

SIGTERM_HANDLER: Final = SigtermHandler(_RUNNING.send_queued)
"""This process's, however often it is instrumented."""


def begin(settings: ServiceSettings, clock: Clock | None = None) -> None:
    """Instrument this process; once is enough, more does nothing."""
    _RUNNING.begin(settings, clock or SystemClock())


def end() -> None:
    """Send what is queued and stop."""
    _RUNNING.end()


def flush(timeout_s: float) -> bool:
    """Send what is queued and a snapshot of the metrics; ``False`` if that took longer."""
    runtime = _RUNNING.get()
    if runtime is None:
        return True
    ends_s = monotonic() + timeout_s
    sent = runtime.metrics.send_now()
    return runtime.exporter.force_flush(int(timeout_s * 1000)) and sent.wait(
        max(0.0, ends_s - monotonic())
    )


def name_user(user: object) -> Acting:
    """Name the acting user of what runs now; for as long as that lasts, or as a ``with`` block.

    Raises:
        BreakerOpen: if the handler runs already and a breaker is open for this user's call.
    """
    runtime = _RUNNING.get()
    named = None if runtime is None else _name_user(runtime, user)
    if named is None:
        return Acting()
    who, refusal = named
    if refusal is not None:
        who.end()
        raise refusal
    return who


@fail_open("user", None)
def _name_user(runtime: Runtime, user: object) -> tuple[Acting, BreakerOpen | None] | None:
    who = acting(runtime.identity, request_in(), user)
    if who.known_as is None:
        COUNTERS.drop("user_not_acceptable")
        return None
    request = request_in()
    if request is None:
        return None
    stamp_user(trace.get_current_span(), request)
    stamp_user(request.span, request)
    calls = {call_in()} | {request.call} if request.entered else {call_in()} - {request.call}
    refusals = (GATE.refusal(call, request.user) for call in calls if call)
    return who, next((refusal for refusal in refusals if refusal is not None), None)


def process(message: object) -> AbstractContextManager[None]:
    """What is done for one message of a queue."""
    runtime = _RUNNING.get()
    if runtime is None:
        return nullcontext()
    from heatshield.integrations.messaging.process import Processing  # few services have queues

    return Processing(message, runtime.propagator, runtime.identity)


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
        "advice": list(advice(runtime.settings)),
        "breakers": {
            "applied": str(applied) if applied is not None else None,
            "mode": runtime.table.mode.value,
            "entries": len(runtime.table.entries),
            "would_have_rejected": runtime.table.would_have_rejected(),
        },
        "downstream": DOWNSTREAM.status(),
        "dropped": COUNTERS.dropped,
        "errors": COUNTERS.errors,
    }
