"""All rules over time: each group when it is due, each rule on its own.

A rule whose expression fails keeps its alerts as they were; the failure is reported and the
other rules go on.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from heatshield_alerts.promql.evaluate import Evaluator
from heatshield_alerts.promql.expression import EvaluationError
from heatshield_alerts.rules.load import RuleGroup
from heatshield_alerts.rules.state import Alert, AlertState, Transition
from heatshield_alerts.rules.track import RuleTracker
from heatshield_alerts.series import InstantSource

__all__ = ["Evaluation", "RuleFailure", "RuleRunner"]


@dataclass(frozen=True, slots=True)
class RuleFailure:
    """A rule that could not be evaluated this time."""

    group: str
    rule: str
    error: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one round did."""

    transitions: tuple[Transition, ...] = ()
    failures: tuple[RuleFailure, ...] = ()


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

    @property
    def interval_s(self) -> float:
        """Seconds between rounds that serve every group: the shortest interval."""
        return min((row.group.interval_s for row in self._groups), default=1.0)

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

    def evaluate(self, source: InstantSource, at_s: float, *, early: bool = False) -> Evaluation:
        """Evaluate the groups whose interval has passed.

        Args:
            source: the samples of this instant.
            at_s: seconds on a clock that never goes back.
            early: evaluate every group now, because something happened; their next regular
                evaluations stay where they are.
        """
        transitions: list[Transition] = []
        failures: list[RuleFailure] = []
        for row in self._groups:
            if not row.is_due(at_s) and not early:
                continue
            for tracker in row.trackers:
                try:
                    rows = self._evaluator.vector(tracker.rule.expression, source, at_s)
                    transitions += tracker.evaluate(rows, at_s)
                except EvaluationError as error:
                    failures.append(RuleFailure(row.group.name, tracker.rule.name, str(error)))
        return Evaluation(tuple(transitions), tuple(failures))


@dataclass(slots=True)
class _Group:
    group: RuleGroup
    trackers: list[RuleTracker]
    due_s: float | None = None

    def is_due(self, at_s: float) -> bool:
        """Whether the interval has passed; a round that is late does not shift the next ones."""
        interval_s = self.group.interval_s
        if self.due_s is None:
            self.due_s = at_s
        if at_s < self.due_s:
            return False
        missed = int((at_s - self.due_s) / interval_s)
        self.due_s += (missed + 1) * interval_s
        return True
