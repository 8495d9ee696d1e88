"""The registry of breakers: the one writer of what clients may enforce.

It takes values and a time and returns what changed; it reads no clock, opens nothing, and is not
thread-safe: it is driven under one lock or on one loop. Times are seconds on a clock
that never goes back. The states and their meaning stand in :mod:`heatshield_alerts.breaker_states`,
the caps in :mod:`heatshield_alerts.caps`.

A restart begins at a higher epoch; :meth:`BreakerControl.restore` holds on what was held.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from heatshield.call_key import CallKey
from heatshield.contract import (
    BreakerEntry,
    BreakerMode,
    Delta,
    PlatformMode,
    Report,
    Snapshot,
    StateVersion,
)
from heatshield_alerts.breaker_changes import Change, ChangeKind, History
from heatshield_alerts.breaker_states import TRANSITIONS, BreakerEvent, BreakerState
from heatshield_alerts.caps import Caps, Occupancy, Place, cap, leaving_for
from heatshield_alerts.draft import Draft, Reason, check
from heatshield_alerts.held_breaker import (
    KEPT_EVERY_S,
    HeldBreaker,
    entry_of,
    hold_s,
    merged,
    moved_text,
    probing,
)
from heatshield_alerts.instances import Instances
from heatshield_alerts.restart import HeldDraft
from heatshield_alerts.restraint import Restraint
from heatshield_alerts.trip_policy import Decision, Refuse

__all__ = ["BreakerControl"]


class BreakerControl:
    """All breakers, the platform's mode, and the instances that enforce them.

    Args:
        epoch: must be higher than at any earlier start; the caller persists it.
        mode: of the platform.
        caps: on entries.
    """

    def __init__(
        self,
        epoch: int,
        mode: PlatformMode = PlatformMode.PROTECT,
        caps: Caps | None = None,
    ) -> None:
        self.instances = Instances()
        self._at = StateVersion(epoch, 0)
        self._mode = mode
        self._caps = caps or Caps()
        self._held: dict[CallKey, HeldBreaker] = {}
        self._history = History()
        self._restraint = Restraint()

    # -- what is ------------------------------------------------------------------------------

    @property
    def at(self) -> StateVersion:
        """The version the state is at; grows with everything that clients see change."""
        return self._at

    @property
    def mode(self) -> PlatformMode:
        """Whether clients enforce what they are granted."""
        return self._mode

    @property
    def held(self) -> tuple[HeldBreaker, ...]:
        """Every breaker that is not closed. Read only."""
        return tuple(self._held.values())

    def snapshot(self) -> Snapshot:
        """The whole state, for clients."""
        return Snapshot(self._at, self._mode, tuple(row.entry for row in self._held.values()))

    def delta_since(self, base: StateVersion) -> Delta | None:
        """What leads a client from ``base`` to :attr:`at`.

        Returns:
            ``None`` when nothing does (another epoch, too long ago, ``base`` is not in the past):
            send :meth:`snapshot`, or nothing at all if ``base`` is :attr:`at`.
        """
        entries = {row.entry.id: row.entry for row in self._held.values()}
        return self._history.delta(base, self._at, self._mode, entries)

    # -- what people and rules ask for --------------------------------------------------------

    def act(self, decision: Decision, now: float, active_users: int = 0) -> Change:
        """Carry out what :func:`~heatshield_alerts.trip_policy.decide` decided.

        Call it at every evaluation for every alert that fires: that holds the entry for as long as
        the alert fires, and tries again after a refusal. What repeats is not recorded again.
        """
        if isinstance(decision, Refuse):
            return self._refuse(decision.reason, decision.draft, now)
        return self.trip(decision.draft, now, active_users)

    def trip(self, draft: Draft, now: float, active_users: int = 0) -> Change:
        """Open the breaker of a key, or hold it longer if it is open.

        Args:
            draft: what is asked for.
            now: the time.
            active_users: users seen lately, which bounds how many of them rules may cut.

        Returns:
            The change; of the kind ``REFUSED``, with its reason, if there is none.
        """
        held = self._held.get(draft.key)
        reason = check(draft)
        if reason is None and held is None:
            reason = self._unwelcome(draft, now, active_users)
        elif reason is None and held is not None:
            reason = self._unrenewable(held, draft, now)
        if reason is not None:
            return self._refuse(reason, draft, now)
        return self._open(draft, now) if held is None else self._renew(held, draft, now)

    def make_room(self, decision: Decision, now: float, active_users: int = 0) -> list[Change]:
        """End the entries that stand in the way of a hotter user's (:func:`leaving_for`).

        Call it before :meth:`act`; nothing ends for what would be refused all the same.
        """
        draft = decision.draft
        if isinstance(decision, Refuse) or draft.key in self._held or check(draft) is not None:
            return []
        if self._unwelcome(draft, now, active_users) is None:
            return []
        flags = draft.mode is BreakerMode.FLAG
        places = [
            Place(row.key, row.heat)
            for row in self.held
            # An entry that only flags refuses no call, so it must not end one that refuses.
            if not row.draft.by_human and (not flags or row.draft.mode is BreakerMode.FLAG)
        ]
        occupancy = self._occupancy(now, active_users)
        text = f"made room for user {draft.key.user}, who is hotter ({draft.heat:.3g} times hot)"
        return [
            self._close(self._held[key], BreakerEvent.DISPLACED, now, text=text)
            for key in leaving_for(draft, places, occupancy, self._caps)
            if not self._is_restrained(draft, now)
        ]

    def restore(self, held: Iterable[HeldDraft], now: float) -> list[Change]:
        """Hold on what an earlier process held, from :func:`heatshield_alerts.restart.held_drafts`.

        Each ends when it would have ended without the restart. The caps were asked when these were
        granted; only the cap on entries is asked again.
        """
        return [
            self._open(draft, now, age_s)
            for draft, age_s in held
            if check(draft) is None
            and draft.key not in self._held
            and len(self._held) < self._caps.entries
        ]

    def clear(self, entry_id: str, by: str, now: float) -> Change:
        """Close a breaker because a person says so; rules may not trip it again for a while.

        Returns:
            The change; ``REFUSED`` with ``NO_SUCH_ENTRY`` if nothing of this id is held.
        """
        person = by if by.startswith("human:") else f"human:{by}"
        held = next((row for row in self._held.values() if row.entry.id == entry_id), None)
        if held is None:
            return Change(
                ChangeKind.REFUSED,
                self._at,
                now,
                by=person,
                text=f"{entry_id} is not held",
                reason=Reason.NO_SUCH_ENTRY,
                is_visible=False,
            )
        self._restraint.hold_down(held.key, now)
        return self._close(held, BreakerEvent.CLEARED, now, by=person, text=f"cleared by {person}")

    def set_mode(self, mode: PlatformMode, by: str, now: float) -> Change | None:
        """Switch between shadow and protect; ``None`` if it is so already."""
        if mode is self._mode:
            return None
        text = f"{self._mode.value} → {mode.value}"
        self._mode = mode
        at = self._advance(None)
        return Change(ChangeKind.MODE, at, now, by=by, text=text)

    def report(self, report: Report, now: float) -> bool:
        """Take in what a client enforces and refused.

        Returns:
            Whether this instance was not alive before.
        """
        by_id = {row.entry.id: row for row in self._held.values()}
        for row in report.rejected:
            held = by_id.get(row.id)
            if held is not None:
                held.demand.reject(row.count, now)
        return self.instances.attend(
            report.service,
            report.instance,
            now,
            workers=report.workers,
            applied=report.applied,
        )

    # -- what time does -----------------------------------------------------------------------

    def tick(self, now: float, loads: Mapping[CallKey, float]) -> list[Change]:
        """Let time pass: cool, probe, close, lapse.

        Args:
            now: the time; call it about every 250 ms.
            loads: the admitted load of each key, in the unit of the draft's threshold; a key
                that is not in it has none.
        """
        changes = []
        for held in self.held:
            level = held.demand.observe(loads.get(held.key, 0.0), now)
            event = held.due(level, now)
            if event is BreakerEvent.HEATED and not self._restraint.may_open(held.key, now):
                event = None  # the trickle goes on
            if event is not None:
                changes.append(self._move(held, event, now, level))
        self._restraint.forget(now)
        self.instances.forget(now)
        return changes

    def lapse(self, now: float) -> list[Change]:
        """End the entries whose time is over, where nothing is known of loads: no entry outlives
        its ceiling because evaluation fails.
        """
        over = [held for held in self.held if now - held.granted_s >= held.hold_s]
        text = "lapsed: not asked for again, and evaluation fails"
        return [self._close(held, BreakerEvent.LAPSED, now, text=text) for held in over]

    def _move(self, held: HeldBreaker, event: BreakerEvent, now: float, level: float) -> Change:
        text = moved_text(held, event, level)
        if event in (BreakerEvent.LAPSED, BreakerEvent.CLEAN):
            return self._close(held, event, now, text=text)
        before = held.state
        held.state = TRANSITIONS[before][event]
        held.since_s = now
        self._restraint.moved(held.key, now)
        if held.state is BreakerState.HALF_OPEN:
            kind, granted = ChangeKind.HALF_OPEN, probing(held.entry)
        else:
            kind, granted = ChangeKind.OPENED, entry_of(held.draft, held.entry.id)
        change = Change(kind, self._at, now, event=event, before=before, text=text)
        return self._grant(held, granted, change)

    # -- how it is done -----------------------------------------------------------------------

    def _unwelcome(self, draft: Draft, now: float, active_users: int) -> Reason | None:
        """Why a closed breaker may not open."""
        occupancy = self._occupancy(now, active_users)
        return self._is_restrained(draft, now) or cap(draft, occupancy, self._caps)

    def _is_restrained(self, draft: Draft, now: float) -> Reason | None:
        """Why this key may not open, whatever else is held."""
        if not draft.by_human and self._restraint.is_held_down(draft.key, now):
            return Reason.HELD_DOWN
        return None if self._restraint.may_open(draft.key, now) else Reason.FLAPPING

    def _unrenewable(self, held: HeldBreaker, draft: Draft, now: float) -> Reason | None:
        """Why a breaker that is held may not be held longer."""
        if held.draft.by_human and not draft.by_human:
            return Reason.HELD_BY_HUMAN
        reopens = held.state is BreakerState.HALF_OPEN
        if reopens and not self._restraint.may_open(draft.key, now):
            return Reason.FLAPPING
        return None

    def _occupancy(self, now: float, active_users: int) -> Occupancy:
        return Occupancy(
            entries=len(self._held),
            users_cut_by_rules=frozenset(
                row.key.user
                for row in self._held.values()
                if row.key.user
                and not row.draft.by_human
                and row.draft.mode is not BreakerMode.FLAG
            ),
            new_last_minute=self._restraint.opened_last_minute(now),
            active_users=active_users,
        )

    def _open(self, draft: Draft, now: float, age_s: float | None = None) -> Change:
        """Open it; ``age_s`` seconds ago it was granted by an earlier process."""
        entry_id = f"b-{self._at.epoch}-{self._at.version + 1}"
        held = HeldBreaker.open(draft, entry_id, now, age_s or 0.0)
        self._held[draft.key] = held
        if age_s is None:
            self._restraint.opened(draft.key, now)
        else:  # it is not new: the platform holds no more entries than before
            self._restraint.moved(draft.key, now)
        change = Change(
            ChangeKind.OPENED if age_s is None else ChangeKind.RESTORED,
            self._at,
            now,
            event=BreakerEvent.TRIP,
            by=draft.issuer,
            text=draft.reason,
        )
        return self._grant(held, held.entry, change, is_new=True)

    def _renew(self, held: HeldBreaker, asked: Draft, now: float) -> Change:
        """Hold it longer. A rule's alert that still fires says, too, that demand is not low."""
        before, draft = held.state, merged(held.draft, asked)
        held.granted_s, held.demand.low_since_s = now, None
        change = Change(
            ChangeKind.RENEWED if before is BreakerState.OPEN else ChangeKind.OPENED,
            self._at,
            now,
            entry=held.entry,
            before=before,
            after=TRANSITIONS[before][BreakerEvent.TRIP],
            event=BreakerEvent.TRIP,
            by=asked.issuer,
            text=asked.reason,
        )
        if before is BreakerState.OPEN and draft is held.draft:
            is_kept = now - held.kept_s >= KEPT_EVERY_S
            if is_kept:
                held.kept_s = now
            quiet = replace(change, is_visible=False, is_recorded=False)
            return replace(quiet, hold_s=held.hold_s, is_kept=is_kept)
        if before is not change.after:
            held.state, held.since_s = change.after, now
            self._restraint.moved(held.key, now)
            draft = replace(draft, reason=asked.reason, evidence=asked.evidence)
        held.draft, held.hold_s = draft, hold_s(draft)
        return self._grant(held, entry_of(draft, held.entry.id), change)

    def _close(
        self,
        held: HeldBreaker,
        event: BreakerEvent,
        now: float,
        *,
        by: str = "heatshield",
        text: str,
    ) -> Change:
        before, after = held.state, TRANSITIONS[held.state][event]
        del self._held[held.key]
        self._restraint.moved(held.key, now)
        kind = ChangeKind.CLEARED if event is BreakerEvent.CLEARED else ChangeKind.CLOSED
        at = self._advance(held.entry.id)
        return Change(kind, at, now, held.entry, before, after, event, by=by, text=text)

    def _grant(
        self, held: HeldBreaker, granted: BreakerEntry, change: Change, *, is_new: bool = False
    ) -> Change:
        """Hand out an entry at the next version."""
        at = self._advance(held.entry.id, is_new=is_new)
        held.entry = replace(granted, seq=at.version)
        return replace(
            change, at=at, entry=held.entry, after=held.state, hold_s=held.left_s(change.at_s)
        )

    def _refuse(self, reason: Reason, draft: Draft, now: float) -> Change:
        held = self._held.get(draft.key)
        state = held.state if held else BreakerState.CLOSED
        return Change(
            ChangeKind.REFUSED,
            self._at,
            now,
            entry=entry_of(draft, ""),
            before=state,
            after=state,
            by=draft.issuer,
            text=str(reason),
            reason=reason,
            is_visible=False,
            is_recorded=self._restraint.is_news(draft.key, reason, now),
        )

    def _advance(self, entry_id: str | None, *, is_new: bool = False) -> StateVersion:
        self._at = StateVersion(self._at.epoch, self._at.version + 1)
        self._history.note(self._at.version, entry_id, is_new=is_new)
        return self._at
