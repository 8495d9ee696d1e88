"""Everything that runs in an instrumented service, put together: one :class:`Runtime` a process."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from opentelemetry import trace
from opentelemetry.propagate import set_global_textmap
from opentelemetry.trace import SpanKind

from heatshield.breakers.caller_gate import CALLER_GATE
from heatshield.breakers.gate import GATE
from heatshield.breakers.kill_switch import KillSwitch
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.signature import Unverifiable, verifier
from heatshield.breakers.watch import Watch
from heatshield.charges.machine import ProcessReadings
from heatshield.charges.meter import METER
from heatshield.charges.pools import POOLS
from heatshield.charges.reporter import Reporter
from heatshield.clock import Clock
from heatshield.context.deadline import TIME
from heatshield.context.handed_on import MEASURED
from heatshield.context.propagator import RequestPropagator
from heatshield.contract import BreakerMode
from heatshield.export.attributes import forget
from heatshield.export.exporter import Exporter
from heatshield.export.sampling import TraceSampling
from heatshield.fork_hooks import FORK_HOOKS, SAME_PROCESS
from heatshield.identity.identify import Identity
from heatshield.integrations.limit_costs import note_costs
from heatshield.integrations.registry import Registry
from heatshield.integrations.services import Services
from heatshield.metrics.calls import count
from heatshield.metrics.loop_lag import LOOP_LAG
from heatshield.metrics.service import ServiceMetrics
from heatshield.process.resource import Instance
from heatshield.process.shutdown import ShutdownBudget
from heatshield.resilience.downstream import DOWNSTREAM
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.settings import ServiceSettings
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.span import ENTRY_KINDS, RESOURCE, EndedSpan, Span

__all__ = ["Runtime"]

_CALLING: Final = (SpanKind.CLIENT, SpanKind.PRODUCER)
"""Spans that don't make a process an instance: a supervisor or a script may call others, too."""


class Runtime:
    """Everything that runs in an instrumented process.

    Args:
        settings: of the service.
        clock: for leases, and what all threads wait on.
        begin_export: called when something is to be sent for the first time.

    Attributes:
        faults: what is wrong with the settings here, one sentence each.
    """

    def __init__(
        self, settings: ServiceSettings, clock: Clock, begin_export: Callable[[], object]
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.identity = Identity(settings)
        self.instance = Instance(settings)
        self.table = BreakerTable(
            settings.service,
            settings.tenant,
            enforce=settings.enforce,
            instance=lambda: self.instance.id,
        )
        self.kill_switch = KillSwitch(
            (self.table, DOWNSTREAM),
            clock,
            file=settings.kill_switch_file,
            signal=settings.kill_switch_signal,
            enforce=settings.enforce,
        )
        self.exporter = self._new_exporter(begin_export)
        self.metrics = ServiceMetrics(
            settings,
            clock,
            lambda: self.instance.attributes,
            self._held,
            self._thrown,
            self.exporter.queued,
        )
        self.shutdown_budget = ShutdownBudget(self._send, clock)
        checks = verifier(settings.breaker_key)
        self.faults = [checks.why] if isinstance(checks, Unverifiable) else []
        self.watch = Watch(
            settings.endpoint,
            self.table,
            clock,
            service=settings.service,
            instance=lambda: self.instance.id,
            workers=settings.workers,
            token=settings.token,
            checks=checks,
        )
        self.reporter = self._new_reporter()
        self.propagator = RequestPropagator(
            self.identity, settings.b3, edge=settings.edge, to=settings.propagate_to
        )
        self.integrations = Registry(
            Services(
                settings=settings,
                identity=self.identity,
                propagator=self.propagator,
                log=self.exporter.log,
                serving=self._serve,
                following=self._follow,
                working=self._work,
                flush=self._flush_at_end,
                page=self.metrics.page,
            )
        )

    def _new_exporter(self, begin: Callable[[], object]) -> Exporter:
        return Exporter(
            self.settings,
            self.clock,
            lambda: self.instance.attributes,
            begin=begin,
            is_charged=lambda: self.reporter.is_heard,
        )

    def _new_reporter(self) -> Reporter:
        return Reporter(
            self.settings.endpoint,
            METER,
            self.clock,
            service=self.settings.service,
            instance=lambda: self.instance.id,
            perf_ns=time.perf_counter_ns,
            state=ProcessReadings(
                METER, self.settings.workers, LOOP_LAG.take_longest_s, POOLS.queued
            ).read,
            token=self.settings.token,
            keeps=TraceSampling(self.settings.trace_ratio, bool).keeps,
            is_ours=lambda: PROVIDER.successor is None,
        )

    def install(self) -> None:
        """Hook into OpenTelemetry and into every library that is there; starts no thread yet."""
        SANITIZER.install(self.settings, self.identity.aliases)
        forget()
        set_global_textmap(self.propagator)
        PROVIDER.outlet = self.finished
        RESOURCE.attributes = lambda: self.instance.attributes
        PROVIDER.entered = self._enter
        if self.settings.charge_reports:
            PROVIDER.began = METER.begin
            MEASURED.begin, MEASURED.end = METER.begin_work, METER.end_work
        TIME.install(self.clock.monotonic)
        GATE.install(self.table, self.clock)
        CALLER_GATE.install(self.table, self.clock)
        self.metrics.install()
        self.kill_switch.signal.arm()
        self.integrations.install_all()

    def _enter(self) -> None:
        """A request begins; its cost is noted from the first one on, which shows that we serve."""
        if not METER.is_on:
            METER.is_on = self.settings.charge_reports
        self.metrics.begin_request()

    def finished(self, span: EndedSpan) -> None:
        """Export and count a span that ended; never blocks."""
        if not SAME_PROCESS[0]:
            FORK_HOOKS.notice()
            return  # it began before the fork, or its begin would have been noticed
        if METER.is_on and type(span) is Span:
            METER.end(span)
        if self.exporter.on_end(span):
            self.reporter.hurry()
        count(span)
        note_costs(span)
        if not self._follows:
            self._note(span.kind)

    def seen(self, span: trace.Span) -> None:
        """A span of the service's own provider starts."""
        kind = getattr(span, "kind", SpanKind.INTERNAL)
        self._note(kind)
        if kind in ENTRY_KINDS:
            self.metrics.begin_request()

    def _note(self, kind: SpanKind) -> None:
        """Follow the breakers from now on if this span shows that the process serves."""
        if not self._follows and kind not in _CALLING:
            self._follow()
        elif self.settings.local_breakers and not self.kill_switch.started:
            self.kill_switch.start()

    @property
    def _follows(self) -> bool:
        """Whether all threads run that a process has which serves; one that failed starts again."""
        reports = self.reporter.started or not self.settings.charge_reports
        return self.watch.started and reports

    def _follow(self) -> None:
        """Follow the breakers; never without the thread by which a person can end that here."""
        FORK_HOOKS.notice()
        if self.kill_switch.start():  # also where it runs: the service may have set its handler
            self.watch.start()
        if self.settings.charge_reports:
            self.reporter.start()

    def _serve(self) -> None:
        self._follow()
        self.metrics.serve()

    def _work(self) -> None:
        FORK_HOOKS.notice()
        if self.kill_switch.start():
            self.watch.learn()

    def _flush_at_end(self) -> None:
        FORK_HOOKS.notice()
        self.shutdown_budget.send()

    def _send(self, most_s: float) -> None:
        """Send what is queued and a snapshot of the metrics, side by side, then what calls have
        cost, and what was refused.

        Args:
            most_s: seconds for all of it.
        """
        ends_at = self.clock.monotonic() + most_s
        sent = self.metrics.send_now()
        self.exporter.drain(most_s)
        self.reporter.flush(ends_at - self.clock.monotonic())
        self.watch.report(ends_at - self.clock.monotonic())
        self.clock.wait(sent, max(0.0, ends_at - self.clock.monotonic()))

    def flush(self, timeout_s: float) -> bool:
        """Send what is queued and a snapshot of the metrics; ``False`` if that took longer."""
        ends_at = self.clock.monotonic() + timeout_s
        sent = self.metrics.send_now()
        if not self.exporter.force_flush(int(timeout_s * 1000)):
            return False
        return self.clock.wait(sent, max(0.0, ends_at - self.clock.monotonic()))

    def _held(self) -> dict[str, float]:
        """Breaker entries for this service, by mode."""
        mine = (one for one in self.table.entries if one.service == self.settings.service)
        held = Counter(one.mode.value for one in mine)
        return {mode.value: float(held[mode.value]) for mode in BreakerMode}

    def _thrown(self) -> dict[str, float]:
        """What has thrown the kill switch."""
        return dict.fromkeys(self.kill_switch.causes, 1.0)

    def stop(self) -> None:
        """Send what is queued for at most two seconds; enforce nothing any more."""
        GATE.remove()
        CALLER_GATE.remove()
        TIME.remove()
        self.integrations.remove_all()
        self.watch.end()
        self.metrics.finish()
        self.shutdown_budget.spend(lambda: self.exporter.shutdown(self.shutdown_budget.left_s))
        self.shutdown_budget.spend(lambda: self.reporter.stop(self.shutdown_budget.left_s))
        PROVIDER.outlet = PROVIDER.entered = PROVIDER.began = None
        MEASURED.begin = MEASURED.end = None
        self.shutdown_budget.spend(lambda: self.watch.report(self.shutdown_budget.left_s))
        self.shutdown_budget.spend(lambda: self.metrics.stop(self.shutdown_budget.left_s))
        self.kill_switch.stop()
        self.watch.stop(self.shutdown_budget.left_s)
