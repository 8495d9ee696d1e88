"""One breaker that is not closed: what it grants, and what time and demand make of it."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from heatshield.call_key import CallKey
from heatshield.contract import (
    DEFAULT_LEASE_MS,
    MAX_LEASE_MS,
    BreakerEntry,
    BreakerMode,
    Rejections,
)
from heatshield_alerts.breaker_states import BreakerEvent, BreakerState
from heatshield_alerts.caps import Place
from heatshield_alerts.demand import Demand
from heatshield_alerts.draft import Draft
from heatshield_alerts.probes import CLEAN_STEP_S, Probers, rate_after
from heatshield_alerts.restraint import Damping

__all__ = [
    "COOL_S",
    "ESCALATE_S",
    "HALF_OPEN_S",
    "KEPT_EVERY_S",
    "HeldBreaker",
    "count_refused",
    "entry_of",
    "hold_s",
    "longer_text",
    "merged",
    "moved_text",
]

COOL_S: Final = 10.0
"""Seconds demand must stay low before an open breaker half-opens: Armeria, gobreaker and the like
leave theirs open as long, and a person who retries in between starts it anew. A key that opened
often lately takes longer (:class:`~heatshield_alerts.restraint.Damping`)."""

KEPT_EVERY_S: Final = 10.0
"""Seconds after which it is written down anew since when an entry is held, as long as its alert
fires: what a restart may take from it at most."""

HALF_OPEN_S: Final = 3 * CLEAN_STEP_S
"""Seconds of clean probing before a half-open breaker closes: the rate of probes has doubled twice,
and their cost has reached the 1 s window several times."""

ESCALATE_S: Final = 2.0
"""Seconds that the first step of the ladder has to end the harm, before the next one is taken. As
long as the evaluations in which detection calls harm lasting: what came before the first step is
not among them by then."""


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
        rule_s: when the rule that asked for it was evaluated last.
        cool_s: seconds that demand must stay low before it half-opens, this time.
    """

    entry: BreakerEntry
    draft: Draft
    state: BreakerState
    since_s: float
    granted_s: float
    hold_s: float
    demand: Demand
    kept_s: float
    rule_s: float
    cool_s: float = COOL_S

    @classmethod
    def open(cls, draft: Draft, entry_id: str, now: float, instances: int = 1) -> "HeldBreaker":
        """A breaker that opens now, where so many instances of the service live."""
        return cls(
            entry=entry_of(draft, entry_id, instances),
            draft=draft,
            state=BreakerState.OPEN,
            since_s=now,
            granted_s=now,
            hold_s=hold_s(draft),
            demand=Demand(draft.threshold, draft.cost_per_call, since_s=now),
            kept_s=now,
            rule_s=now,
        )

    def left_s(self, now: float) -> float:
        """Seconds until it ends, unless it is asked for again or demand ends it sooner."""
        return max(0.0, self.granted_s + self.hold_s - now)

    def ask(self, draft: Draft) -> None:
        """It is asked for anew, maybe with other figures."""
        self.draft, self.hold_s = draft, hold_s(draft)
        self.demand.cost_per_call = draft.cost_per_call

    @property
    def key(self) -> CallKey:
        """The user that it cuts, and the call."""
        return self.draft.key

    @property
    def rule(self) -> str:
        """The name of the rule that asked for it; empty: a person did."""
        return "" if self.draft.by_human else self.draft.issuer.partition(":")[2]

    @property
    def holds_up(self) -> bool:
        """As :attr:`Draft.holds_up`."""
        return self.draft.holds_up

    def escalated(self, why: str = "") -> Draft:
        """What it asks for at the next step of its ladder."""
        draft = self.draft
        if draft.then is None:
            return draft
        reason = why or draft.reason
        return replace(draft, mode=draft.then, then=None, first=draft.mode, reason=reason)

    def eased(self) -> Draft:
        """What it asks for at the step of its ladder that came before."""
        draft = self.draft
        if draft.first is None:
            return draft
        return replace(draft, mode=draft.first, then=draft.mode, first=None)

    @property
    def place(self) -> Place:
        """What it takes up."""
        return Place(self.key, self.heat, self.draft.traffic, self.draft.refuses)

    @property
    def heat(self) -> float:
        """How hot its user was when it was asked for; 0 once demand has gone.

        Not the demand of this moment, in which reports of refused calls come late: two hot users
        would take each other's place in turn.
        """
        return self.draft.heat if self.state is BreakerState.OPEN else 0.0

    def due(
        self, level: float, now: float, *, lasting: bool = False, may_leave: bool = True
    ) -> BreakerEvent | None:
        """What the time and a demand of ``level`` say; ``None``: stay.

        Args:
            level: of the demand.
            now: the time.
            lasting: the harm that its user does lasts, in this round.
            may_leave: its key has not moved so often that it has to stay open.
        """
        if self.is_over(now):
            return BreakerEvent.LAPSED
        if self.draft.by_human:
            return None  # the person who tripped it has a reason that load may not show
        if lasting and self.may_escalate(now):
            return BreakerEvent.ESCALATED
        low_s = self.demand.low_for_s(now)
        if self.state is BreakerState.OPEN:
            is_cool = low_s >= self.cool_s and may_leave
            return BreakerEvent.COOLED if is_cool else self._eased(low_s, now, lasting=lasting)
        if level >= self.demand.threshold:
            return BreakerEvent.HEATED
        clean_s = min(low_s, now - self.since_s)
        return BreakerEvent.CLEAN if clean_s >= HALF_OPEN_S else None

    def _eased(self, low_s: float, now: float, *, lasting: bool) -> BreakerEvent | None:
        """Open for longer than usual, a user who was refused gets a fair share meanwhile."""
        is_due = not lasting and min(low_s, now - self.since_s) >= COOL_S
        return BreakerEvent.EASED if is_due and self.draft.first is not None else None

    def is_over(self, now: float) -> bool:
        """Whether it ends: held for as long as it may be, or without its rule for a lease."""
        is_orphaned = not self.draft.by_human and now - self.rule_s >= self.entry.lease_ms / 1_000
        return is_orphaned or now - self.granted_s >= self.hold_s

    def probing(self, probers: Probers, following: Collection[str], now: float) -> BreakerEntry:
        """The entry as half-open grants it: one instance lets some calls a second through.

        Never stricter than it was: what flags, paces, or lets some calls through at a rate of its
        own, stays as it is.

        Args:
            probers: know which instance may probe.
            following: the live instances of its service that enforce it.
            now: the time.
        """
        if self.entry.mode is not BreakerMode.REJECT:
            return self.entry
        prober = probers.choose(self.key, following, now, self.entry.lease_ms / 1_000)
        clean_s = min(self.demand.low_for_s(now), now - self.since_s)
        rate_per_s = rate_after(clean_s, self.draft.probe_per_s) if prober else 0.0
        return replace(self.entry, prober=prober, probe_per_s=rate_per_s)

    def may_escalate(self, now: float) -> bool:
        """Whether there is a next step, and the first one has had the time to end the harm."""
        is_first = self.draft.then is not None and self.state is BreakerState.OPEN
        return is_first and now - self.since_s >= ESCALATE_S


def moved_text(
    held: HeldBreaker, event: BreakerEvent, level: float, now: float, why: str = ""
) -> str:
    """What the audit says of a move.

    Args:
        held: what moves.
        event: why.
        level: the demand; infinite while calls are refused whose cost is not known.
        now: the time.
        why: what detection says of its user, a sentence; empty: nothing.
    """
    if event is BreakerEvent.LAPSED and now - held.granted_s < held.hold_s:
        return f"{event.value}: {held.draft.issuer} fails, is gone, or is not evaluated any more"
    if event is BreakerEvent.LAPSED:
        return f"{event.value}: held for {held.hold_s:g} s, and not asked for again"
    if event is BreakerEvent.EASED:
        first = held.draft.first
        return f"{event.value} to {first}: demand is low, and a key that opens often is held longer"
    if event is BreakerEvent.ESCALATED:
        step = f"{ESCALATE_S:g} s of {held.draft.mode}"
        return f"{event.value} to {held.draft.then}: {step} did not end it" + (why and f": {why}")
    trips_at = held.demand.threshold
    if not math.isfinite(level):
        return f"{event.value}: calls are refused whose cost is not known"
    return f"{event.value} at a demand of {level:.3g} (trips at {trips_at:.3g})"


def longer_text(damping: Damping) -> str:
    """What the audit says, after the reason, of an entry that is held longer; empty: it is not."""
    if damping.times == 1 and not damping.at_least_s:
        return ""
    often = f"opened {damping.openings} times and moved {damping.moves} times in ten minutes"
    longer = (
        f"held longer, as the key {often}: until demand is low for {COOL_S * damping.times:g} s"
    )
    at_least = f", and for {damping.at_least_s:.0f} s at least" if damping.at_least_s else ""
    return f"; {longer}{at_least}"


def entry_of(draft: Draft, entry_id: str, instances: int = 1) -> BreakerEntry:
    """What clients are granted for a draft, where so many instances of the service live."""
    return BreakerEntry(
        id=entry_id,
        user=draft.key.user or "",  # none, where the draft is refused
        service=draft.key.service,
        call=draft.key.call,
        mode=draft.mode,
        lease_ms=draft.lease_ms or draft.grant_ms or DEFAULT_LEASE_MS,
        issuer=draft.issuer,
        reason=draft.reason,
        evidence=draft.evidence,
        rate_per_s=draft.rate_per_s,
        tenant=draft.key.tenant,
        scope=draft.scope,
        budget=draft.budget,
        cost_per_call=draft.cost_per_call,
        waiting=draft.waiting,
        wait_ms=draft.wait_ms,
        instances=max(1, instances),
    )


def hold_s(draft: Draft) -> float:
    """Seconds it is held after it was last asked for."""
    return (draft.lease_ms or MAX_LEASE_MS) / 1_000


_STRICTNESS: Final = {
    BreakerMode.FLAG: 0,
    BreakerMode.PACE: 1,
    BreakerMode.TRICKLE: 2,
    BreakerMode.REJECT: 3,
}


def merged(held: Draft, asked: Draft) -> Draft:
    """What a key is held for when it is asked for again; ``held`` itself: as before.

    A person's word replaces what was there, if it differs. A rule's does if it is stricter: so two
    rules that both fire for a key agree on one entry, and don't replace each other's in turn.
    """
    if asked.by_human:
        return held if _terms(held) == _terms(asked) else asked
    if asked.mode is held.mode is BreakerMode.PACE and held.issuer == asked.issuer:
        cost_per_call = asked.cost_per_call or held.cost_per_call  # 0: none ran lately
        figures = ((held.budget, asked.budget), (held.cost_per_call, cost_per_call))
        if any(_differs(*both) for both in figures):
            return replace(held, budget=asked.budget, cost_per_call=cost_per_call)
    return asked if _STRICTNESS[asked.mode] > _STRICTNESS[held.mode] else held


def count_refused(held: Iterable[HeldBreaker], rows: Iterable[Rejections], now: float) -> None:
    """Count what was refused by entries as demand on them; rows of others are left out."""
    by_id = {one.entry.id: one for one in held}
    for row in rows:
        if (one := by_id.get(row.id)) is not None:
            one.demand.reject(row.count, now)


def _differs(before: float, after: float) -> bool:
    """Whether a figure has changed by so much that clients should hear of it."""
    return abs(after - before) > 0.25 * before


def _terms(draft: Draft) -> tuple[object, ...]:
    """All that clients and people see of a draft."""
    figures = (draft.rate_per_s, draft.budget, draft.waiting, draft.wait_ms, draft.lease_ms)
    return (draft.mode, draft.scope, *figures, draft.issuer, draft.reason)
