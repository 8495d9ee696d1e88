"""One breaker that is not closed: what it grants, and what time and demand make of it."""

import math
from dataclasses import dataclass, replace
from typing import Final

from heatshield.call_key import CallKey
from heatshield.contract import DEFAULT_LEASE_MS, MAX_LEASE_MS, BreakerEntry, BreakerMode
from heatshield_alerts.breaker_states import BreakerEvent, BreakerState
from heatshield_alerts.demand import Demand
from heatshield_alerts.draft import Draft

__all__ = [
    "COOL_S",
    "HALF_OPEN_S",
    "KEPT_EVERY_S",
    "PROBE_RATE_PER_S",
    "HeldBreaker",
    "entry_of",
    "hold_s",
    "merged",
    "moved_text",
    "probing",
]

COOL_S: Final = 10.0
"""Seconds demand must stay low before an open breaker half-opens: Armeria, gobreaker and the like
leave theirs open as long, and a person who retries in between starts it anew."""

KEPT_EVERY_S: Final = 10.0
"""Seconds after which it is written down anew since when an entry is held, as long as its alert
fires: what a restart may take from it at most."""

HALF_OPEN_S: Final = 5.0
"""Seconds of clean trickle before a half-open breaker closes: some calls of the user got through,
and their cost has reached the 1 s window several times."""

PROBE_RATE_PER_S: Final = 1.0
"""Calls a second that half-open lets through at each client."""


@dataclass(slots=True)
class HeldBreaker:
    """A breaker that is not closed.

    Attributes:
        entry: what clients are granted now.
        draft: what was asked for last.
        state: open or half-open.
        since_s: when it came into this state.
        granted_s: when a person or a rule asked for it last.
        hold_s: for how long it is held from there.
        demand: on its key.
        kept_s: when it was last written down since when it is held.
    """

    entry: BreakerEntry
    draft: Draft
    state: BreakerState
    since_s: float
    granted_s: float
    hold_s: float
    demand: Demand
    kept_s: float

    @classmethod
    def open(cls, draft: Draft, entry_id: str, now: float, age_s: float = 0.0) -> "HeldBreaker":
        """A breaker that opens now; its entry was granted ``age_s`` seconds ago."""
        return cls(
            entry=entry_of(draft, entry_id),
            draft=draft,
            state=BreakerState.OPEN,
            since_s=now,
            granted_s=now - age_s,
            hold_s=hold_s(draft),
            demand=Demand(draft.threshold, draft.cost_per_call, since_s=now),
            kept_s=now,
        )

    def left_s(self, now: float) -> float:
        """Seconds until it ends, unless it is asked for again or demand ends it sooner."""
        return max(0.0, self.granted_s + self.hold_s - now)

    @property
    def key(self) -> CallKey:
        """The user that it cuts, and the call."""
        return self.draft.key

    @property
    def heat(self) -> float:
        """How hot its user was when it was asked for; 0 once demand has gone.

        Not the demand of this moment, in which reports of refused calls come late: two hot users
        would take each other's place in turn.
        """
        return self.draft.heat if self.state is BreakerState.OPEN else 0.0

    def due(self, level: float, now: float) -> BreakerEvent | None:
        """What the time and a demand of ``level`` say; ``None``: stay."""
        if now - self.granted_s >= self.hold_s:
            return BreakerEvent.LAPSED
        if self.draft.by_human:
            return None  # the person who tripped it has a reason that load may not show
        low_s = self.demand.low_for_s(now)
        if self.state is BreakerState.OPEN:
            return BreakerEvent.COOLED if low_s >= COOL_S else None
        if level >= self.demand.threshold:
            return BreakerEvent.HEATED
        clean_s = min(low_s, now - self.since_s)
        return BreakerEvent.CLEAN if clean_s >= HALF_OPEN_S else None


def moved_text(held: HeldBreaker, event: BreakerEvent, level: float) -> str:
    """What the audit says of a move.

    Args:
        held: what moves.
        event: why.
        level: the demand; infinite while calls are refused whose cost is not known.
    """
    if event is BreakerEvent.LAPSED:
        return f"{event.value}: held for {held.hold_s:g} s, and not asked for again"
    trips_at = held.demand.threshold
    if not math.isfinite(level):
        return f"{event.value}: calls are refused whose cost is not known"
    return f"{event.value} at a demand of {level:.3g} (trips at {trips_at:.3g})"


def entry_of(draft: Draft, entry_id: str) -> BreakerEntry:
    """What clients are granted for a draft."""
    return BreakerEntry(
        id=entry_id,
        user=draft.key.user or "",  # none, where the draft is refused
        service=draft.key.service,
        call=draft.key.call,
        mode=draft.mode,
        lease_ms=draft.lease_ms or DEFAULT_LEASE_MS,
        issuer=draft.issuer,
        reason=draft.reason,
        evidence=draft.evidence,
        rate_per_s=draft.rate_per_s,
        tenant=draft.key.tenant,
    )


def hold_s(draft: Draft) -> float:
    """Seconds it is held after it was last asked for."""
    return (draft.lease_ms or MAX_LEASE_MS) / 1_000


_STRICTNESS: Final = {BreakerMode.FLAG: 0, BreakerMode.TRICKLE: 1, BreakerMode.REJECT: 2}


def merged(held: Draft, asked: Draft) -> Draft:
    """What a key is held for when it is asked for again; ``held`` itself: as before.

    A person's word replaces what was there, if it differs. A rule's does if it is stricter: so two
    rules that both fire for a key agree on one entry, and don't replace each other's in turn.
    """
    if asked.by_human:
        return held if _terms(held) == _terms(asked) else asked
    return asked if _STRICTNESS[asked.mode] > _STRICTNESS[held.mode] else held


def _terms(draft: Draft) -> tuple[object, ...]:
    """All that clients and people see of a draft."""
    return (draft.mode, draft.rate_per_s, draft.lease_ms, draft.issuer, draft.reason)


def probing(entry: BreakerEntry) -> BreakerEntry:
    """The entry as half-open grants it.

    Never stricter than it was: what flags, or lets some calls through at a rate of its own, stays
    as it is.
    """
    if entry.mode is not BreakerMode.REJECT:
        return entry
    return replace(entry, mode=BreakerMode.TRICKLE, rate_per_s=PROBE_RATE_PER_S)
