"""The breaker table of one client: what it may enforce, at which moment.

Theory of operation. The collector grants; the client keeps the granted entries of one state
version ``(epoch, version)`` and the moment on its own monotonic clock at which the last
*answered* renewal was **sent**. That one moment anchors every lease, also those of deltas that
were pushed later, so a lease always ends earlier here than the collector believes. After the
lease a grant does not vanish at once: it opens over a ramp, refusing with a probability that
falls linearly to 0, so that a collector's death does not release a herd::

    sent              sent + lease            sent + lease + RAMP_S
      |---- enforced ------|---- p = 1 ... 0 -----------|---- nothing ----

The table does no I/O and reads no clock: callers pass ``now``. What :meth:`BreakerTable.decide`
reads is one immutable dictionary that is swapped as a whole, so the request path takes no lock
until a call actually matches an entry.
"""

import random
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Final

from heatshield.breakers.decision import CLEAR, Decision, Reason, budget_key
from heatshield.breakers.entry_index import EMPTY, EntryIndex, rejecting
from heatshield.breakers.limits import Limits
from heatshield.breakers.table_state import TableState, merged_entries
from heatshield.breakers.tally import MAX_ENTRIES, Tallies
from heatshield.contract import (
    DEFAULT_LEASE_MS,
    DEFAULT_TENANT,
    MAX_OFFERED,
    RAMP_S,
    RENEW_S,
    SHARE_S,
    BreakerEntry,
    BreakerMode,
    ContractError,
    Delta,
    Offered,
    PlatformMode,
    Rejections,
    Snapshot,
    StateVersion,
)
from heatshield.declared_limit import LimitUnit
from heatshield.fork_locks import lock
from heatshield.identity.wire_id import wire_id
from heatshield.rejection import DEFAULT_RETRY_AFTER_S

__all__ = ["MAX_ENTRIES", "Applied", "BreakerTable", "Decision", "Reason"]

RENEWALS_PER_LEASE: Final = 3
"""A lease shorter than the default is renewed this often while it lasts."""

MIN_RENEW_S: Final = 0.5
"""However short a lease, renewals are not more frequent than this."""


class Applied(Enum):
    """What became of a snapshot, delta or renewal."""

    CHANGED = "changed"
    """The table holds it now."""
    RENEWED = "renewed"
    """The table held it already; its leases count from the new moment."""
    STALE = "stale"
    """It is older than what the table holds and was ignored."""
    GAP = "gap"
    """A delta on another base: not applied; only a snapshot helps."""


class BreakerTable:
    """Grants held for one tenant and one service.

    Args:
        service: whose calls this process answers.
        tenant: whose platform it belongs to.
        enforce: ``False`` refuses nothing; may be switched at any time through the attribute.
        chance: uniform random numbers in [0, 1), for the ramp.
        instance: names this process, which one entry may let probe.
    """

    def __init__(
        self,
        service: str,
        tenant: str = DEFAULT_TENANT,
        *,
        enforce: bool = True,
        chance: Callable[[], float] = random.random,
        instance: Callable[[], str] = str,
    ) -> None:
        self.enforce = enforce
        self._instance = instance
        self._service = wire_id(service)  # as the collector names it
        self._tenant = tenant
        self._chance = chance
        self._lock = lock()
        self._state = TableState()
        self._mine = EMPTY
        self.rejecting: Mapping[tuple[str, str, str], BreakerEntry] = {}  # of any service
        self._limits = Limits((), self._service)
        self.is_idle = True  # nothing is granted or declared that is about this service
        self._anchor = float("-inf")
        self._tallies = Tallies()

    @property
    def at(self) -> StateVersion | None:
        """The version held, if any was ever received."""
        return self._state.at

    @property
    def mode(self) -> PlatformMode:
        """What the platform does with its entries, as last heard."""
        return self._state.mode

    @property
    def entries(self) -> tuple[BreakerEntry, ...]:
        """Everything granted, for whichever service, lapsed or not."""
        return tuple(self._state.entries.values())

    @property
    def renew_every_s(self) -> float:
        """Seconds between renewals that keep the shortest lease alive."""
        shortest = min((e.lease_ms for e in self._state.entries.values()), default=None)
        if shortest is None:
            return RENEW_S
        return min(RENEW_S, max(MIN_RENEW_S, shortest / 1000 / RENEWALS_PER_LEASE))

    def apply(self, change: Snapshot | Delta, sent_at: float) -> Applied:
        """Take over a state that is newer than the one held.

        Args:
            change: from the collector.
            sent_at: monotonic seconds at which the last answered renewal, or the request that
                opened the stream, was sent. Only a snapshot moves the leases' anchor.

        Raises:
            ContractError: if it holds more entries than a client accepts, or two for one key. The
                table keeps what it had.
        """
        with self._lock:
            held = self._state.at
            if held is not None and change.at <= held:
                return self._renew(change.at, sent_at, whole=isinstance(change, Snapshot))
            if isinstance(change, Snapshot):
                entries = {entry.id: entry for entry in change.entries}
                if len(entries) != len(change.entries):
                    raise ContractError("two entries with one id")
            elif change.base != held:
                return Applied.GAP
            else:
                entries = merged_entries(self._state.entries, change)
            limits = self._state.limits if change.limits is None else change.limits
            self._swap(TableState(change.at, change.mode, entries, limits))
            if isinstance(change, Snapshot):
                self._anchor = max(self._anchor, sent_at)
            return Applied.CHANGED

    def renewed(self, at: StateVersion, sent_at: float) -> Applied:
        """Count leases from ``sent_at``: the collector said that ``at`` is still its state."""
        with self._lock:
            return self._renew(at, sent_at, whole=True)

    def _renew(self, at: StateVersion, sent_at: float, *, whole: bool) -> Applied:
        if at != self._state.at or not whole:
            return Applied.STALE
        self._anchor = max(self._anchor, sent_at)
        return Applied.RENEWED

    def _swap(self, state: TableState) -> None:
        if len(state.entries) > MAX_ENTRIES:
            raise ContractError(f"{len(state.entries)} entries; a client holds {MAX_ENTRIES}")
        keys = {(entry.scope, entry.key) for entry in state.entries.values()}
        if len(keys) != len(state.entries):
            raise ContractError("two entries for one key")
        self._tallies.hold(state.entries)
        if state.limits != self._state.limits:
            self._limits = self._limits.replace(state.limits)
        self._state = state
        self._index()

    def _index(self) -> None:
        self._mine = EntryIndex(self._state.entries.values(), self._tenant, self._service)
        self.is_idle = not self._mine and not self._limits
        self.rejecting = rejecting(self._state.entries.values(), self._tenant)

    def holds(self, call: str | None = None) -> bool:
        """Whether some user's entry is about this call, or any of the service, lapsed or not; or
        whether a limit counts what each user does.
        """
        if self.is_idle:
            return False
        # :meth:`decide` looks the call up by its wire id, too
        return bool(self._limits) or call is None or self._mine.is_about(wire_id(call))

    def decide(
        self,
        user: str | None,
        call: str,
        now: float,
        most_wait_s: float = 0.0,
        counted: AbstractSet[str] = frozenset(),
    ) -> Decision:
        """Whether this user's call may run.

        Args:
            user: the acting user as services name it; ``None``: only what is about all users'
                calls applies.
            call: the operation of this service.
            now: monotonic seconds.
            most_wait_s: seconds that the call can wait for its turn; 0: not at all. A call that is
                allowed with a delay has its place in line: it waits, or leaves
                (:meth:`leave_line`).
            counted: keys of the entries and limits that have let the request run before; those that
                let it run now are added, where it is no frozen set.
        """
        if self.is_idle:
            return CLEAR
        call = wire_id(call)
        mine = self._mine
        if mine.only_exact:
            entry = None if user is None else mine.exact.get((user, call))
            decision = CLEAR if entry is None else self._judge(entry, now, most_wait_s, counted)
        else:
            decision = self._judge_all(user, call, now, most_wait_s, counted)
        return self._within_limits(decision, user, call, now, counted) if self._limits else decision

    def flags(self, user: str | None, call: str, now: float) -> bool:
        """Whether an entry in force is about this user's call, whatever it does; counts nothing."""
        if self.is_idle or not self.enforce or self._state.mode is not PlatformMode.PROTECT:
            return False
        return any(
            now < self._anchor + entry.lease_ms / 1000
            for entry in self._mine.matching(user, wire_id(call))
        )

    def decide_for(self, service: str, user: str, call: str, now: float) -> Decision:
        """Whether a call may travel to its service, which decides alone in shadow and its ramp."""
        entry = self.rejecting.get((user, service, call))
        is_off = not self.enforce or self._state.mode is not PlatformMode.PROTECT
        if entry is None or is_off or now >= (ends_at := self._anchor + entry.lease_ms / 1000):
            return CLEAR
        with self._lock:
            return self._refuse(entry, now, ends_at)

    def _judge_all(
        self, user: str | None, call: str, now: float, most_s: float, counted: AbstractSet[str]
    ) -> Decision:
        """The first refusal of all entries that match; else the longest delay."""
        found = CLEAR
        for entry in self._mine.matching(user, call):
            decision = self._judge(entry, now, most_s, counted)
            if not decision.allowed:
                self.leave_line(found, now)
                return decision
            if found.entry is None or decision.delay_s > found.delay_s:
                self.leave_line(found, now)
                found = decision
            else:
                self.leave_line(decision, now)
        return found

    def _judge(
        self, entry: BreakerEntry, now: float, most_wait_s: float, counted: AbstractSet[str]
    ) -> Decision:
        ends_at = self._anchor + entry.lease_ms / 1000
        if not self.enforce:
            return Decision(True, entry, Reason.SWITCHED_OFF)
        if now >= ends_at + RAMP_S:
            return Decision(True, entry, Reason.LAPSED)
        if entry.mode is BreakerMode.FLAG:
            return Decision(True, entry, Reason.FLAGGED)
        if (key := budget_key(entry)) in counted:
            return Decision(True, entry, Reason.COUNTED)
        if now >= ends_at and self._chance() >= 1 - (now - ends_at) / RAMP_S:
            return Decision(True, entry, Reason.LAPSING)
        with self._lock:
            if entry.mode is BreakerMode.PACE:
                decision = self._pace(entry, now, most_wait_s)
            else:
                decision = self._refuse(entry, now, ends_at)
        if decision.allowed and isinstance(counted, set):
            counted.add(key)
        return decision

    def _pace(self, entry: BreakerEntry, now: float, most_wait_s: float) -> Decision:
        tally = self._tallies.of(entry)
        shadow = self._state.mode is not PlatformMode.PROTECT
        turn = tally.paced(now).turn(now, float("inf") if shadow else most_wait_s)
        if shadow:
            tally.would_reject += not turn.runs
            return Decision(True, entry, Reason.SHADOW)
        if turn.runs:
            return Decision(True, entry, Reason.PACED, delay_s=turn.delay_s)
        tally.rejected += 1
        return Decision(False, entry, Reason.BEYOND_PACE, max(1.0, turn.delay_s))

    def _refuse(self, entry: BreakerEntry, now: float, ends_at: float) -> Decision:
        tally = self._tallies.of(entry)
        if entry.mode is BreakerMode.TRICKLE and tally.take_token(entry.rate_per_s, now):
            return Decision(True, entry, Reason.TRICKLED)
        may_probe = now < ends_at and entry.prober and entry.prober == self._instance()
        if may_probe and tally.take_probe(entry.probe_per_s, now):
            return Decision(True, entry, Reason.PROBED)
        if self._state.mode is not PlatformMode.PROTECT:
            tally.would_reject += 1
            return Decision(True, entry, Reason.SHADOW)
        tally.rejected += 1
        retry_after_s = max(1.0, min(DEFAULT_RETRY_AFTER_S, ends_at - now))
        return Decision(False, entry, Reason.REJECTED, retry_after_s)

    def _within_limits(
        self, decision: Decision, user: str | None, call: str, now: float, counted: AbstractSet[str]
    ) -> Decision:
        """The decision, unless a declared limit refuses the call. Limits lapse as entries do."""
        ends_at = self._anchor + DEFAULT_LEASE_MS / 1000
        if not decision.allowed or not self.enforce or now >= ends_at + RAMP_S:
            return decision
        if now >= ends_at and self._chance() >= 1 - (now - ends_at) / RAMP_S:
            return decision
        with self._lock:
            exceeded = self._limits.decide(user, call, now, counted)
            if exceeded is None:
                return decision
            shadow = self._state.mode is not PlatformMode.PROTECT
            self._tallies.over_limit(exceeded.limit.id, user, call, shadow=shadow)
        if shadow:
            return decision if decision.entry else Decision(True, None, Reason.SHADOW)
        self.leave_line(decision, now)
        retry_after_s = exceeded.retry_after_s
        return Decision(False, None, Reason.OVER_LIMIT, retry_after_s, limit=exceeded.limit)

    def refuses_now(self, entry_id: str) -> bool:
        """Whether an entry that has paced calls refuses them by now."""
        entry = self._state.entries.get(entry_id)
        return entry is not None and entry.mode is BreakerMode.REJECT

    def leave_line(self, decision: Decision, decided_at: float) -> None:
        """A call that was to wait for its turn goes away before: its place is free again."""
        if decision.delay_s and decision.entry is not None:
            with self._lock:
                if (pacer := self._tallies.of(decision.entry).pacer) is not None:
                    pacer.leave(decided_at + decision.delay_s)

    @property
    def counts_costs(self) -> bool:
        """Whether a limit is declared on what calls cost, which :meth:`spent` is to be told."""
        return self._limits.post_paid

    def spent(
        self, user: str | None, call: str, amounts: Mapping[LimitUnit, float], now: float
    ) -> None:
        """A call of this service has ended, and has cost so much."""
        if self._limits:
            with self._lock:
                self._limits.spent(user, wire_id(call), amounts, now)

    def offered(self, seconds: float) -> tuple[Offered, ...]:
        """What came of the keys that have a budget, a second, over the last so many seconds; the
        counts start again at 0. At most as many as a report may tell, those with most first.
        """
        with self._lock:
            paced = self._tallies.offered(self._mine.paced, seconds)
            return tuple([*paced, *self._limits.offered(seconds)][:MAX_OFFERED])

    @property
    def deals(self) -> bool:
        """Whether anything here has a budget that is dealt out by what is offered."""
        return bool(self._limits or self._mine.paced)

    def deal(self, shares: Mapping[str, float], sent_at: float, now: float) -> None:
        """Take the shares of budgets that the answer to a report, sent at ``sent_at``, deals."""
        with self._lock:
            self._tallies.deal(shares, sent_at, now)
            self._limits.deal(shares, sent_at + SHARE_S, now)

    def drain_rejections(self) -> tuple[Rejections, ...]:
        """Calls refused since the last drain, by entry or limit; the counts start again at 0."""
        with self._lock:
            return self._tallies.drain(self._state.entries, self._service)

    def forget_rejections(self) -> None:
        """In a child process: what the parent has refused, or was asked for, the parent reports.

        The fork may have come while the parent's thread took a state over, so what is made of the
        state is made anew.
        """
        self._tallies = Tallies()
        self._limits = self._limits.replace(self._state.limits)
        self._limits.forget_offered()
        self._index()

    def would_have_rejected(self) -> dict[str, int]:
        """Calls by entry id that shadow mode let through although they matched."""
        with self._lock:
            return self._tallies.would_have_rejected()
