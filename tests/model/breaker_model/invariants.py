"""What must hold in every state, each by its number in the protocol's design.

The explicit-state search and the stateful tests of the real implementation both ask these. Each
takes a :class:`View` and answers with what is wrong, or ``None``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from breaker_model.ledger import Ledger, content
from heatshield.breakers.decision import Decision, Reason
from heatshield.breakers.lease_table import BreakerTable
from heatshield.call_key import CallKey
from heatshield.contract import MAX_LEASE_MS, RAMP_S, BreakerMode, PlatformMode, StateVersion
from heatshield_alerts import restraint
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.caps import FEW, Caps

__all__ = ["ALWAYS_WORKS", "INVARIANTS", "View", "broken"]

_EPS: Final = 1e-6
ROUND_S: Final = 0.25

ALWAYS_WORKS: Final = "Flag"
"""A rule that never fails, unlike the others."""


@dataclass
class View:
    """A state, as invariants look at it.

    Attributes:
        control: the collector's machine.
        caps: that it keeps.
        active_users: that it knows of.
        tables: the clients'.
        draw: what a client (by number) would answer to a user's call now, deciding nothing; with
            ``outgoing=True``, to one that is about to leave for the service.
        keys: that anybody may ask to cut.
        nobody: a user that nobody asks to cut.
        ledger: what really happened.
        now: the true time.
        before: the versions of the clients' tables in the state before, ``None`` where it was
            restarted or held none, and the server's.
        is_round: this state comes of a round.
    """

    control: BreakerControl
    caps: Caps
    active_users: int
    tables: Sequence[BreakerTable]
    draw: Callable[..., Decision]
    keys: Sequence[CallKey]
    nobody: str
    ledger: Ledger
    now: float
    before: tuple[tuple[StateVersion | None, ...], StateVersion]
    is_round: bool = False

    @cached_property
    def refusals(self) -> list[tuple[int, CallKey, Decision]]:
        """The keys that a client would refuse now."""
        found = []
        for c, table in enumerate(self.tables):
            for key in self.keys if table.entries else ():
                decision = self.draw(c, key.user or "", key.call)
                if not decision.allowed:
                    found.append((c, key, decision))
        return found


def enforced_means_granted(view: View) -> str | None:
    """1: what is refused was granted for exactly this key, not longer ago than a lease and ramp."""
    for c, key, decision in view.refusals:
        entry = decision.entry
        if entry is None or entry.key != key:
            return f"client {c} refuses {key.user} for an entry on {entry and entry.key}"
        granted_s = view.ledger.granted_s.get((key, entry.mode), float("-inf"))
        left_s = granted_s + entry.lease_ms / 1_000 + RAMP_S - view.now
        if left_s < -_EPS:
            return f"client {c} refuses {key.user} {-left_s:g} s after lease and ramp of the grant"
        if view.tables[c].mode is not PlatformMode.PROTECT:
            return f"client {c} refuses {key.user} in shadow mode"
    for c, table in enumerate(view.tables):
        if table.entries and not view.draw(c, view.nobody, view.keys[0].call).allowed:
            return f"client {c} refuses a user whom nobody asked to cut"
    return None


def callers_refuse_no_more(view: View) -> str | None:
    """1, where a call would travel: a caller refuses only what the service itself would."""
    refused = {(c, key) for c, key, _ in view.refusals}
    for c, table in enumerate(view.tables):
        for key in view.keys if table.rejecting else ():
            travels = view.draw(c, key.user or "", key.call, outgoing=True).allowed
            if not travels and (c, key) not in refused:
                return f"client {c} lets no call of {key.user} travel that the service would run"
    return None


def silence_ends_enforcement(view: View) -> str | None:
    """2: nothing is enforced a lease and a ramp after the last request that was answered."""
    for c, key, decision in view.refusals:
        assert decision.entry is not None
        answered_s = view.ledger.answered_s.get(c, float("-inf"))
        left_s = answered_s + decision.entry.lease_ms / 1_000 + RAMP_S - view.now
        if left_s < -_EPS:
            return f"client {c} refuses {key.user}, and the last answer was too long ago"
    return None


def versions_never_go_back(view: View) -> str | None:
    """3: neither a client's version nor the server's."""
    held, at = view.before
    for c, (was, table) in enumerate(zip(held, view.tables, strict=True)):
        if was is not None and (table.at is None or table.at < was):
            return f"client {c} went from {was} to {table.at}"
    return f"the server went from {at} to {view.control.at}" if view.control.at < at else None


def clients_hold_what_was_said(view: View) -> str | None:
    """4: a table holds exactly what the server's state was at the table's version."""
    for c, table in enumerate(view.tables):
        if table.at is None:
            continue
        said = view.ledger.said.get(table.at)
        if said != (table.mode, frozenset(map(content, table.entries))):
            return f"client {c} holds at {table.at} what the server never was at {table.at}"
    return None


def caps_hold(view: View) -> str | None:
    """6: the caps, in every state."""
    held, caps = view.control.held, view.caps
    if len(held) > caps.entries:
        return f"{len(held)} entries are held; the cap is {caps.entries}"
    held_up = [row for row in held if row.holds_up]
    refused = [row for row in held_up if row.draft.refuses]
    for rows, least in ((held_up, FEW), (refused, 1)):
        users = {row.key.user for row in rows}
        if len(users) > caps.users(view.active_users, least):
            return f"rules hold up {len(users)} users; the cap is {caps.user_share:.0%}"
        for call in {(row.key.service, row.key.call) for row in rows}:
            here = [row for row in rows if (row.key.service, row.key.call) == call]
            traffic = sum(row.draft.traffic for row in here)
            if len(here) > least and traffic > caps.traffic_share + _EPS:
                return f"rules hold up {traffic:.0%} of the traffic of {call[1]}"
    opened = [at for at in view.ledger.opened_s if view.now - at <= 60.0]
    if len(opened) > caps.new_per_minute:
        return f"{len(opened)} new entries in a minute; the cap is {caps.new_per_minute}"
    return None


def probes_keep_their_quota(view: View) -> str | None:
    """7: of one key, the whole fleet lets no more probes through in a second than the quota."""
    probes = [one for one in view.ledger.probes if view.now - one.at_s < 1.0 - _EPS]
    for key in {one.key for one in probes}:
        mine = [one for one in probes if one.key == key]
        quota = max(1.0, *(one.quota_per_s for one in mine))
        if len(mine) > quota + _EPS:
            return f"{len(mine)} probes of {key.user} in a second; the quota is {quota:g}"
    return None


def entries_name_their_issuer(view: View) -> str | None:
    """9: every entry names a rule or a person."""
    for row in view.control.held:
        kind, _, name = row.entry.issuer.partition(":")
        if kind not in ("rule", "human") or not name:
            return f"{row.entry.issuer!r} holds an entry"
    return None


def kill_switch_stops_all(view: View) -> str | None:
    """10: the local kill switch: nothing is refused."""
    for c, key, _ in view.refusals:
        table = view.tables[c]
        enforces, table.enforce = table.enforce, False
        try:
            if not view.draw(c, key.user or "", key.call).allowed:
                return f"client {c} refuses {key.user} though its kill switch is thrown"
        finally:
            table.enforce = enforces
    return None


def leases_keep_their_ceiling(view: View) -> str | None:
    """11: no client holds what the contract forbids, whatever it was sent."""
    for c, table in enumerate(view.tables):
        for entry in table.entries:
            if not 0 < entry.lease_ms <= MAX_LEASE_MS or "*" in (entry.service, entry.call):
                return f"client {c} holds {entry.id}, which the contract forbids"
    return None


def keys_move_seldom(view: View) -> str | None:
    """12: no key changes its state more often than it may."""
    for key, times in view.ledger.moves.items():
        recent = sum(view.now - at <= restraint.MOVES_WINDOW_S for at in times)
        if recent > restraint.MAX_MOVES:
            return f"{key.user} moved {recent} times in ten minutes"
    return None


def flapping_keys_are_held(view: View) -> str | None:
    """12, its other half: a key that moves often by its demand alone is held, never let be."""
    return view.ledger.let_be[0] if view.ledger.let_be else None


def cleared_stays_cleared(view: View) -> str | None:
    """14: what a person cleared no rule holds again within the hold-down, restart or not."""
    for row in view.control.held:
        cleared_s = view.ledger.cleared_s.get(row.key, float("-inf"))
        if not row.draft.by_human and view.now - cleared_s < restraint.HOLD_DOWN_S - _EPS:
            return f"a rule holds {row.key.user} {view.now - cleared_s:g} s after it was cleared"
    return None


def rules_that_fail_let_go(view: View) -> str | None:
    """An alert acts only while its rule is evaluated: its entry ends within a lease."""
    if not view.is_round:
        return None
    for row in view.control.held:
        silent_s = view.now - view.ledger.worked_s - row.entry.lease_ms / 1_000
        if row.rule not in ("", ALWAYS_WORKS) and silent_s > ROUND_S:
            return f"{row.key.user} is held {silent_s:g} s after its rule's last lease"
    return None


def refusals_count_once(view: View) -> str | None:
    """Demand counts no call that was not refused: a report that comes twice counts once."""
    for row in view.control.held:
        counted = sum(count for _, count in row.demand._rejected)
        if counted > view.ledger.refused.get(row.entry.id, 0):
            return f"{counted} refused calls of {row.key.user} are counted, more than there were"
    return None


def pacing_comes_first(view: View) -> str | None:
    """A paced user is refused only after two seconds of pacing, and pacing lets calls through."""
    if view.ledger.troubles:
        return view.ledger.troubles[0]
    for c, key, decision in view.refusals:
        entry, tally = decision.entry, None
        if entry is not None and entry.mode is BreakerMode.PACE:
            tally = view.tables[c]._tallies._by_id.get(entry.id)
            if tally is None or tally.pacer is None or decision.reason is Reason.REJECTED:
                return f"client {c} refuses the first call of {key.user}, who is only paced"
    return None


INVARIANTS: Final[tuple[Callable[[View], str | None], ...]] = (
    enforced_means_granted,
    callers_refuse_no_more,
    silence_ends_enforcement,
    versions_never_go_back,
    clients_hold_what_was_said,
    caps_hold,
    probes_keep_their_quota,
    entries_name_their_issuer,
    kill_switch_stops_all,
    leases_keep_their_ceiling,
    keys_move_seldom,
    flapping_keys_are_held,
    cleared_stays_cleared,
    rules_that_fail_let_go,
    refusals_count_once,
    pacing_comes_first,
)


def broken(view: View) -> str | None:
    """The first invariant that does not hold, and how; ``None``: all do."""
    for invariant in INVARIANTS:
        trouble = invariant(view)
        if trouble is not None:
            return f"{invariant.__name__}: {trouble}"
    return None
