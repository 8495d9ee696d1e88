"""One rule over time: a vector in, transitions out."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from heatshield.clock import Instant
from heatshield_alerts.promql.expression import EvaluationError
from heatshield_alerts.rules.load import AlertRule
from heatshield_alerts.rules.state import (
    NEVER,
    RESOLVED_KEPT_S,
    Alert,
    AlertEvent,
    AlertState,
    Transition,
    step,
)
from heatshield_alerts.series import METRIC_NAME, Labels, Sample

__all__ = ["ALERT_NAME", "MAX_RESOLVED", "UNEVALUATED_KEPT_S", "RuleTracker"]

ALERT_NAME: Final = "alertname"
"""The label that carries the rule's name."""

MAX_RESOLVED: Final = 1_000
"""Resolved alerts a rule keeps at most, the newest. Over users that come and go, the time alone
bounds nothing."""

UNEVALUATED_KEPT_S: Final = 4 * 60.0
"""Seconds a rule may fail before its alerts end, since nothing says any longer that they hold. In
Prometheus an alert that is not sent again ends after four minutes, too."""


class RuleTracker:
    """The alerts of one rule.

    Args:
        rule: the rule.

    Attributes:
        problem: what was wrong with the last evaluation; empty when nothing was.
    """

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule
        self.problem = ""
        self._evaluated: Instant | None = None
        self._alerts: dict[Labels, Alert] = {}

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Pending, firing and lately resolved."""
        return tuple(self._alerts.values())

    def accepts(self, alert: Alert) -> bool:
        """Whether a kept alert is this rule's: its name and its labels that are no templates."""
        fixed = {k: v.text for k, v in self.rule.labels.items() if "{{" not in v.text}
        return alert.rule == self.rule.name and all(
            alert.labels.get(name, "") == text for name, text in fixed.items()
        )

    def restore(self, alert: Alert, now: Instant) -> None:
        """Go on with an alert of an earlier process, before the first evaluation."""
        self._alerts[alert.labels] = alert
        self._evaluated = now

    def evaluate(self, vector: Iterable[Sample], now: Instant) -> list[Transition]:
        """Take in what the expression returns now.

        Several series that make one alert are one alert, with the highest value, and a
        :attr:`problem`; the other alerts are what they would be without them.

        Raises:
            EvaluationError: if there are more alerts than the rule's limit; then nothing has
                changed. The caller hands it to :meth:`fail`.
        """
        current, problem = self._current(vector)
        transitions: list[Transition] = []
        for labels, sample in current.items():
            alert = self._seen(labels, sample)
            transitions += self._walk(alert, self._events_held(alert, now), now)
        # In the order in which the alerts came, not in that of a set: it is what people are told.
        for labels in [labels for labels in self._alerts if labels not in current]:
            alert = self._missed(self._alerts[labels], now)
            transitions += self._walk(alert, self._events_missing(alert, now), now)
        transitions += self._forget_oldest(now)
        self.problem, self._evaluated = problem, now
        return transitions

    def fail(self, problem: str, now: Instant) -> list[Transition]:
        """Take in that the rule could not be evaluated now.

        The alerts stay as they are, until the rule has failed for :data:`UNEVALUATED_KEPT_S`.
        """
        self.problem = problem
        if self._evaluated is None or _between_s(self._evaluated, now) < UNEVALUATED_KEPT_S:
            return []
        transitions: list[Transition] = []
        for alert in list(self._alerts.values()):
            ended = alert.resolved_at is not None
            events = self._events_missing(alert, now) if ended else [AlertEvent.GONE]
            transitions += self._walk(alert, events, now)
        return transitions

    def _current(self, vector: Iterable[Sample]) -> tuple[Mapping[Labels, Sample], str]:
        """The vector by the labels its alerts have, and what is wrong with it."""
        problem = ""
        current: dict[Labels, Sample] = {}
        for sample in vector:
            own = {
                name: template.render(sample.labels, sample.value)
                for name, template in self.rule.labels.items()
            }
            bare = sample.labels.drop(METRIC_NAME)
            labels = bare.updated({**own, ALERT_NAME: self.rule.name})
            known = current.get(labels)
            if known is not None:
                problem = problem or f"several series make one alert: {labels}"
                if not sample.value > known.value:
                    continue
            current[labels] = sample
        if self.rule.limit and len(current) > self.rule.limit:
            raise EvaluationError(f"{len(current)} alerts, limit is {self.rule.limit}")
        return current, problem

    def _seen(self, labels: Labels, sample: Sample) -> Alert:
        """The alert as it is now that the expression returns it, before any step."""
        annotations = {
            name: template.render(sample.labels, sample.value)
            for name, template in self.rule.annotations.items()
        }
        known = self._alerts.get(labels)
        if known is None:
            return Alert(self.rule.name, labels, AlertState.INACTIVE, sample.value, annotations)
        return replace(known, value=sample.value, annotations=annotations, missing_since=None)

    def _missed(self, alert: Alert, now: Instant) -> Alert:
        if alert.state is AlertState.FIRING and alert.missing_since is None:
            return replace(alert, missing_since=now)
        return alert

    def _events_held(self, alert: Alert, now: Instant) -> list[AlertEvent]:
        events = []
        since = alert.active_at
        if alert.state in (AlertState.INACTIVE, AlertState.RESOLVED):
            events.append(AlertEvent.HOLDS)
            since = now
        if alert.state is not AlertState.FIRING and _between_s(since, now) >= self.rule.for_s:
            events.append(AlertEvent.HELD)
        return events

    def _events_missing(self, alert: Alert, now: Instant) -> list[AlertEvent]:
        if alert.resolved_at is not None:
            expired = _between_s(alert.resolved_at, now) > RESOLVED_KEPT_S
            return [AlertEvent.FORGOTTEN] if expired else []
        if alert.missing_since is not None:
            kept = _between_s(alert.missing_since, now) < self.rule.keep_firing_for_s
            return [] if kept else [AlertEvent.GONE]
        return [AlertEvent.GONE]

    def _walk(self, alert: Alert, events: list[AlertEvent], now: Instant) -> list[Transition]:
        transitions = []
        for event in events:
            transitions.append(step(alert, event, now))
            alert = transitions[-1].alert
        if alert.state is AlertState.INACTIVE:
            self._alerts.pop(alert.labels, None)
        else:
            self._alerts[alert.labels] = alert
        return transitions

    def _forget_oldest(self, now: Instant) -> list[Transition]:
        resolved = [a for a in self._alerts.values() if a.state is AlertState.RESOLVED]
        excess = len(resolved) - MAX_RESOLVED
        if excess <= 0:
            return []
        oldest = sorted(resolved, key=lambda alert: alert.resolved_at or NEVER)[:excess]
        return [t for a in oldest for t in self._walk(a, [AlertEvent.FORGOTTEN], now)]


def _between_s(since: Instant, now: Instant) -> float:
    """Seconds from one moment to a later one, however the wall clock was set between them."""
    return now.monotonic_s - since.monotonic_s
