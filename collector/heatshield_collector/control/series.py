"""The series that rules, /metrics and dashboards read: bounded top-k of what detection knows."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final

from heatshield import names
from heatshield_alerts.rules import Alert, AlertState
from heatshield_alerts.series import Sample
from heatshield_collector.control.breakers import Breakers
from heatshield_collector.detect import COSTS, WINDOWS_S, Detector, Finding

__all__ = [
    "TOP",
    "alert_samples",
    "breaker_samples",
    "call_load_samples",
    "capacity_samples",
    "finding_samples",
    "user_load_samples",
]

TOP: Final = 20
"""Users, and calls, with series of their own for each cost and window."""


def finding_samples(findings: Iterable[Finding]) -> Iterator[Sample]:
    """One sample a finding; its value is the load."""
    for one in findings:
        labels = {
            "class": one.klass,
            "user": one.key.user,
            "service": one.key.service,
            "call": one.key.call,
            "cost": one.cost,
            "window": one.window,
        }
        yield Sample.of(names.FINDING, labels, one.load)


def user_load_samples(detector: Detector, now_s: float) -> Iterator[Sample]:
    """Loads of the top users on a call, by every cost and window."""
    for window, cost in product(WINDOWS_S, COSTS):
        for load in detector.top(cost, window, TOP, now_s):
            labels = {"user": load.key.user, "service": load.key.service, "call": load.key.call}
            yield Sample.of(names.USER_LOAD, {**labels, "cost": cost, "window": window}, load.lower)


def call_load_samples(detector: Detector, now_s: float) -> Iterator[Sample]:
    """Loads of the busiest calls, by every cost and window."""
    for window in WINDOWS_S:
        for service, call, by_cost in detector.calls(window, TOP, now_s):
            for cost, value in by_cost.items():
                labels = {"service": service, "call": call, "cost": cost, "window": window}
                yield Sample.of(names.CALL_LOAD, labels, value)


def alert_samples(alerts: Iterable[Alert]) -> Iterator[Sample]:
    """How many alerts of each name are pending or firing."""
    counts = Counter(
        (alert.rule, alert.state.value)
        for alert in alerts
        if alert.state in (AlertState.PENDING, AlertState.FIRING)
    )
    for (rule, state), count in counts.items():
        yield Sample.of(names.ALERTS, {"alertname": rule, "alertstate": state}, count)


def breaker_samples(breakers: Breakers) -> Iterator[Sample]:
    """How many entries are held."""
    held = Counter((state, entry.mode.value) for _, state, entry in breakers.held())
    for (state, mode), count in held.items():
        yield Sample.of(names.BREAKERS, {"state": state, "mode": mode}, count)


def capacity_samples(breakers: Breakers) -> Iterator[Sample]:
    """The workers that a service's live instances report."""
    for service, workers in breakers.capacities().items():
        yield Sample.of(names.SERVICE_CAPACITY, {"service": service}, workers)
