"""The life of an alert: a table, and the machine that walks it.

Theory of operation
===================

An alert is one instance of a rule: one set of labels that the rule's expression returned. Each
evaluation hands the machine the labels that the expression holds for *now*, and the moment; from
these two it derives one event for each alert it knows, and the table says the next state. There
is nothing else: no timer, no clock, no callback.

- ``HOLDS``: the expression returns these labels.
- ``HELD``: it has done so for the rule's ``for``, without a gap. A rule without ``for`` sees
  ``HOLDS`` and ``HELD`` in the same evaluation; the alert walks through pending all the same, so
  every alert that ever fired was pending before.
- ``GONE``: it does not return them. A firing alert hears this only after ``keep_firing_for``
  without them, so a value that flickers does not make it flap.
- ``FORGOTTEN``: it has been resolved for :data:`RESOLVED_KEPT_S` (people look it up, and a
  notification that failed can still be sent).

``INACTIVE`` is the state of everything not in memory: an alert that reaches it is dropped. There
is no way from pending to resolved, because people were not told that it fired; and none from
resolved to firing, because a new outbreak must hold for its ``for`` again.

A pair that is not in the table is no quiet no-op but an error of the caller; :func:`step` raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from heatshield.clock import Instant
from heatshield_alerts.outcome import Outcome
from heatshield_alerts.series import Labels

__all__ = ["RESOLVED_KEPT_S", "TRANSITIONS", "Alert", "AlertEvent", "AlertState", "Transition"]

RESOLVED_KEPT_S: Final = 15 * 60.0
"""Seconds a resolved alert stays visible; Prometheus keeps it as long."""


NEVER: Final = Instant(0.0, 0)
"""Since when an alert holds that never did."""


class AlertState(StrEnum):
    """Where an alert stands."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class AlertEvent(StrEnum):
    """What an evaluation says of an alert."""

    HOLDS = "holds"
    HELD = "held"
    GONE = "gone"
    FORGOTTEN = "forgotten"


TRANSITIONS: Final[Mapping[AlertState, Mapping[AlertEvent, AlertState]]] = {
    AlertState.INACTIVE: {AlertEvent.HOLDS: AlertState.PENDING},
    AlertState.PENDING: {
        AlertEvent.HELD: AlertState.FIRING,
        AlertEvent.GONE: AlertState.INACTIVE,
    },
    AlertState.FIRING: {AlertEvent.GONE: AlertState.RESOLVED},
    AlertState.RESOLVED: {
        AlertEvent.HOLDS: AlertState.PENDING,
        AlertEvent.FORGOTTEN: AlertState.INACTIVE,
    },
}


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert at one time.

    Its times are moments of evaluations, on both axes: durations are measured on the clock that
    never goes back, and people read what the wall clock showed.

    Attributes:
        rule: the rule's name, also the label ``alertname``.
        labels: its identity.
        state: where it stands.
        value: of the expression when it last held.
        annotations: as rendered when it last held.
        active_at: since when it holds, or held last.
        fired_at: when it last began to fire.
        resolved_at: when it last stopped.
        outcome: while it fires, what is done about its user; ``None``: nothing is asked for.
        missing_since: while it is kept firing: when the expression stopped to return it.
    """

    rule: str
    labels: Labels
    state: AlertState
    value: float
    annotations: Mapping[str, str] = field(default_factory=dict)
    active_at: Instant = NEVER
    fired_at: Instant | None = None
    resolved_at: Instant | None = None
    missing_since: Instant | None = None
    outcome: Outcome | None = None

    def to_json(self) -> dict[str, Any]:
        """As ``/api/alerts`` shows it; times in nanoseconds since the Unix epoch."""

        def at_ns(at: Instant | None) -> int | None:
            return None if at is None else at.epoch_ns

        return {
            "name": self.rule,
            "state": self.state.value,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "value": self.value,
            "active_at_ns": at_ns(self.active_at),
            "fired_at_ns": at_ns(self.fired_at),
            "resolved_at_ns": at_ns(self.resolved_at),
            "done": self.outcome.text if self.outcome else "",
        }


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of one alert.

    Attributes:
        alert: as it is after the step.
        before: the state it came from.
        event: what moved it.
        at: when.
    """

    alert: Alert
    before: AlertState
    event: AlertEvent
    at: Instant


def step(alert: Alert, event: AlertEvent, at: Instant) -> Transition:
    """Move an alert along the table.

    Raises:
        KeyError: if the table has no such step.
    """
    state = TRANSITIONS[alert.state][event]
    moved = replace(alert, state=state)
    if state is AlertState.PENDING:
        moved = replace(moved, active_at=at, fired_at=None, resolved_at=None)
    elif state is AlertState.FIRING:
        moved = replace(moved, fired_at=at)
    elif state is AlertState.RESOLVED:
        moved = replace(moved, resolved_at=at, missing_since=None)
    return Transition(moved, alert.state, event, at)
