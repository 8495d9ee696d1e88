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
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final, NamedTuple

from heatshield.breakers.tally import MAX_ENTRIES, Tallies
from heatshield.contract import (
    DEFAULT_TENANT,
    RAMP_S,
    RENEW_S,
    BreakerEntry,
    BreakerMode,
    ContractError,
    Delta,
    PlatformMode,
    Rejections,
    Snapshot,
    StateVersion,
)
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


class Reason(StrEnum):
    """Why a call was let through or refused."""

    CLEAR = "clear"
    """No entry names this user and call."""
    REJECTED = "rejected"
    TRICKLED = "trickled"
    """Let through within the rate of a trickle."""
    FLAGGED = "flagged"
    SHADOW = "shadow"
    """Would have been refused; the platform only watches."""
    LAPSING = "lapsing"
    """The lease has ended and the ramp let this call through."""
    LAPSED = "lapsed"
    """Lease and ramp are over."""
    SWITCHED_OFF = "switched off"
    """The local kill switch is thrown."""


class Decision(NamedTuple):
    """The answer to one call."""

    allowed: bool
    entry: BreakerEntry | None
    reason: Reason
    retry_after_s: float = 0.0


CLEAR: Final = Decision(True, None, Reason.CLEAR)


@dataclass(frozen=True, slots=True)
class _State:
    """One version of the state; replaced as a whole, never changed."""

    at: StateVersion | None = None
    mode: PlatformMode = PlatformMode.SHADOW
    entries: Mapping[str, BreakerEntry] = field(default_factory=dict)


class BreakerTable:
    """Grants held for one tenant and one service.

    Args:
        service: whose calls this process answers.
        tenant: whose platform it belongs to.
        enforce: ``False`` refuses nothing; may be switched at any time through the attribute.
        chance: uniform random numbers in [0, 1), for the ramp.
    """

    def __init__(
        self,
        service: str,
        tenant: str = DEFAULT_TENANT,
        *,
        enforce: bool = True,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.enforce = enforce
        self._service = wire_id(service)  # as the collector names it
        self._tenant = tenant
        self._chance = chance
        self._lock = lock()
        self._state = _State()
        # By what varies of a CallKey here, (user, call): two parts hash faster than four.
        self._mine: Mapping[tuple[str, str], BreakerEntry] = {}
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
                entries = _merged(self._state.entries, change)
            self._swap(_State(change.at, change.mode, entries))
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

    def _swap(self, state: _State) -> None:
        if len(state.entries) > MAX_ENTRIES:
            raise ContractError(f"{len(state.entries)} entries; a client holds {MAX_ENTRIES}")
        keys = {entry.key for entry in state.entries.values()}
        if len(keys) != len(state.entries):
            raise ContractError("two entries for one key")
        self._tallies.hold(state.entries)
        self._state = state
        self._mine = {
            (entry.user, entry.call): entry
            for entry in state.entries.values()
            if entry.tenant == self._tenant and entry.service == self._service
        }

    def holds(self, call: str | None = None) -> bool:
        """Whether some user's entry is about this call, or any of the service; lapsed or not."""
        if call is None:
            return bool(self._mine)
        call = wire_id(call)  # as :meth:`decide` looks it up
        return any(call == held for _, held in self._mine)

    def decide(self, user: str | None, call: str, now: float) -> Decision:
        """Whether this user's call may run.

        Args:
            user: the acting user as services name it; ``None`` is never refused.
            call: the operation of this service.
            now: monotonic seconds.
        """
        mine = self._mine
        if not mine or user is None:
            return CLEAR
        entry = mine.get((user, wire_id(call)))
        return CLEAR if entry is None else self._judge(entry, now)

    def _judge(self, entry: BreakerEntry, now: float) -> Decision:
        ends_at = self._anchor + entry.lease_ms / 1000
        if not self.enforce:
            return Decision(True, entry, Reason.SWITCHED_OFF)
        if now >= ends_at + RAMP_S:
            return Decision(True, entry, Reason.LAPSED)
        if entry.mode is BreakerMode.FLAG:
            return Decision(True, entry, Reason.FLAGGED)
        if now >= ends_at and self._chance() >= 1 - (now - ends_at) / RAMP_S:
            return Decision(True, entry, Reason.LAPSING)
        with self._lock:
            return self._refuse(entry, now, ends_at)

    def _refuse(self, entry: BreakerEntry, now: float, ends_at: float) -> Decision:
        tally = self._tallies.of(entry)
        if entry.mode is BreakerMode.TRICKLE and tally.take_token(entry.rate_per_s, now):
            return Decision(True, entry, Reason.TRICKLED)
        if self._state.mode is not PlatformMode.PROTECT:
            tally.would_reject += 1
            return Decision(True, entry, Reason.SHADOW)
        tally.rejected += 1
        retry_after_s = max(1.0, min(DEFAULT_RETRY_AFTER_S, ends_at - now))
        return Decision(False, entry, Reason.REJECTED, retry_after_s)

    def drain_rejections(self) -> tuple[Rejections, ...]:
        """Calls refused since the last drain, by entry; the counts start again at 0."""
        with self._lock:
            return self._tallies.drain(self._state.entries)

    def forget_rejections(self) -> None:
        """In a child process: what the parent has refused, the parent reports."""
        self._tallies = Tallies()

    def would_have_rejected(self) -> dict[str, int]:
        """Calls by entry id that shadow mode let through although they matched."""
        with self._lock:
            return self._tallies.would_have_rejected()


def _merged(entries: Mapping[str, BreakerEntry], delta: Delta) -> dict[str, BreakerEntry]:
    merged = {name: entry for name, entry in entries.items() if name not in delta.remove}
    merged.update((entry.id, entry) for entry in delta.upsert)
    return merged
