"""One rule over time: a vector in, transitions out."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from heatshield_alerts.promql.expression import EvaluationError
from heatshield_alerts.rules.load import AlertRule
from heatshield_alerts.rules.state import (
    RESOLVED_KEPT_S,
    Alert,
    AlertEvent,
    AlertState,
    Transition,
    step,
)
from heatshield_alerts.series import METRIC_NAME, Labels, Sample

__all__ = ["ALERT_NAME", "MAX_RESOLVED", "RuleTracker"]

ALERT_NAME: Final = "alertname"
"""The label that carries the rule's name."""

MAX_RESOLVED: Final = 1_000
"""Resolved alerts a rule keeps at most, the newest. Over users that come and go, the time alone
bounds nothing."""


class RuleTracker:
    """The alerts of one rule.

    Args:
        rule: the rule.
    """

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule
        self._alerts: dict[Labels, Alert] = {}

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Pending, firing and lately resolved."""
        return tuple(self._alerts.values())

    def evaluate(self, vector: Iterable[Sample], at_s: float) -> list[Transition]:
        """Take in what the expression returned at ``at_s``.

        Raises:
            EvaluationError: if two series make one alert, or there are more than the rule's limit;
                then nothing has changed.
        """
        current = self._current(vector)
        transitions: list[Transition] = []
        for labels, sample in current.items():
            alert = self._seen(labels, sample)
            transitions += self._walk(alert, self._events_held(alert, at_s), at_s)
        for labels in self._alerts.keys() - current.keys():
            alert = self._missed(self._alerts[labels], at_s)
            transitions += self._walk(alert, self._events_missing(alert, at_s), at_s)
        transitions += self._forget_oldest(at_s)
        return transitions

    def _current(self, vector: Iterable[Sample]) -> Mapping[Labels, Sample]:
        """The vector by the labels its alerts have."""
        current: dict[Labels, Sample] = {}
        for sample in vector:
            own = {
                name: template.render(sample.labels, sample.value)
                for name, template in self.rule.labels.items()
            }
            bare = sample.labels.drop(METRIC_NAME)
            labels = bare.updated({**own, ALERT_NAME: self.rule.name})
            if labels in current:
                raise EvaluationError(f"two series make one alert: {labels}")
            current[labels] = sample
        if self.rule.limit and len(current) > self.rule.limit:
            raise EvaluationError(f"{len(current)} alerts, limit is {self.rule.limit}")
        return current

    def _seen(self, labels: Labels, sample: Sample) -> Alert:
        """The alert as it is now that the expression returns it, before any step."""
        annotations = {
            name: template.render(sample.labels, sample.value)
            for name, template in self.rule.annotations.items()
        }
        known = self._alerts.get(labels)
        if known is None:
            return Alert(self.rule.name, labels, AlertState.INACTIVE, sample.value, annotations)
        return replace(known, value=sample.value, annotations=annotations, missing_since_s=None)

    def _missed(self, alert: Alert, at_s: float) -> Alert:
        if alert.state is AlertState.FIRING and alert.missing_since_s is None:
            return replace(alert, missing_since_s=at_s)
        return alert

    def _events_held(self, alert: Alert, at_s: float) -> list[AlertEvent]:
        events = []
        since_s = alert.active_at_s
        if alert.state in (AlertState.INACTIVE, AlertState.RESOLVED):
            events.append(AlertEvent.HOLDS)
            since_s = at_s
        if alert.state is not AlertState.FIRING and at_s - since_s >= self.rule.for_s:
            events.append(AlertEvent.HELD)
        return events

    def _events_missing(self, alert: Alert, at_s: float) -> list[AlertEvent]:
        if alert.state is AlertState.RESOLVED:
            expired = at_s - (alert.resolved_at_s or 0.0) > RESOLVED_KEPT_S
            return [AlertEvent.FORGOTTEN] if expired else []
        if alert.missing_since_s is not None:
            kept = at_s - alert.missing_since_s < self.rule.keep_firing_for_s
            return [] if kept else [AlertEvent.GONE]
        return [AlertEvent.GONE]

    def _walk(self, alert: Alert, events: list[AlertEvent], at_s: float) -> list[Transition]:
        transitions = []
        for event in events:
            transitions.append(step(alert, event, at_s))
            alert = transitions[-1].alert
        if alert.state is AlertState.INACTIVE:
            self._alerts.pop(alert.labels, None)
        else:
            self._alerts[alert.labels] = alert
        return transitions

    def _forget_oldest(self, at_s: float) -> list[Transition]:
        resolved = [a for a in self._alerts.values() if a.state is AlertState.RESOLVED]
        excess = len(resolved) - MAX_RESOLVED
        if excess <= 0:
            return []
        oldest = sorted(resolved, key=lambda alert: alert.resolved_at_s or 0.0)[:excess]
        return [t for a in oldest for t in self._walk(a, [AlertEvent.FORGOTTEN], at_s)]
