"""Mistakes that the machines could have: the search must find each, or it proves nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

import pytest

from breaker_model import roots
from breaker_model.actions import Alphabet
from breaker_model.world import Message, World
from heatshield.breakers import lease_table
from heatshield.breakers.decision import CLEAR, Decision, Reason
from heatshield.breakers.lease_table import Applied, BreakerTable
from heatshield.contract import BreakerEntry, ContractError, Delta, Snapshot
from heatshield_alerts import breaker_control, entry_checks, held_breaker
from heatshield_alerts.breaker_changes import History
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.caps import Caps
from heatshield_alerts.control_state import KeptControl
from heatshield_alerts.demand import Demand
from heatshield_alerts.entry_checks import EntryChecks
from heatshield_alerts.held_breaker import HeldBreaker
from heatshield_alerts.probes import Probers, prober_for
from heatshield_alerts.report_numbers import ReportNumbers
from heatshield_alerts.restraint import Restraint

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """A mistake, and where it shows.

    Attributes:
        name: what goes wrong.
        caught_by: the invariants that notice, one of them at least.
        make: patches the machines.
        root: where the search begins.
        alphabet: what may happen, few things so that the search gets far.
        settle_every: of so many states one comes to rest.
    """

    name: str
    caught_by: tuple[str, ...]
    make: Callable[[pytest.MonkeyPatch], None]
    root: Callable[[], World]
    alphabet: Alphabet
    settle_every: int = 0


def _decides_by_call_alone(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable.decide

    def decide(self: BreakerTable, user: str, call: str, now: float, most_s: float = 0.0) -> Any:
        whose = next((u for u, c in self._mine.exact if c == call), user)
        return real(self, whose, call, now, most_s)

    patch.setattr(BreakerTable, "decide", decide)


def _callers_hold_on(patch: pytest.MonkeyPatch) -> None:
    def decide_for(self: BreakerTable, service: str, user: str, call: str, now: float) -> Any:
        entry = self.rejecting.get((user, service, call))
        return CLEAR if entry is None else Decision(False, entry, Reason.REJECTED)

    patch.setattr(BreakerTable, "decide_for", decide_for)


def _ramp_never_ends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lease_table, "RAMP_S", 1e9)


def _leases_count_from_receipt(patch: pytest.MonkeyPatch) -> None:
    real = World.deliver

    def deliver(self: World, c: int, message: Message) -> Applied:
        truth = self.ledger.answered(c, message.sent_at)
        applied = real(self, c, replace(message, sent_at=self.now))
        self.ledger = truth
        return applied

    patch.setattr(World, "deliver", deliver)


def _older_states_are_taken(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable.apply

    def apply(self: BreakerTable, change: Snapshot | Delta, sent_at: float) -> Applied:
        if isinstance(change, Snapshot):
            self._state = replace(self._state, at=None)
        return real(self, change, sent_at)

    patch.setattr(BreakerTable, "apply", apply)


def _deltas_fit_any_base(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable.apply

    def apply(self: BreakerTable, change: Snapshot | Delta, sent_at: float) -> Applied:
        if isinstance(change, Delta) and self.at is not None:
            change = replace(change, base=self.at)
        return real(self, change, sent_at)

    patch.setattr(BreakerTable, "apply", apply)


def _deltas_forget_what_ended(patch: pytest.MonkeyPatch) -> None:
    real = History.delta

    def delta(self: History, *args: Any) -> Delta | None:
        found = real(self, *args)
        return None if found is None else replace(found, remove=())

    patch.setattr(History, "delta", delta)


def _caps_are_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(entry_checks, "cap", lambda *_: None)


def _restart_asks_for_no_cap(patch: pytest.MonkeyPatch) -> None:
    real = BreakerControl.restore

    def restore(self: BreakerControl, kept: KeptControl, now: Any) -> Any:
        caps, self._checks.caps = self._checks.caps, Caps()
        try:
            return real(self, kept, now)
        finally:
            self._checks.caps = caps

    patch.setattr(BreakerControl, "restore", restore)


def _flags_turn_stricter_unasked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EntryChecks, "unrenewable", lambda *_: None)


def _every_client_probes(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable._refuse

    def refuse(self: BreakerTable, entry: BreakerEntry, now: float, ends_at: float) -> Any:
        mine, self._instance = self._instance, lambda: entry.prober
        try:
            return real(self, entry, now, ends_at)
        finally:
            self._instance = mine

    patch.setattr(BreakerTable, "_refuse", refuse)


def _quota_is_handed_on_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Probers, "choose", lambda _, key, instances, *__: prober_for(key, instances))
    patch.setattr(BreakerControl, "_await_prober", lambda *_: None)


def _any_issuer_will_do(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(breaker_control, "check", lambda _: None)


def _kill_switch_is_ignored(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable._judge

    def judge(self: BreakerTable, *args: Any) -> Any:
        enforces, self.enforce = self.enforce, True
        try:
            return real(self, *args)
        finally:
            self.enforce = enforces

    patch.setattr(BreakerTable, "_judge", judge)


def _parsing_guesses(patch: pytest.MonkeyPatch) -> None:
    real = BreakerEntry.from_json

    def guess(value: Any) -> BreakerEntry:
        try:
            return real(value)
        except ContractError:
            return replace(real({**value, "mode": "reject", "lease_ms": 30_000}), lease_ms=10**9)

    patch.setattr(BreakerEntry, "from_json", guess)


def _keys_may_flap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Restraint, "may_open", lambda *_: True)


def _clearing_holds_nothing_down(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Restraint, "hold_down", lambda *_: None)


def _restart_forgets_hold_downs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeptControl, "restraint", lambda *_: Restraint())


def _epoch_does_not_grow(patch: pytest.MonkeyPatch) -> None:
    real = BreakerControl.__init__
    patch.setattr(BreakerControl, "__init__", lambda self, _, *rest: real(self, 1, *rest))


def _failing_rules_hold_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HeldBreaker, "is_over", lambda self, now: now - self.granted_s >= self.hold_s)


def _reports_count_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReportNumbers, "is_new", lambda *_: True)


def _refuses_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(held_breaker, "ESCALATE_S", 0.0)
    patch.setattr(held_breaker, "INSISTS_S", 0.0)


def _pacing_refuses(patch: pytest.MonkeyPatch) -> None:
    def pace(self: BreakerTable, entry: BreakerEntry, now: float, _: float) -> Any:
        return self._refuse(entry, now, now)

    patch.setattr(BreakerTable, "_pace", pace)


def _renewals_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BreakerTable, "_renew", lambda *_, **__: Applied.STALE)


def _demand_is_never_low(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Demand, "low_for_s", lambda *_: 0.0)


def _many() -> World:
    return roots.cold(Caps(entries=5))


def _only(pattern: str, **fields: Any) -> Alphabet:
    return Alphabet(only=pattern, **fields)


_GRANTED = ("enforced_means_granted", "silence_ends_enforcement")
_SAID = ("clients_hold_what_was_said",)
_CAPS = ("caps_hold",)
_QUIET = ("quiet_means_agreed",)

MUTANTS: Final = (
    Mutant(
        "the user is not looked at",
        _GRANTED,
        _decides_by_call_alone,
        roots.refused,
        _only("report"),
    ),
    Mutant(
        "callers hold on to what has lapsed",
        ("callers_refuse_no_more",),
        _callers_hold_on,
        roots.refused,
        _only("stall|pass"),
    ),
    Mutant("the ramp never ends", _GRANTED, _ramp_never_ends, roots.refused, _only("stall|pass")),
    Mutant(
        "leases count from receipt",
        ("silence_ends_enforcement",),
        _leases_count_from_receipt,
        roots.refused,
        _only("client 0 asks|stall|client 0 receives|pass"),
    ),
    Mutant(
        "older states are taken",
        ("versions_never_go_back",),
        _older_states_are_taken,
        roots.refused,
        _only("a person|client 0 asks|client 0 receives"),
    ),
    Mutant(
        "deltas fit any base",
        _SAID,
        _deltas_fit_any_base,
        roots.paced,
        _only("turns hot|cools|a person|tells client 0|client 0 receives"),
    ),
    Mutant(
        "deltas forget what ended",
        _SAID,
        _deltas_forget_what_ended,
        roots.refused,
        _only("a person|tells client 0|client 0 receives"),
    ),
    Mutant(
        "caps are not asked",
        _CAPS,
        _caps_are_not_asked,
        roots.cold,
        _only("a person", people=(0, 1)),
    ),
    Mutant(
        "a restart asks for no cap",
        _CAPS,
        _restart_asks_for_no_cap,
        roots.paced,
        _only("restarts", low_caps=Caps(entries=1)),
    ),
    Mutant(
        "flags turn stricter unasked",
        _CAPS,
        _flags_turn_stricter_unasked,
        roots.one_user,
        _only("turns hot|flags", flags=True),
    ),
    Mutant(
        "every client probes",
        ("probes_keep_their_quota",),
        _every_client_probes,
        roots.half_open,
        _only("calls"),
    ),
    Mutant(
        "the quota is handed on at once",
        ("probes_keep_their_quota",),
        _quota_is_handed_on_at_once,
        roots.half_open,
        _only("bob calls|collector restarts$|client 1 (reports|receives|asks)|^1 s pass"),
    ),
    Mutant(
        "any issuer will do",
        ("entries_name_their_issuer",),
        _any_issuer_will_do,
        roots.cold,
        _only("a person"),
    ),
    Mutant(
        "the kill switch is ignored",
        ("kill_switch_stops_all",),
        _kill_switch_is_ignored,
        roots.refused,
        _only("reports"),
    ),
    Mutant(
        "parsing guesses",
        (*_SAID, "leases_keep_their_ceiling"),
        _parsing_guesses,
        roots.refused,
        _only("turns hot|client 0 asks|garbled"),
    ),
    Mutant("keys may flap", ("keys_move_seldom",), _keys_may_flap, _many, _only("a person")),
    Mutant(
        "clearing holds nothing down",
        ("cleared_stays_cleared",),
        _clearing_holds_nothing_down,
        roots.refused,
        _only("a person|turns hot"),
    ),
    Mutant(
        "a restart forgets hold-downs",
        ("cleared_stays_cleared",),
        _restart_forgets_hold_downs,
        roots.refused,
        _only("a person|restarts|turns hot"),
    ),
    Mutant(
        "the epoch does not grow",
        ("versions_never_go_back",),
        _epoch_does_not_grow,
        roots.refused,
        _only("restarts"),
    ),
    Mutant(
        "failing rules hold on",
        ("rules_that_fail_let_go",),
        _failing_rules_hold_on,
        roots.refused,
        _only("fail|pass"),
    ),
    Mutant(
        "reports count twice",
        ("refusals_count_once",),
        _reports_count_twice,
        roots.refused,
        _only("calls|report"),
    ),
    Mutant(
        "users are refused at once",
        ("pacing_comes_first",),
        _refuses_at_once,
        roots.cold,
        _only("turns hot"),
    ),
    Mutant(
        "pacing refuses", ("pacing_comes_first",), _pacing_refuses, roots.paced, _only("report")
    ),
    Mutant("renewals are ignored", _QUIET, _renewals_are_ignored, roots.refused, _only("stall"), 1),
    Mutant(
        "demand is never low",
        ("gone_means_closed",),
        _demand_is_never_low,
        roots.refused,
        _only("calls"),
        1,
    ),
)
