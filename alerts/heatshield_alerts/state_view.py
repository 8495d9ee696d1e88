"""The breaker state at one moment, for readers that must not wait for whoever changes it."""

from dataclasses import dataclass

from heatshield.call_key import CallKey
from heatshield.contract import BreakerEntry, Delta, Snapshot, StateVersion
from heatshield_alerts.breaker_changes import History

__all__ = ["StateView"]


@dataclass(frozen=True, slots=True)
class StateView:
    """What clients and people see at a version; no later change touches it.

    Attributes:
        state: for clients.
        held: (key, state, entry) of every breaker that is not closed.
        history: what led to it.
    """

    state: Snapshot
    held: tuple[tuple[CallKey, str, BreakerEntry], ...]
    history: History

    def delta_since(self, base: StateVersion) -> Delta | None:
        """What leads a client from ``base`` to this version.

        Returns:
            ``None`` when nothing does (another epoch, too long ago, ``base`` is not in the past):
            send :attr:`state`, or nothing at all if ``base`` is its version.
        """
        at, mode, limits = self.state.at, self.state.mode, self.state.limits
        entries = {entry.id: entry for entry in self.state.entries}
        return self.history.delta(base, at, mode, entries, limits)
