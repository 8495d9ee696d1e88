"""Alerts as texts that outlive the process, and back.

Without them a restart would begin each ``for`` anew, and people who were told that an alert fires
would never hear that it ended. What was pending goes on from where it stood when it was last seen:
the time in which nothing was evaluated counts as nothing.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from heatshield.clock import Instant
from heatshield_alerts.rules.state import Alert, AlertState
from heatshield_alerts.series import Labels

__all__ = ["OUTAGE_S", "SEEN_EVERY_S", "alert_key", "alert_text", "group_of", "read_alert"]

SEEN_EVERY_S: Final = 10.0
"""Seconds after which a pending alert is written down again: how much of a ``for`` a crash costs at
most."""

OUTAGE_S: Final = 3_600.0
"""An alert that was pending before a longer outage begins anew: nothing says that it held
meanwhile. Prometheus bears an hour, too."""

_NS: Final = 10**9


def alert_key(group: str, labels: Labels) -> str:
    """What tells an alert from all others."""
    return json.dumps([group, dict(labels.pairs)])


def group_of(key: str) -> str:
    """The group of an alert, by its key."""
    return str(json.loads(key)[0])


def alert_text(alert: Alert, now: Instant) -> str:
    """An alert as it is kept; the moments of the wall clock, which goes on between processes."""
    return json.dumps(
        {
            "rule": alert.rule,
            "labels": dict(alert.labels),
            "annotations": dict(alert.annotations),
            "state": alert.state.value,
            "value": alert.value,
            "active_ns": alert.active_at.epoch_ns,
            "fired_ns": alert.fired_at and alert.fired_at.epoch_ns,
            "resolved_ns": alert.resolved_at and alert.resolved_at.epoch_ns,
            "seen_ns": now.epoch_ns,
        }
    )


def read_alert(text: str, now: Instant) -> Alert | None:
    """A kept alert in this process' time; ``None`` if it can't be read or was pending too long ago.

    A moment that the wall clock, having been set back, shows as yet to come is taken for now.
    """
    try:
        said: Mapping[str, Any] = json.loads(text)
        state = AlertState(said["state"])
        active_ns, outage_ns = said["active_ns"], max(0, now.epoch_ns - said["seen_ns"])
        if state is AlertState.PENDING:
            if outage_ns > OUTAGE_S * _NS:
                return None
            active_ns += outage_ns
        return Alert(
            rule=said["rule"],
            labels=Labels(said["labels"]),
            state=state,
            value=float(said["value"]),
            annotations=dict(said["annotations"]),
            active_at=_instant(active_ns, now),
            fired_at=_instant(said["fired_ns"], now) if said["fired_ns"] else None,
            resolved_at=_instant(said["resolved_ns"], now) if said["resolved_ns"] else None,
        )
    except (ValueError, KeyError, TypeError):
        return None


def _instant(epoch_ns: int, now: Instant) -> Instant:
    ago_ns = max(0, now.epoch_ns - epoch_ns)
    return Instant(now.monotonic_s - ago_ns / _NS, now.epoch_ns - ago_ns)
