"""What travels through the stages of a notification."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from heatshield_alerts.outcome import OutcomeKind
from heatshield_alerts.rules.state import Alert, AlertState

__all__ = ["Message", "Notice", "Stage", "Status"]


class Status(StrEnum):
    """What people are told of an alert. They are not told that it is pending."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Message:
    """Plain text for people."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Notice:
    """One alert on its way to one target.

    Attributes:
        alert: as it was when the notice was made.
        status: what to tell.
        trace_ids: requests that show it, hexadecimal.
        message: once it is rendered.
    """

    alert: Alert
    status: Status
    trace_ids: tuple[str, ...] = ()
    message: Message | None = None

    @property
    def done(self) -> OutcomeKind | None:
        """What is done about the alert's user; ``None``: nothing is asked for."""
        return self.alert.outcome.kind if self.alert.outcome else None

    @classmethod
    def of(cls, alert: Alert, trace_ids: tuple[str, ...] = ()) -> "Notice | None":
        """The notice of an alert; ``None`` in a state that no target is told of."""
        if alert.state in (AlertState.FIRING, AlertState.RESOLVED):
            return cls(alert, Status(alert.state.value), trace_ids)
        return None


class Stage(Protocol):
    """One step of the way."""

    def run(self, notice: Notice) -> Notice | None:
        """Pass the notice on, changed or not; ``None`` ends its way.

        Raises:
            DeliveryError: when it could not be delivered.
        """
        ...
