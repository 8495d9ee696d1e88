"""The loop that protects: every 250 ms findings become alerts, and alerts act on breakers."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from heatshield import names
from heatshield.call_key import CallKey
from heatshield.clock import Clock
from heatshield_alerts.matchers import Matcher
from heatshield_alerts.policy import Evidence, decide, key_of
from heatshield_alerts.rules import Alert, AlertState, RuleRunner, Transition
from heatshield_alerts.series import InstantSamples, Sample
from heatshield_collector.control.breakers import Breakers
from heatshield_collector.control.journal import Journal
from heatshield_collector.control.series import (
    NAMELESS,
    alert_samples,
    breaker_samples,
    call_load_samples,
    capacity_samples,
    finding_samples,
    user_load_samples,
)
from heatshield_collector.detect import PANE_S, Detection, Finding
from heatshield_collector.events import EventHub

__all__ = ["ControlLoop", "Notifies"]

_log = logging.getLogger(__name__)

EARLY_GAP_S: Final = 0.05
"""Least time after a round that did not wait its 250 ms. With many users a round costs 5 ms."""

QUIET_S: Final = 10.0
"""A finding that comes back sooner is the same finding."""


class Notifies(Protocol):
    """Tells people of alerts; must not block."""

    def submit(self, alert: Alert, trace_ids: Sequence[str] = ()) -> None:
        """An alert went into another state."""
        ...


class ControlLoop:
    """Evaluates, decides and acts on its own thread.

    Args:
        detection: asked for findings and loads.
        runner: the rules.
        breakers: what alerts act on.
        journal, events: told of findings and alerts.
        notifier: told of alerts.
        clock: where the time comes from.
        cold_start_s: seconds of baseline before a rule may trip.
    """

    def __init__(
        self,
        detection: Detection,
        runner: RuleRunner,
        breakers: Breakers,
        journal: Journal,
        events: EventHub,
        notifier: Notifies,
        clock: Clock,
        cold_start_s: float,
    ) -> None:
        self._detection = detection
        self._runner = runner
        self._breakers = breakers
        self._journal = journal
        self._events = events
        self._notifier = notifier
        self._clock = clock
        self._cold_start_s = cold_start_s
        self._started_s = clock.monotonic()
        self._seen_s: dict[tuple[str, CallKey], float] = {}
        self._findings: Sequence[Finding] = ()
        self._ended = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heatshield-control", daemon=True)
        self.failures = 0
        self.failed_in_a_row = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended = True
        self._woken.set()
        self._thread.join()

    def wake(self) -> None:
        """Somebody may be hot: evaluate at once instead of at the next 250 ms. Never blocks."""
        self._woken.set()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def findings(self) -> Sequence[Finding]:
        """What detection said at the last round."""
        return self._findings

    @property
    def alerts(self) -> Sequence[Alert]:
        """Pending, firing and lately resolved alerts."""
        return self._runner.alerts

    def samples(self) -> Iterator[Sample]:
        """Every series of this moment, for /metrics."""
        now_s = self._clock.monotonic()
        for make in self._makers(NAMELESS).values():
            yield from make(now_s)

    def select(
        self, name: str | None, matchers: Sequence[Matcher], at_s: float
    ) -> Iterable[Sample]:
        """The series of this moment, for rules: only those asked for are made.

        Loads over minutes are merged from many sketches, which is too dear to do for nothing four
        times a second.
        """
        makers = self._makers()
        wanted = makers if name is None else {name: makers[name]} if name in makers else {}
        made = [sample for make in wanted.values() for sample in make(at_s)]
        return InstantSamples(made).select(name, matchers, at_s)

    def _makers(self, nameless: str = "") -> Mapping[str, Callable[[float], Iterable[Sample]]]:
        return {
            names.FINDING: lambda _: finding_samples(self._findings),
            names.USER_LOAD: lambda now_s: user_load_samples(
                self._detection.loads, now_s, nameless
            ),
            names.CALL_LOAD: lambda now_s: call_load_samples(self._detection.loads, now_s),
            names.ALERTS: lambda _: alert_samples(self._runner.alerts),
            names.BREAKERS: lambda _: breaker_samples(self._breakers),
            names.SERVICE_CAPACITY: lambda _: capacity_samples(self._breakers),
        }

    def round(self, *, early: bool = False) -> None:
        """One evaluation: findings, rules, decisions, breakers.

        Args:
            early: it comes between the rules' intervals, which it doesn't shift.
        """
        instant = self._clock.now()
        now_s = instant.monotonic_s
        self._findings = self._detection.evaluate(instant)
        for finding in self._findings:
            self._note(finding, now_s)
        self._forget(now_s)
        evaluation = self._runner.evaluate(self, now_s, early=early)
        for failure in evaluation.failures:
            self.failures += 1
            _log.warning("rule %s of group %s: %s", failure.rule, failure.group, failure.error)
        try:
            self._protect(now_s)
        finally:
            # People are told after the breakers were: what protects goes first. They are told all
            # the more if that fails, and a transition is not seen again in the next round.
            for transition in evaluation.transitions:
                self._tell(transition)

    def _protect(self, now_s: float) -> None:
        for alert in self._runner.firing:
            self._act(alert, now_s)
        self._breakers.tick(
            {
                key: self._detection.loads.load_of(key, "1s", now_s).load
                for key, _, _ in self._breakers.held()
            }
        )

    def _act(self, alert: Alert, now_s: float) -> None:
        key = key_of(alert)
        known = self._detection.describe(key, now_s)
        evidence = Evidence(
            baseline_age_s=now_s - self._started_s,
            cold_start_s=self._cold_start_s,
            threshold=self._detection.floor_of(key.service),
            cost_per_call=known.cost_per_call,
            trace_ids=tuple(known.trace_ids),
            figures={"baseline": known.baseline},
        )
        decision = decide(alert, evidence)
        if decision is not None:
            self._breakers.act(decision, self._detection.loads.active_users())

    def _note(self, finding: Finding, now_s: float) -> None:
        """Write down and tell of a finding that is new."""
        name = (finding.klass, finding.key)
        is_known = name in self._seen_s
        self._seen_s[name] = now_s
        if is_known:
            return
        said = finding_json(finding, self._clock.time_ns())
        self._events.publish("finding", said)
        self._journal.write("findings", said)

    def _forget(self, now_s: float) -> None:
        for name, last_s in list(self._seen_s.items()):
            if now_s - last_s > QUIET_S:
                del self._seen_s[name]

    def _tell(self, transition: Transition) -> None:
        if transition.alert.state is AlertState.INACTIVE:
            return
        alert = transition.alert.to_json(self.offset_ns())
        at_ns = self._clock.time_ns()
        self._events.publish("alert", {**alert, "at_ns": at_ns})
        row = {name: alert[name] for name in ("name", "state", "labels", "annotations", "value")}
        self._journal.write("alerts", {**row, "at_ns": at_ns})
        key = key_of(transition.alert)
        self._notifier.submit(transition.alert, self._detection.traces_of(key))

    def offset_ns(self) -> int:
        """The wall clock minus the monotonic one."""
        return self._clock.time_ns() - round(self._clock.monotonic() * 1e9)

    def attempt(self, *, early: bool = False) -> None:
        """A round that may fail: it must not be the last one, and it must not go unseen."""
        try:
            self.round(early=early)
        except Exception:  # noqa: BLE001 - counted, logged, and /readyz says so
            self.failures += 1
            self.failed_in_a_row += 1
            _log.exception("a round of evaluation failed")
        else:
            self.failed_in_a_row = 0

    def _run(self) -> None:
        while True:
            early = self._woken.wait(PANE_S)
            self._woken.clear()
            if self._ended:
                return
            self.attempt(early=early)
            if early:
                # A platform on fire wakes this with every batch.
                time.sleep(EARLY_GAP_S)


def finding_json(finding: Finding, at_ns: int) -> dict[str, Any]:
    """A finding as the API, its events and the journal have it."""
    return {
        "id": f"f-{uuid.uuid4().hex[:12]}",
        "class": finding.klass,
        "user": finding.key.user,
        "service": finding.key.service,
        "call": finding.key.call,
        "cost": finding.cost,
        "window": finding.window,
        "load": finding.load,
        "at_ns": at_ns,
        "trace_ids": finding.trace_ids,
        "reason": finding.reason,
    }
