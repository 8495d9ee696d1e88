"""What really happened, written down beside the machines, for the invariants to compare with.

Nothing here is read by a machine. Times are monotonic seconds of the one true clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from heatshield.call_key import CallKey
from heatshield.contract import BreakerEntry, BreakerMode, PlatformMode, StateVersion
from heatshield_alerts import restraint
from heatshield_alerts.breaker_changes import Change, ChangeKind
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.breaker_states import BreakerEvent, BreakerState
from heatshield_alerts.draft import Reason

__all__ = ["Ledger", "Probe", "Said", "content"]

PROBE_WINDOW_S = 1.0
REMEMBERED_S = 700.0

_ENDS = (BreakerEvent.CLEARED, BreakerEvent.LAPSED, BreakerEvent.DISPLACED)

Content = tuple[Any, ...]
Said = tuple[PlatformMode, frozenset[Content]]


@dataclass(frozen=True, slots=True)
class Probe:
    """A call that half-open let through."""

    at_s: float
    key: CallKey
    client: int
    quota_per_s: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """Values; each note makes a new one.

    Attributes:
        said: what the server's state was at each of its versions.
        granted_s: by (key, mode), the last moment at which the server granted it.
        answered_s: by client, when the last request was sent that was ever answered.
        cleared_s: by key, when a person cleared it.
        moves: by key, when its state changed.
        ended_s: by key, when something but its demand ended its entry, such as a person.
        let_be: keys that were left open for moving too often, though their demand alone moved them.
        opened_s: when new entries were made.
        paced_s: by key, since when it is held without its calls being refused.
        probes: of the last second.
        refused: by entry id, calls that clients refused.
        worked_s: the last round in which the rules worked.
        troubles: what changes broke by themselves.
    """

    said: dict[StateVersion, Said] = field(default_factory=dict)
    granted_s: dict[tuple[CallKey, BreakerMode], float] = field(default_factory=dict)
    answered_s: dict[int, float] = field(default_factory=dict)
    cleared_s: dict[CallKey, float] = field(default_factory=dict)
    moves: dict[CallKey, tuple[float, ...]] = field(default_factory=dict)
    ended_s: dict[CallKey, float] = field(default_factory=dict)
    let_be: tuple[str, ...] = ()
    opened_s: tuple[float, ...] = ()
    paced_s: dict[CallKey, float] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()
    refused: dict[str, int] = field(default_factory=dict)
    worked_s: float = 0.0
    troubles: tuple[str, ...] = ()

    def holding(self, control: BreakerControl, now: float) -> "Ledger":
        """The server holds what it holds at this moment."""
        granted = {(row.key, row.entry.mode): now for row in control.held}
        said = control.at not in self.said
        if not granted and not said:
            return self
        return replace(
            self,
            granted_s={**self.granted_s, **granted},
            said={**self.said, control.at: _said(control)} if said else self.said,
        )

    def changed(self, change: Change) -> "Ledger":
        """The server decided something."""
        if change.reason is Reason.FLAPPING and change.entry is not None:
            return self._let_be(change.entry.key, change.at_s)
        if not change.is_visible or change.entry is None:
            return self
        key, now = change.entry.key, change.at_s
        found = self
        if change.before is not change.after and change.kind is not ChangeKind.RESTORED:
            recent = [at for at in self.moves.get(key, ()) if now - at < REMEMBERED_S]
            found = replace(found, moves={**found.moves, key: (*recent, now)})
        is_new = change.before is BreakerState.CLOSED and change.kind is ChangeKind.OPENED
        if is_new:
            found = replace(found, opened_s=(*found.opened_s[-99:], now))
        if change.event is BreakerEvent.ESCALATED:
            found = found._escalated(key, now)
        elif change.entry.mode is BreakerMode.PACE and key not in found.paced_s:
            found = replace(found, paced_s={**found.paced_s, key: now})
        if change.event in _ENDS:
            found = found.interrupted([key], now)
        if change.kind is ChangeKind.CLEARED:
            found = replace(found, cleared_s={**found.cleared_s, key: now})
        if change.after is BreakerState.CLOSED or change.entry.mode is not BreakerMode.PACE:
            rest = {one: at for one, at in found.paced_s.items() if one != key}
            found = replace(found, paced_s=rest)
        return found

    def _let_be(self, key: CallKey, now: float) -> "Ledger":
        if now - self.ended_s.get(key, float("-inf")) <= restraint.MOVES_WINDOW_S:
            return self
        return replace(self, let_be=(*self.let_be, f"{key.user} is let be, who only flaps"))

    def interrupted(self, keys: Iterable[CallKey], now: float) -> "Ledger":
        """Something but their demand ended the entries of these keys, or their moves count anew."""
        return replace(self, ended_s={**self.ended_s, **dict.fromkeys(keys, now)})

    def _escalated(self, key: CallKey, now: float) -> "Ledger":
        paced_s = now - self.paced_s.get(key, now)
        if paced_s >= 2.0 - 1e-9:
            return self
        return self.trouble(f"{key.user} is refused after {paced_s:g} s of pacing")

    def works(self, now: float) -> "Ledger":
        """The rules work in this round; or a collector began, which has a lease's time for it."""
        return replace(self, worked_s=now)

    def trouble(self, text: str) -> "Ledger":
        """Something went wrong that no later state would show."""
        return replace(self, troubles=(*self.troubles, text))

    def answered(self, client: int, sent_at: float) -> "Ledger":
        """An answer reached a client, to a request that it sent at ``sent_at``."""
        if sent_at <= self.answered_s.get(client, float("-inf")):
            return self
        return replace(self, answered_s={**self.answered_s, client: sent_at})

    def probed(self, probe: Probe) -> "Ledger":
        """A call was let through to see whether the load is gone."""
        recent = [one for one in self.probes if probe.at_s - one.at_s < PROBE_WINDOW_S]
        return replace(self, probes=(*recent, probe))

    def refuses(self, entry_id: str) -> "Ledger":
        """A client refused a call."""
        return replace(self, refused={**self.refused, entry_id: self.refused.get(entry_id, 0) + 1})

    def forward_jump(self) -> "Ledger":
        """The wall clock went ahead while nobody ran: hold-downs and windows ended meanwhile, for
        all that anybody can tell.
        """
        return replace(self, cleared_s={}, moves={}, opened_s=())


def content(entry: BreakerEntry) -> Content:
    """All of an entry that clients act on. Its evidence is a mapping, which has no hash."""
    return (
        entry.id,
        entry.key,
        entry.scope,
        entry.mode,
        entry.lease_ms,
        entry.budget,
        entry.instances,
        entry.prober,
        entry.probe_per_s,
        entry.rate_per_s,
        entry.issuer,
    )


def _said(control: BreakerControl) -> Said:
    return control.mode, frozenset(content(row.entry) for row in control.held)
