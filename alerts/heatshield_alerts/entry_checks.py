"""Whether an entry that is asked for may be granted: the policy, hold-downs, flapping, the caps.

The caps stand in :mod:`heatshield_alerts.caps`, what is remembered of a key in
:mod:`heatshield_alerts.restraint`. Times are seconds on a clock that never goes back.
"""

from collections.abc import Sequence

from heatshield.call_key import CallKey
from heatshield_alerts.breaker_states import BreakerState
from heatshield_alerts.caps import Caps, Occupancy, cap, cap_on_cut, held_of, leaving_for
from heatshield_alerts.draft import Draft, Reason
from heatshield_alerts.held_breaker import HeldBreaker, merged
from heatshield_alerts.policy.model import NO_POLICY, Policy
from heatshield_alerts.restraint import Restraint

__all__ = ["EntryChecks"]


class EntryChecks:
    """Looks at a draft that is well formed, beside what is held.

    Args:
        caps: on entries.

    Attributes:
        policy: what rules may do.
        restraint: what is remembered of keys.
    """

    def __init__(self, caps: Caps) -> None:
        self.caps = self._usual = caps
        self.policy = NO_POLICY
        self.restraint = Restraint()

    def follow(self, policy: Policy) -> None:
        """Go by a policy, and by its caps, from now on."""
        self.policy, self.caps = policy, policy.rules.caps

    def unwelcome(
        self, draft: Draft, held: Sequence[HeldBreaker], now: float, active_users: int
    ) -> Reason | None:
        """Why a closed breaker may not open."""
        reason = self._restrains(draft, now)
        caps = self.caps.at_least(self._usual) if draft.by_human else self.caps
        return reason or cap(draft, self._occupancy(held, now, active_users), caps)

    def unrenewable(
        self,
        held: HeldBreaker,
        draft: Draft,
        rows: Sequence[HeldBreaker],
        now: float,
        active_users: int,
    ) -> Reason | None:
        """Why a breaker that is held may not be held longer, or more strictly."""
        if held.draft.by_human and not draft.by_human:
            return Reason.HELD_BY_HUMAN
        if self._is_forbidden(draft):
            return Reason.POLICY
        reopens = held.state is BreakerState.HALF_OPEN
        if reopens and not self.restraint.may_open(draft.key, now):
            return Reason.FLAPPING
        if merged(held.draft, draft) is not draft:
            return None
        others = [row for row in rows if row is not held]
        return cap_on_cut(draft, self._occupancy(others, now, active_users), self.caps)

    def unescalatable(
        self, draft: Draft, rows: Sequence[HeldBreaker], now: float, active_users: int
    ) -> Reason | None:
        """Why an entry that is held may not take its next step; ``draft``: as it would then be."""
        others = [row for row in rows if row.key != draft.key]
        return cap_on_cut(draft, self._occupancy(others, now, active_users), self.caps)

    def leaving_for(
        self, draft: Draft, held: Sequence[HeldBreaker], now: float, active_users: int
    ) -> tuple[CallKey, ...]:
        """The keys of entries that make room for a hotter user's (:func:`~.caps.leaving_for`)."""
        occupancy = self._occupancy(held, now, active_users)
        if self._restrains(draft, now) or cap(draft, occupancy, self.caps) is None:
            return ()
        flags = not draft.holds_up
        places = [
            row.place
            for row in held
            # An entry that only flags refuses no call, so it must not end one that refuses.
            if not row.draft.by_human and (not flags or not row.holds_up)
        ]
        return leaving_for(draft, places, occupancy, self.caps)

    def _restrains(self, draft: Draft, now: float) -> Reason | None:
        """Why this key may not open, whatever else is held."""
        if self._is_forbidden(draft):
            return Reason.POLICY
        if not draft.by_human and self.restraint.is_held_down(draft.key, now):
            return Reason.HELD_DOWN
        return None if self.restraint.may_open(draft.key, now) else Reason.FLAPPING

    def _is_forbidden(self, draft: Draft) -> bool:
        return not draft.by_human and bool(self.policy.rules.forbids(draft))

    def _occupancy(self, held: Sequence[HeldBreaker], now: float, active_users: int) -> Occupancy:
        places = [row.place for row in held if row.holds_up]
        return Occupancy(
            entries=len(held),
            new_last_minute=self.restraint.opened_last_minute(now),
            active_users=active_users,
            held_up=held_of(places),
            refused=held_of(place for place in places if place.refuses),
        )
