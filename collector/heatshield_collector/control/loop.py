"""The loop that protects: every 250 ms findings become alerts, and alerts act on breakers."""

import logging
import math
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from heatshield import names
from heatshield.call_key import CallKey
from heatshield.clock import Clock, Instant
from heatshield_alerts.rules import (
    Alert,
    AlertState,
    Evaluation,
    RuleFailure,
    RuleRunner,
    Transition,
)
from heatshield_alerts.seen import Seen
from heatshield_alerts.series import Labels, Sample
from heatshield_alerts.trip_policy import Decision, decide, key_of
from heatshield_collector.control.alert_evidence import AlertEvidence
from heatshield_collector.control.breakers import Breakers
from heatshield_collector.control.finding_book import OPEN_MOST, FindingBook, Told, gravity
from heatshield_collector.control.outcomes import Outcomes
from heatshield_collector.control.outlets import Outlets
from heatshield_collector.control.series import (
    NAMELESS,
    LiveSeries,
    alert_samples,
    breaker_samples,
    call_load_samples,
    capacity_samples,
    failing_samples,
    finding_samples,
    held_samples,
    user_load_samples,
)
from heatshield_collector.detect import PANE_S, Detection, Finding
from heatshield_collector.detect.harm.harmful_user import HARMFUL

__all__ = ["ALERT_KIND", "EARLY_GAP_S", "ControlLoop"]

_log = logging.getLogger(__name__)

EARLY_GAP_S: Final = 0.05
"""Least time after a round that did not wait its 250 ms. With many users a round costs 5 ms."""

ALERT_KIND: Final = "alert"
"""The kind under which states of alerts are kept for the next start."""


class ControlLoop:
    """Evaluates, decides and acts, on a thread of its own or round by round for its driver.

    Each round is stamped once; whatever is found, decided, written down and told in it happens at
    that moment.

    Args:
        detection: asked for findings and loads.
        runner: the rules.
        breakers: what alerts act on.
        outlets: told of findings and alerts.
        clock: stamps the rounds of the thread, which waits on it.
        cold_start_s: seconds of baseline before a rule may trip.

    Attributes:
        known_s: seconds for which what is usual was known at the start, from an earlier process.
        book: the findings that are open.
        outcomes: what is done about each user whom an alert names.
        failures: rules, and whole rounds, that could not be evaluated.
        failed_in_a_row: whole rounds, up to the last one.
    """

    def __init__(
        self,
        detection: Detection,
        runner: RuleRunner,
        breakers: Breakers,
        outlets: Outlets,
        clock: Clock,
        cold_start_s: float,
    ) -> None:
        self._detection = detection
        self._runner = runner
        self._breakers = breakers
        self._outlets = outlets
        self._clock = clock
        self._cold_start_s = cold_start_s
        self._started_s = clock.monotonic()
        self.known_s = 0.0
        self._findings: Sequence[Finding] = ()
        self.book = FindingBook(breakers.at().epoch)
        self._evidence = AlertEvidence(detection, self.book)
        self._ended = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heatshield-control", daemon=True)
        self.outcomes = Outcomes(breakers)
        self._held_back: dict[Labels, Alert] = {}
        self._idle: set[Labels] = set()
        self.failures = 0
        self.failed_in_a_row = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._woken.set()
        self._thread.join()

    def wake(self) -> None:
        """A user may be hot: evaluate at once instead of at the next 250 ms. Never blocks."""
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
        """Pending, firing and lately resolved alerts, with what is done about them."""
        return [self._with_outcome(alert) for alert in self._runner.alerts]

    @property
    def failing(self) -> Sequence[RuleFailure]:
        """The rules that failed the last time they were due."""
        return self._runner.failing

    def notes(self, now: Instant) -> list[str]:
        """What limits protection at this moment, one sentence each."""
        left_s = self.cold_start_left_s(now)
        cold = f"cold start: rules trip no breaker for another {math.ceil(left_s)} s"
        full = f"{OPEN_MOST} findings are open; milder ones are left out"
        return (
            [cold] * (left_s > 0)
            + [full] * (len(self.book.open) >= OPEN_MOST)
            + [
                f"rule {one.rule} of group {one.group} has failed for "
                f"{now.monotonic_s - one.since.monotonic_s:.0f} s and does not act: {one.error}"
                for one in self.failing
            ]
        )

    def cold_start_left_s(self, now: Instant) -> float:
        """Seconds until rules may trip breakers; 0: they may."""
        return max(0.0, self._cold_start_s - self._baseline_age_s(now))

    def _baseline_age_s(self, now: Instant) -> float:
        """Seconds for which detection has known what is usual."""
        return self.known_s + now.monotonic_s - self._started_s

    def _with_outcome(self, alert: Alert) -> Alert:
        """An alert with what is done about its user, and with what detection says of it."""
        alert = self._evidence.explained(alert)
        if alert.state is not AlertState.FIRING:
            return alert
        return replace(alert, outcome=self.outcomes.of(key_of(alert)))

    def restore(self, kept: Mapping[str, str], now: Instant) -> list[Alert]:
        """Go on with the alerts that an earlier process kept; before the first round, and after
        the breakers do.
        """
        alerts, gone = self._runner.restore(kept, now)
        self._outlets.journal.keep(ALERT_KIND, dict.fromkeys(gone))
        for alert in alerts:
            self._holds_back(alert)
        return [self._with_outcome(alert) for alert in alerts]

    @property
    def held_back(self) -> Collection[Labels]:
        """The alerts that are resolved, but people are not told as long as calls are refused."""
        return self._held_back.keys()

    def _holds_back(self, alert: Alert) -> bool:
        """Whether people are told of a step later: that all is well again, once it is."""
        if alert.state is AlertState.PENDING:
            return False  # it may come to nothing, and then what was held back is still to be told
        self._held_back.pop(alert.labels, None)
        ended = alert.state is AlertState.RESOLVED
        if ended and self.outcomes.refuses_calls_of(key_of(alert)):
            self._held_back[alert.labels] = alert
        return alert.labels in self._held_back

    def _tell_late(self) -> None:
        """Tell people of what is resolved and whose user is no longer refused, and of users whom
        something is done about by now.
        """
        for alert in list(self._held_back.values()):
            if not self._holds_back(alert):
                self._outlets.notifier.submit(alert)
        idle = self._idle
        self._idle = set()
        for alert in map(self._with_outcome, self._runner.firing):
            acts = alert.outcome is not None and alert.outcome.kind.acts
            if not acts:
                self._idle.add(alert.labels)
            elif alert.labels in idle:
                traces = self._detection.traces_of(key_of(alert))
                self._outlets.notifier.submit(alert, traces)

    def samples(self) -> Iterator[Sample]:
        """Every series of this moment, for /metrics."""
        return self.series(self._clock.now(), NAMELESS).all()

    def series(self, now: Instant, nameless: str = "") -> LiveSeries:
        """The series of one moment.

        Args:
            now: the moment.
            nameless: the label ``user`` of loads without a user; empty: they have none.
        """
        now_s = now.monotonic_s
        return LiveSeries(
            {
                names.FINDING: lambda: finding_samples(self._findings, nameless),
                names.USER_LOAD: lambda: user_load_samples(self._detection.loads, now_s, nameless),
                names.CALL_LOAD: lambda: call_load_samples(self._detection.loads, now_s),
                names.ALERTS: lambda: alert_samples(self._runner.alerts),
                names.RULE_FAILING: lambda: failing_samples(self._runner.failing),
                names.BREAKERS: lambda: breaker_samples(self._breakers),
                names.BREAKER_HELD: lambda: held_samples(self._breakers),
                names.SERVICE_CAPACITY: lambda: capacity_samples(self._breakers.count_workers(now)),
            }
        )

    def round(self, now: Instant, *, early: bool = False) -> None:
        """One evaluation: findings, rules, decisions, breakers.

        Args:
            now: the moment of all of it.
            early: it comes between the rules' intervals, which it doesn't shift.
        """
        self._breakers.count_workers(now)
        self._findings = self._detection.evaluate(now)
        self._told(self.book.take(self._findings, now), now)
        evaluation = self._runner.evaluate(self.series(now), now, early=early)
        for failure in evaluation.failures:
            self.failures += 1
            if failure.since == now:  # and not again four times a second
                _log.warning("rule %s of group %s: %s", failure.rule, failure.group, failure.error)
        self._evidence.note(self._runner.alerts)
        self._outlets.journal.keep(ALERT_KIND, evaluation.kept)
        try:
            self._protect(evaluation, now)
        finally:
            # People are told after the breakers were: what protects goes first. They are told all
            # the more if that fails, and a transition is not seen again in the next round.
            for transition in evaluation.transitions:
                with self._surviving(transition.alert.rule):
                    self._tell(transition, now)
            self._tell_late()

    def _protect(self, evaluation: Evaluation, now: Instant) -> None:
        decisions: list[Decision] = []
        for alert in evaluation.acting:
            with self._surviving(alert.rule):
                decision = self._decide(alert, now)
                decisions += [] if decision is None else [decision]
        active_users = self._detection.loads.active_users()
        for decision in sorted(decisions, key=_coolness):
            with self._surviving(decision.draft.issuer):
                change = self._breakers.act(decision, now, active_users)
                self.outcomes.note(decision.draft.key, change)
        self.outcomes.forget_all_but(key_of(alert) for alert in self._runner.firing)
        loads, harming = self._detection.loads, self._harming()
        seen = Seen(
            loads={
                key: loads.load_of(key, "1s", now.monotonic_s).load
                for key, _, _ in self._breakers.held()
            },
            harming=harming.keys(),
            lasting={key: one.reason for key, one in harming.items() if one.action == "reject"},
            rules=self._runner.working,
            active_users=active_users,
        )
        self._breakers.tick(seen, now)

    def _harming(self) -> dict[CallKey, Finding]:
        """Who harms others: on a call, or, where that is held, on a whole service."""
        found = {one.key: one for one in self._findings if one.klass == HARMFUL}
        services = {key for key, _, _ in self._breakers.held() if not key.call}
        for key, finding in list(found.items()):
            whole = key._replace(call="")
            worst = found.get(whole, finding)
            if whole in services and gravity(finding) >= gravity(worst):
                found[whole] = finding
        return found

    @contextmanager
    def _surviving(self, name: str) -> Iterator[None]:
        """Count a failure and go on: the other alerts act, and are told of, all the same."""
        try:
            yield
        except Exception:  # noqa: BLE001 - whatever it is
            self.failures += 1
            _log.exception("alert %s could not act, or be told of", name)

    def _decide(self, alert: Alert, now: Instant) -> Decision | None:
        evidence = self._evidence.of(alert, now, self._baseline_age_s(now), self._cold_start_s)
        return decide(alert, evidence, self._breakers.policy())

    def open_findings(self) -> list[dict[str, Any]]:
        """The findings that are open, as the API shows them."""
        return [record.to_json(record.updated_ns) for record in self.book.open]

    def close_findings(self, now: Instant) -> None:
        """Write down that all findings end, once the thread has ended and nobody looks on."""
        self._told(self.book.close_all(now), now)

    def _told(self, happened: Iterable[Told], now: Instant) -> None:
        """Write down and tell of what has happened to findings."""
        for change, record in happened:
            said = record.to_json(now.epoch_ns)
            self._outlets.events.publish("finding", {**said, "change": change})
            self._outlets.journal.write("findings", said)

    def _tell(self, transition: Transition, now: Instant) -> None:
        if transition.alert.state is AlertState.INACTIVE:
            return
        alert = self._with_outcome(transition.alert)
        said = alert.to_json()
        self._outlets.events.publish("alert", {**said, "at_ns": now.epoch_ns})
        row = {name: said[name] for name in ("name", "state", "labels", "annotations", "value")}
        self._outlets.journal.write("alerts", {**row, "at_ns": now.epoch_ns})
        if not self._holds_back(alert):
            self._outlets.notifier.submit(alert, self._detection.traces_of(key_of(alert)))

    def attempt(self, now: Instant, *, early: bool = False) -> None:
        """A round that may fail: it must not be the last one, and it must not go unseen."""
        try:
            self.round(now, early=early)
        except Exception:  # noqa: BLE001 - counted, logged, and /readyz says so
            self.failures += 1
            self.failed_in_a_row += 1
            _log.exception("a round of evaluation failed")
            self._breakers.lapse(now)
        else:
            self.failed_in_a_row = 0

    def _run(self) -> None:
        while True:
            early = self._clock.wait(self._woken, PANE_S)
            self._woken.clear()
            if self._ended.is_set():
                return
            self.attempt(self._clock.now(), early=early)
            if early:
                # A platform on fire wakes this with every batch.
                self._clock.wait(self._ended, EARLY_GAP_S)


def _coolness(decision: Decision) -> tuple[float, str]:
    """The order in which decisions are carried out: where room is short, the hottest users first.

    Those as hot as each other by their keys, so that a replay has the same order.
    """
    return (-decision.draft.heat, decision.draft.key.text)
