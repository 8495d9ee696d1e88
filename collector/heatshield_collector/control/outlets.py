"""What control tells of what it does, as protocols: none of them may fail a round, or hold it up
for longer than a disk takes to keep what is held.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from heatshield_alerts.rules import Alert

__all__ = ["KeepsState", "Notifies", "Outlets", "Publishes", "Writes"]


KeepsState = Callable[[int, Mapping[str, Any]], None]
"""Told of (epoch, all that breakers hold, as JSON) before anyone else is told of a change."""


class Writes(Protocol):
    """Takes rows of journals."""

    def write(self, table: str, row: Mapping[str, Any]) -> None:
        """Keep a row of ``findings``, ``alerts`` or ``audit``."""
        ...

    def keep(self, kind: str, changed: Mapping[str, str | None]) -> None:
        """Keep texts by key for the next start; ``None``: no longer."""
        ...


class Publishes(Protocol):
    """Tells listeners of events."""

    def publish(self, name: str, data: Any) -> None:
        """Tell all that listen; ``data`` is a JSON object with ``at_ns``."""
        ...


class Notifies(Protocol):
    """Tells people of alerts."""

    def submit(self, alert: Alert, trace_ids: Sequence[str] = ()) -> None:
        """An alert went into another state."""
        ...


@dataclass(frozen=True, slots=True)
class Outlets:
    """All of them.

    Attributes:
        journal: keeps findings, alerts and the audit.
        events: tells pages and scripts what happens, as it happens.
        notifier: people.
        keep_state: keeps what breakers hold for a restart; ``None``: nothing outlives this process.
    """

    journal: Writes
    events: Publishes
    notifier: Notifies
    keep_state: KeepsState | None = None
