"""All rules over time: each group when it is due, each rule on its own.

Expressions are evaluated at the wall clock's time, as a store has its series; intervals, ``for``
and ``keep_firing_for`` are measured on the clock that never goes back. So a jump of the wall clock
neither fires nor resolves an alert.

A rule that fails keeps its alerts as they were for a while (:data:`.track.UNEVALUATED_KEPT_S`), but
they don't act: only what this round found does. The failure is reported and the other rules go on.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from heatshield.clock import Instant
from heatshield_alerts.promql.evaluate import Evaluator
from heatshield_alerts.rules.kept import (
    SEEN_EVERY_S,
    alert_key,
    alert_text,
    group_of,
    read_alert,
)
from heatshield_alerts.rules.load import RuleGroup
from heatshield_alerts.rules.state import NEVER, Alert, AlertState, Transition
from heatshield_alerts.rules.track import RuleTracker
from heatshield_alerts.series import SeriesSource

__all__ = ["Evaluation", "RuleFailure", "RuleRunner"]


@dataclass(frozen=True, slots=True)
class RuleFailure:
    """A rule that could not be evaluated, or not whole, the last time it was due.

    Attributes:
        group: the rule's group.
        rule: its name.
        error: what was wrong.
        since: when it began to fail, without a success in between.
    """

    group: str
    rule: str
    error: str
    since: Instant = NEVER


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one round did.

    Attributes:
        transitions: steps of alerts.
        failures: rules that failed in this round.
        acting: alerts that fire by what this round evaluated: they alone may act on breakers.
        kept: what to keep for :meth:`RuleRunner.restore`, by key; ``None``: no longer anything.
    """

    transitions: tuple[Transition, ...] = ()
    failures: tuple[RuleFailure, ...] = ()
    acting: tuple[Alert, ...] = ()
    kept: Mapping[str, str | None] = field(default_factory=dict)


class RuleRunner:
    """Evaluates the groups that are due.

    Args:
        groups: from :func:`~heatshield_alerts.rules.load.load_file`, of one file or several.
        evaluator: with its limits.
    """

    def __init__(self, groups: Iterable[RuleGroup], evaluator: Evaluator | None = None) -> None:
        self._evaluator = evaluator or Evaluator()
        self._groups = [
            _Group(group, [RuleTracker(rule) for rule in group.rules]) for group in groups
        ]
        self._failing: dict[RuleTracker, RuleFailure] = {}
        self._seen_s = -math.inf

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """All pending, firing and lately resolved alerts."""
        return tuple(
            alert for row in self._groups for tracker in row.trackers for alert in tracker.alerts
        )

    @property
    def firing(self) -> tuple[Alert, ...]:
        """The alerts that fire."""
        return tuple(alert for alert in self.alerts if alert.state is AlertState.FIRING)

    @property
    def failing(self) -> tuple[RuleFailure, ...]:
        """The rules that failed the last time they were due."""
        return tuple(self._failing.values())

    @property
    def working(self) -> frozenset[str]:
        """The names of the rules that did not fail the last time they were due; where rules share
        a name, none of them did.
        """
        known = {tracker.rule.name for row in self._groups for tracker in row.trackers}
        return frozenset(known - {tracker.rule.name for tracker in self._failing})

    def evaluate(self, source: SeriesSource, now: Instant, *, early: bool = False) -> Evaluation:
        """Evaluate the groups whose interval has passed.

        Args:
            source: has the series.
            now: the moment of this round.
            early: evaluate every group now, because something happened; their next regular
                evaluations stay where they are.
        """
        transitions: list[Transition] = []
        failures: list[RuleFailure] = []
        acting: list[Alert] = []
        kept: dict[str, str | None] = {}
        for row in self._groups:
            if not row.is_due(now.monotonic_s) and not early:
                continue
            for tracker in row.trackers:
                before = len(transitions)
                try:
                    rows = self._evaluator.vector(
                        tracker.rule.expression, source, now.epoch_ns / 1e9
                    )
                    transitions += tracker.evaluate(rows, now)
                    acting += [one for one in tracker.alerts if one.state is AlertState.FIRING]
                except Exception as error:  # noqa: BLE001 - whatever one rule meets, the others go on
                    transitions += tracker.fail(str(error) or type(error).__name__, now)
                failures += self._failure(row.group.name, tracker, now)
                for moved in transitions[before:]:
                    kept[alert_key(row.group.name, moved.alert.labels)] = _kept(moved.alert, now)
        kept |= self._pending_again(now)
        return Evaluation(tuple(transitions), tuple(failures), tuple(acting), kept)

    def restore(self, kept: Mapping[str, str], now: Instant) -> tuple[list[Alert], list[str]]:
        """Go on with what :attr:`Evaluation.kept` said last; before the first evaluation.

        Returns:
            The alerts that go on, and the keys of those that don't: their rule is gone, they can't
            be read, or they were pending too long ago.
        """
        restored, gone = [], []
        for key, text in kept.items():
            alert = read_alert(text, now)
            tracker = None if alert is None else self._tracker_of(group_of(key), alert)
            if alert is None or tracker is None:
                gone.append(key)
                continue
            tracker.restore(alert, now)
            restored.append(alert)
        return restored, gone

    def _tracker_of(self, group: str, alert: Alert) -> RuleTracker | None:
        trackers = (one for row in self._groups if row.group.name == group for one in row.trackers)
        return next((one for one in trackers if one.accepts(alert)), None)

    def _pending_again(self, now: Instant) -> dict[str, str | None]:
        """Every few seconds, the pending alerts as they are."""
        if now.monotonic_s - self._seen_s < SEEN_EVERY_S:
            return {}
        self._seen_s = now.monotonic_s
        return {
            alert_key(row.group.name, alert.labels): _kept(alert, now)
            for row in self._groups
            for tracker in row.trackers
            for alert in tracker.alerts
            if alert.state is AlertState.PENDING
        }

    def _failure(self, group: str, tracker: RuleTracker, now: Instant) -> list[RuleFailure]:
        """What this evaluation of a rule says of its health, and remembers of it."""
        before = self._failing.pop(tracker, None)
        if not tracker.problem:
            return []
        since = before.since if before else now
        self._failing[tracker] = RuleFailure(group, tracker.rule.name, tracker.problem, since)
        return [self._failing[tracker]]


def _kept(alert: Alert, now: Instant) -> str | None:
    return None if alert.state is AlertState.INACTIVE else alert_text(alert, now)


@dataclass(slots=True)
class _Group:
    group: RuleGroup
    trackers: list[RuleTracker]
    due_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Whether the interval has passed; a round that is late does not shift the next ones."""
        interval_s = self.group.interval_s
        if self.due_s is None:
            self.due_s = now_s
        if now_s < self.due_s:
            return False
        missed = int((now_s - self.due_s) / interval_s)
        self.due_s += (missed + 1) * interval_s
        return True
