"""The registry of breakers: the one writer of what clients may enforce.

It takes values and a time and returns what changed; it reads no clock, opens nothing, and is not
thread-safe. Times are seconds on a clock that never goes back. The states and their meaning stand
in :mod:`heatshield_alerts.breaker_states`, the caps in :mod:`heatshield_alerts.caps`.

A restart begins at a higher epoch; :meth:`BreakerControl.restore` holds on what was held.
"""

# long: one class is all that may touch the registry

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from heatshield.call_key import CallKey
from heatshield.clock import Instant
from heatshield.contract import (
    BreakerEntry,
    DeclaredLimit,
    Delta,
    PlatformMode,
    Report,
    Snapshot,
    StateVersion,
)
from heatshield_alerts.breaker_changes import (
    Change,
    ChangeKind,
    History,
    no_such_entry,
    refused,
    restored,
)
from heatshield_alerts.breaker_states import TRANSITIONS, BreakerEvent, BreakerState
from heatshield_alerts.caps import Caps
from heatshield_alerts.control_state import KeptControl, keep
from heatshield_alerts.draft import Draft, Reason, check
from heatshield_alerts.entry_checks import EntryChecks
from heatshield_alerts.held_breaker import (
    COOL_S,
    KEPT_EVERY_S,
    HeldBreaker,
    count_refused,
    entry_of,
    longer_text,
    merged,
    moved_text,
)
from heatshield_alerts.instances import Instances
from heatshield_alerts.probes import Probers
from heatshield_alerts.restraint import Restraint
from heatshield_alerts.seen import Seen
from heatshield_alerts.shares import Dealer
from heatshield_alerts.state_view import StateView
from heatshield_alerts.trip_policy import Decision, Refuse

__all__ = ["BreakerControl"]


class BreakerControl:
    """All breakers, the platform's mode, and the instances that enforce them.

    Args:
        epoch: must be higher than at any earlier start; the caller persists it.
        mode: of the platform.
        caps: on entries.

    Attributes:
        checks: asked before an entry is granted.
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
        self.checks = EntryChecks(caps or Caps())
        self._held: dict[CallKey, HeldBreaker] = {}
        self._limits: tuple[DeclaredLimit, ...] = ()
        self._history = History()
        self._dealer = Dealer()
        self._probers = Probers()

    @property
    def _restraint(self) -> Restraint:
        return self.checks.restraint

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
        entries = tuple(row.entry for row in self._held.values())
        return Snapshot(self._at, self._mode, entries, self._limits)

    def delta_since(self, base: StateVersion) -> Delta | None:
        """What leads a client from ``base`` to :attr:`at`; see :meth:`StateView.delta_since`."""
        return StateView(self.snapshot(), (), self._history).delta_since(base)

    def view(self) -> StateView:
        """What is seen of the state, as it is now."""
        held = tuple((row.key, row.state.value, row.entry) for row in self._held.values())
        return StateView(self.snapshot(), held, self._history.copy())

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
            reason = self.checks.unwelcome(draft, self.held, now, active_users)
        elif reason is None and held is not None:
            reason = self.checks.unrenewable(held, draft, self.held, now, active_users)
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
        text = f"made room for user {draft.key.user}, who is hotter ({draft.heat:.3g} times hot)"
        return [
            self._close(self._held[key], BreakerEvent.DISPLACED, now, text=text)
            for key in self.checks.leaving_for(draft, self.held, now, active_users)
        ]

    def restore(self, kept: KeptControl, now: Instant) -> list[Change]:
        """Hold on exactly what an earlier process held, under the ids that clients know.

        Each ends when it would have ended without the restart. The caps were asked when these were
        granted; only the cap on entries is asked again. Hold-downs and moves go on, too.
        """
        self.checks.restraint = kept.restraint(now)
        changes = []
        for held in kept.held(now):
            is_new = held.key not in self._held and len(self._held) < self.checks.caps.entries
            if is_new and check(held.draft) is None:
                self._held[held.key] = held
                self._await_prober(held.entry, now.monotonic_s)
                change = restored(held.entry, self._at, now.monotonic_s)
                changes.append(self._grant(held, held.entry, change, is_new=True))
        return changes

    def keep(self, now: Instant) -> dict[str, Any]:
        """All that a restart needs, as JSON; see :meth:`restore`."""
        return keep(self._held.values(), self._restraint, now)

    def declare(self, limits: Collection[DeclaredLimit], by: str, now: float) -> Change | None:
        """Have these limits be in force, and no other; ``None``: they are."""
        counts = self.instances.counts({one.service for one in limits}, now)
        counted = tuple(replace(one, instances=counts[one.service]) for one in limits)
        if counted == self._limits:
            return None
        names = ", ".join(limit.id for limit in counted) or "none"
        self._limits = counted
        at = self._advance(None, limits=True)
        return Change(ChangeKind.LIMITS, at, now, by=by, text=f"limits: {names}")

    def clear(self, entry_id: str, by: str, now: float) -> Change:
        """Close a breaker because a person says so; rules may not trip it again for a while.

        Returns:
            The change; ``REFUSED`` with ``NO_SUCH_ENTRY`` if nothing of this id is held.
        """
        person = by if by.startswith("human:") else f"human:{by}"
        held = next((row for row in self._held.values() if row.entry.id == entry_id), None)
        if held is None:
            return no_such_entry(entry_id, person, self._at, now)
        self._restraint.hold_down(held.key, now)
        return self._close(held, BreakerEvent.CLEARED, now, by=person, text=f"cleared by {person}")

    def withdraw(self, key: CallKey, by: str, now: float) -> Change:
        """Close a breaker that the policy allows no longer."""
        text = "the policy allows it no longer"
        return self._close(self._held[key], BreakerEvent.CLEARED, now, by=by, text=text)

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
        count_refused(self._held.values(), report.rejected, now)
        return self.instances.reported(report, now)

    def deal(self, report: Report, now: float) -> dict[str, float]:
        """The shares of budgets that are dealt to an instance for what came there."""
        if not report.offered:  # thousands of instances report, and few of them have a budget
            return {}
        held = (row.entry for row in self._held.values() if row.key.service == report.service)
        paced = {entry.id: entry.budget for entry in held}
        limits = {limit.id: limit.rate_per_s for limit in self._limits}
        following = self.instances.following(report.service, now)
        return self._dealer.deal(report, paced, limits, following, now)

    # -- what time does -----------------------------------------------------------------------

    def tick(self, now: float, seen: Seen) -> list[Change]:
        """Let time pass: escalate, cool, probe, close, lapse.

        Args:
            now: the time; call it about every 250 ms.
            seen: what was seen in this round.
        """
        changes = []
        for held in self.held:
            if seen.rules is None or held.rule in seen.rules:
                held.rule_s = now
            level = held.demand.observe(seen.loads.get(held.key, 0.0), now)
            why = seen.lasting_of(held.key)
            may_leave = self._restraint.may_leave(held.key, now)
            event = held.due(level, now, lasting=why is not None, may_leave=may_leave)
            if event is BreakerEvent.HEATED and not self._restraint.may_open(held.key, now):
                event = None  # the probing goes on
            if event is BreakerEvent.ESCALATED:
                stricter = held.escalated(why or "")
                users = seen.active_users or 0
                reason = self.checks.unescalatable(stricter, self.held, now, users)
                if reason is not None:  # the pacing goes on
                    event = None
                    changes.append(self._refuse(reason, stricter, now))
            if event is not None:
                changes.append(self._move(held, event, now, level, why or ""))
            elif held.state is BreakerState.HALF_OPEN:
                changes += self._probe(held, now)
        self._restraint.forget(now)
        self._dealer.forget(now)
        self._probers.forget([row.key for row in self._held.values() if row.entry.prober], now)
        self.instances.forget(now)
        return changes

    def _probe(self, held: HeldBreaker, now: float) -> list[Change]:
        """Hand the quota of probes on, or double it; nothing, where it stays as it is."""
        granted = self._probing(held, now)
        if granted == held.entry:
            return []
        change = Change(
            ChangeKind.HALF_OPEN,
            self._at,
            now,
            before=held.state,
            text=f"{granted.probe_per_s:g} probes a second at {granted.prober or 'no instance'}",
            is_recorded=False,
        )
        return [self._grant(held, granted, change)]

    def _probing(self, held: HeldBreaker, now: float) -> BreakerEntry:
        """What half-open grants now."""
        return held.probing(self._probers, self.instances.following(held.key.service, now), now)

    def _await_prober(self, entry: BreakerEntry, now: float) -> None:
        """An earlier process's prober counts as alive until it has had the time to say so."""
        self._probers.restored(entry, now)
        if entry.prober:
            self.instances.attend(entry.service, entry.prober, now, applied=self._at)

    def lapse(self, now: float) -> list[Change]:
        """End the entries whose time is over, where nothing is known of loads: no entry outlives
        its ceiling because evaluation fails.
        """
        over = [held for held in self.held if held.is_over(now)]
        text = "lapsed: not asked for again, and evaluation fails"
        return [self._close(held, BreakerEvent.LAPSED, now, text=text) for held in over]

    def _move(
        self, held: HeldBreaker, event: BreakerEvent, now: float, level: float, why: str
    ) -> Change:
        text = moved_text(held, event, level, now, why)
        if event in (BreakerEvent.LAPSED, BreakerEvent.CLEAN):
            return self._close(held, event, now, text=text)
        before = held.state
        held.state, held.since_s = TRANSITIONS[before][event], now
        if held.state is BreakerState.HALF_OPEN:
            self._restraint.moved(held.key, now)
            kind, granted = ChangeKind.HALF_OPEN, self._probing(held, now)
        else:
            kind = ChangeKind.OPENED
            if event is BreakerEvent.ESCALATED:
                kind, held.draft = ChangeKind.ESCALATED, held.escalated(why)
            elif event is BreakerEvent.EASED:
                kind, held.draft = ChangeKind.RENEWED, held.eased()
            else:
                self._restraint.reopened(held.key, now)
                text += self._damp(held, now)
            granted = entry_of(held.draft, held.entry.id, held.entry.instances)
        change = Change(kind, self._at, now, event=event, before=before, text=text)
        return self._grant(held, granted, change)

    def _open(self, draft: Draft, now: float) -> Change:
        entry_id = f"b-{self._at.epoch}-{self._at.version + 1}"
        instances = self.instances.count(draft.key.service, now)
        held = HeldBreaker.open(draft, entry_id, now, instances)
        self._held[draft.key] = held
        self._restraint.opened(draft.key, now)
        change = Change(ChangeKind.OPENED, self._at, now, event=BreakerEvent.TRIP)
        change = replace(change, by=draft.issuer, text=draft.reason + self._damp(held, now))
        return self._grant(held, held.entry, change, is_new=True)

    def _renew(self, held: HeldBreaker, asked: Draft, now: float) -> Change:
        """Hold it longer. A rule's alert that still fires says, too, that demand is not low."""
        before, draft = held.state, merged(held.draft, asked)
        held.granted_s, held.demand.low_since_s = now, None
        held.rule_s = now if asked.issuer == draft.issuer else held.rule_s
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
            held.kept_s = now if is_kept else held.kept_s
            quiet = replace(change, is_visible=False, is_recorded=False)
            return replace(quiet, hold_s=held.hold_s, is_kept=is_kept)
        if before is not change.after:
            held.state, held.since_s = change.after, now
            self._restraint.reopened(held.key, now)
            draft = replace(draft, reason=asked.reason, evidence=asked.evidence)
            longer = "" if draft.by_human else self._damp(held, now)
            change = replace(change, text=asked.reason + longer)
        held.since_s = now if draft.mode is not held.draft.mode else held.since_s
        held.ask(draft)
        instances = self.instances.count(draft.key.service, now)
        return self._grant(held, entry_of(draft, held.entry.id, instances), change)

    def _damp(self, held: HeldBreaker, now: float) -> str:
        """Hold longer what has opened now, if it opens often; returns what the audit says of it."""
        damping = self._restraint.damping(held.key, now)
        held.cool_s = COOL_S * damping.times
        return "" if held.draft.by_human else longer_text(damping)

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
        left_s = held.left_s(change.at_s)
        return replace(change, at=at, entry=held.entry, after=held.state, hold_s=left_s)

    def _refuse(self, reason: Reason, draft: Draft, now: float) -> Change:
        held = self._held.get(draft.key)
        state = held.state if held else BreakerState.CLOSED
        is_news = self._restraint.is_news(draft.key, reason, now)
        change = refused(entry_of(draft, ""), reason, self._at, now)
        return replace(change, before=state, after=state, is_recorded=is_news)

    def _advance(
        self, entry_id: str | None, *, is_new: bool = False, limits: bool = False
    ) -> StateVersion:
        self._at = StateVersion(self._at.epoch, self._at.version + 1)
        self._history.note(self._at.version, entry_id, is_new=is_new, limits=limits)
        return self._at
