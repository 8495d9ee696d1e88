"""The life of an alert: a table, and the machine that walks it.

Theory of operation
===================

An alert is one instance of a rule: one set of labels that the rule's expression returned. Each
evaluation hands the machine the labels that the expression holds for *now*, and a time; from
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
is no way from pending to resolved, because nobody was told that it fired; and none from resolved
to firing, because a new outbreak must hold for its ``for`` again.

A pair that is not in the table is no quiet no-op but an error of the caller; :func:`step` raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from heatshield_alerts.series import Labels

__all__ = ["RESOLVED_KEPT_S", "TRANSITIONS", "Alert", "AlertEvent", "AlertState", "Transition"]

RESOLVED_KEPT_S: Final = 15 * 60.0
"""Seconds a resolved alert stays visible; Prometheus keeps it as long."""


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
    """One alert at one time. Times are the evaluations', in seconds.

    Attributes:
        rule: the rule's name, also the label ``alertname``.
        labels: its identity.
        state: where it stands.
        value: of the expression when it last held.
        annotations: as rendered when it last held.
        active_at_s: since when it holds, or held last.
        fired_at_s: when it last began to fire.
        resolved_at_s: when it last stopped.
        missing_since_s: while it is kept firing: when the expression stopped to return it.
    """

    rule: str
    labels: Labels
    state: AlertState
    value: float
    annotations: Mapping[str, str] = field(default_factory=dict)
    active_at_s: float = 0.0
    fired_at_s: float | None = None
    resolved_at_s: float | None = None
    missing_since_s: float | None = None

    def to_json(self, offset_ns: int = 0) -> dict[str, Any]:
        """As ``/api/alerts`` shows it.

        Args:
            offset_ns: the wall clock minus the evaluations' clock: nanoseconds since the Unix
                epoch when the latter showed 0.
        """

        def at_ns(at_s: float | None) -> int | None:
            return None if at_s is None else round(at_s * 1e9) + offset_ns

        return {
            "name": self.rule,
            "state": self.state.value,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "value": self.value,
            "active_at_ns": at_ns(self.active_at_s),
            "fired_at_ns": at_ns(self.fired_at_s),
            "resolved_at_ns": at_ns(self.resolved_at_s),
        }


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of one alert.

    Attributes:
        alert: as it is after the step.
        before: the state it came from.
        event: what moved it.
        at_s: when.
    """

    alert: Alert
    before: AlertState
    event: AlertEvent
    at_s: float


def step(alert: Alert, event: AlertEvent, at_s: float) -> Transition:
    """Move an alert along the table.

    Raises:
        KeyError: if the table has no such step.
    """
    state = TRANSITIONS[alert.state][event]
    times: dict[str, Any] = {}
    if state is AlertState.PENDING:
        times = {"active_at_s": at_s, "fired_at_s": None, "resolved_at_s": None}
    elif state is AlertState.FIRING:
        times = {"fired_at_s": at_s}
    elif state is AlertState.RESOLVED:
        times = {"resolved_at_s": at_s, "missing_since_s": None}
    return Transition(replace(alert, state=state, **times), alert.state, event, at_s)
