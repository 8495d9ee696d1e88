"""What control tells of what it does, as protocols: none of them may block or fail a round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from heatshield.call_key import CallKey
from heatshield_alerts.restart import HeldEntry
from heatshield_alerts.rules import Alert

__all__ = ["Notifies", "Outlets", "Publishes", "Writes"]


class Writes(Protocol):
    """Takes rows of journals."""

    def write(self, table: str, row: Mapping[str, Any]) -> None:
        """Keep a row of ``findings``, ``alerts`` or ``audit``."""
        ...

    def hold(self, key: CallKey, entry: HeldEntry) -> None:
        """Keep since when an entry is held."""
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
    """

    journal: Writes
    events: Publishes
    notifier: Notifies
