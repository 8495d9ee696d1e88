"""The series that rules, /metrics and dashboards read: bounded top-k of what detection knows."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Final

from heatshield import names
from heatshield_alerts.matchers import Matcher
from heatshield_alerts.rules import Alert, AlertState, RuleFailure
from heatshield_alerts.series import InstantSamples, Sample, Series
from heatshield_collector.control.breakers import Breakers
from heatshield_collector.control.finding_book import gravity
from heatshield_collector.detect import COSTS, WINDOWS_S, Finding, Load, Loads

__all__ = [
    "NAMELESS",
    "TOP",
    "LiveSeries",
    "alert_samples",
    "breaker_samples",
    "call_load_samples",
    "capacity_samples",
    "failing_samples",
    "finding_samples",
    "held_samples",
    "user_load_samples",
]

TOP: Final = 20
"""Users, and calls, with series of their own for each cost and window."""

FINDINGS_MOST: Final = 200
"""Findings with a series of their own. Rules may cut no more users at once than that."""

NAMELESS: Final = "unknown"
"""How ``/metrics`` and answers show loads without a user. Rules see them without the label: a user
may bear this name, and what is charged to no user must not be that user's."""


class LiveSeries:
    """The series of one moment, for rules and ``/metrics``: only those asked for are made.

    Loads over minutes are merged from many sketches, which is too dear to do for nothing four
    times a second. Implements :class:`heatshield_alerts.series.SeriesSource`, with no history:
    whatever the time of a question, the answer is that of this moment.

    Args:
        makers: makes the samples of a series, by its name.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Iterable[Sample]]]) -> None:
        self._makers = makers

    def all(self) -> Iterator[Sample]:
        """Every sample of every series."""
        for make in self._makers.values():
            yield from make()

    def select(self, name: str | None, matchers: Sequence[Matcher], at: float) -> Iterable[Sample]:
        """The samples that all matchers accept."""
        return self._made(name).select(name, matchers, at)

    def select_range(
        self, name: str | None, matchers: Sequence[Matcher], start: float, end: float
    ) -> Iterable[Series]:
        """The same samples, as series of one point at the end of the range."""
        return self._made(name).select_range(name, matchers, start, end)

    def _made(self, name: str | None) -> InstantSamples:
        if name is None:
            return InstantSamples(self.all())
        make = self._makers.get(name)
        return InstantSamples(make() if make else ())


def finding_samples(findings: Iterable[Finding], nameless: str = "") -> Iterator[Sample]:
    """One sample for each of the gravest findings; its value is the load.

    Args:
        findings: what detectors say at this moment.
        nameless: the label ``user`` of findings without a user; empty: they have none.
    """
    gravest = sorted(findings, key=lambda one: (gravity(one), one.load), reverse=True)
    for one in gravest[:FINDINGS_MOST]:
        labels = {
            "class": one.klass,
            "user": nameless if one.key.user is None else one.key.user,
            "service": one.key.service,
            "call": one.key.call,
            "cost": one.cost,
            "window": one.window,
            "action": one.action,
            "resource": one.resource,
        }
        yield Sample.of(names.FINDING, labels, one.load)


def user_load_samples(loads: Loads, now_s: float, nameless: str = "") -> Iterator[Sample]:
    """Loads of the top users on a call, by every cost and window.

    Args:
        loads: of users and calls.
        now_s: monotonic seconds.
        nameless: the label ``user`` of loads without a user; empty: they have none.
    """
    for window, cost in product(WINDOWS_S, COSTS):
        for labels, lower in _by_labels(loads.top(cost, window, TOP, now_s), nameless):
            yield Sample.of(names.USER_LOAD, {**labels, "cost": cost, "window": window}, lower)


def _by_labels(loads: Iterable[Load], nameless: str) -> Iterator[tuple[dict[str, str], float]]:
    """Labels and lower bound of each load; charges of no user and a user called ``unknown`` have
    the same labels, so they make one series.
    """
    lower: dict[tuple[str, str, str], float] = {}
    for load in loads:
        key = (
            nameless if load.key.user is None else load.key.user,
            load.key.service,
            load.key.call,
        )
        lower[key] = lower.get(key, 0.0) + load.lower
    for (user, service, call), value in lower.items():
        yield {"user": user, "service": service, "call": call}, value


def call_load_samples(loads: Loads, now_s: float) -> Iterator[Sample]:
    """Loads of the busiest calls, by every cost and window."""
    for window in WINDOWS_S:
        for service, call, by_cost in loads.calls(window, TOP, now_s):
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
    for (rule, state), count in sorted(counts.items()):
        yield Sample.of(names.ALERTS, {"alertname": rule, "alertstate": state}, count)


def failing_samples(failing: Iterable[RuleFailure]) -> Iterator[Sample]:
    """One sample a rule that fails; rules of one group may share a name."""
    for group, rule in dict.fromkeys((one.group, one.rule) for one in failing):
        yield Sample.of(names.RULE_FAILING, {"group": group, "rule": rule}, 1.0)


def breaker_samples(breakers: Breakers) -> Iterator[Sample]:
    """How many entries are held."""
    held = Counter((state, entry.mode.value) for _, state, entry in breakers.held())
    for (state, mode), count in sorted(held.items()):
        yield Sample.of(names.BREAKERS, {"state": state, "mode": mode}, count)


def held_samples(breakers: Breakers) -> Iterator[Sample]:
    """Each entry that is held, with whom and what it is about."""
    for _, state, entry in breakers.held():
        about = {"user": entry.user, "service": entry.service, "call": entry.call}
        yield Sample.of(names.BREAKER_HELD, about | {"state": state, "mode": entry.mode.value}, 1)


def capacity_samples(capacities: Mapping[str, float]) -> Iterator[Sample]:
    """The workers that a service's live instances report."""
    for service, workers in capacities.items():
        yield Sample.of(names.SERVICE_CAPACITY, {"service": service}, workers)
