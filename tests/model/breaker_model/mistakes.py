"""Mistakes that the machines could have, each as a patch of them."""

from dataclasses import replace
from typing import Any

import pytest

from breaker_model.world import Message, World
from heatshield.breakers import lease_table
from heatshield.breakers.decision import CLEAR, Decision, Reason
from heatshield.breakers.lease_table import Applied, BreakerTable
from heatshield.contract import BreakerEntry, ContractError, Delta, PlatformMode, Snapshot
from heatshield_alerts import breaker_control, entry_checks, held_breaker
from heatshield_alerts.breaker_changes import History
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.caps import Caps
from heatshield_alerts.control_state import KeptControl
from heatshield_alerts.demand import Demand
from heatshield_alerts.entry_checks import EntryChecks
from heatshield_alerts.held_breaker import COOL_S, HeldBreaker
from heatshield_alerts.probes import Probers, prober_for
from heatshield_alerts.report_numbers import ReportNumbers
from heatshield_alerts.restraint import Restraint


def decides_by_call_alone(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable.decide

    def decide(self: BreakerTable, user: str, call: str, now: float, most_s: float = 0.0) -> Any:
        whose = next((u for u, c in self._mine.exact if c == call), user)
        return real(self, whose, call, now, most_s)

    patch.setattr(BreakerTable, "decide", decide)


def callers_hold_on(patch: pytest.MonkeyPatch) -> None:
    def decide_for(self: BreakerTable, service: str, user: str, call: str, now: float) -> Any:
        entry = self.rejecting.get((user, service, call))
        return CLEAR if entry is None else Decision(False, entry, Reason.REJECTED)

    patch.setattr(BreakerTable, "decide_for", decide_for)


def ramp_never_ends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lease_table, "RAMP_S", 1e9)


def leases_count_from_receipt(patch: pytest.MonkeyPatch) -> None:
    real = World.deliver

    def deliver(self: World, c: int, message: Message) -> Applied:
        truth = self.ledger.answered(c, message.sent_at)
        applied = real(self, c, replace(message, sent_at=self.now))
        self.ledger = truth
        return applied

    patch.setattr(World, "deliver", deliver)


def older_states_are_taken(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable.apply

    def apply(self: BreakerTable, change: Snapshot | Delta, sent_at: float) -> Applied:
        if isinstance(change, Snapshot):
            self._state = replace(self._state, at=None)
        return real(self, change, sent_at)

    patch.setattr(BreakerTable, "apply", apply)


def deltas_fit_any_base(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable.apply

    def apply(self: BreakerTable, change: Snapshot | Delta, sent_at: float) -> Applied:
        if isinstance(change, Delta) and self.at is not None:
            change = replace(change, base=self.at)
        return real(self, change, sent_at)

    patch.setattr(BreakerTable, "apply", apply)


def deltas_forget_what_ended(patch: pytest.MonkeyPatch) -> None:
    real = History.delta

    def delta(self: History, *args: Any) -> Delta | None:
        found = real(self, *args)
        return None if found is None else replace(found, remove=())

    patch.setattr(History, "delta", delta)


def caps_are_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(entry_checks, "cap", lambda *_: None)


def restart_asks_for_no_cap(patch: pytest.MonkeyPatch) -> None:
    real = BreakerControl.restore

    def restore(self: BreakerControl, kept: KeptControl, now: Any) -> Any:
        caps, self.checks.caps = self.checks.caps, Caps()
        try:
            return real(self, kept, now)
        finally:
            self.checks.caps = caps

    patch.setattr(BreakerControl, "restore", restore)


def flags_turn_stricter_unasked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EntryChecks, "unrenewable", lambda *_: None)


def every_client_probes(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable._refuse

    def refuse(self: BreakerTable, entry: BreakerEntry, now: float, ends_at: float) -> Any:
        mine, self._instance = self._instance, lambda: entry.prober
        try:
            return real(self, entry, now, ends_at)
        finally:
            self._instance = mine

    patch.setattr(BreakerTable, "_refuse", refuse)


def quota_is_handed_on_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Probers, "choose", lambda _, key, instances, *__: prober_for(key, instances))
    patch.setattr(BreakerControl, "_await_prober", lambda *_: None)


def any_issuer_will_do(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(breaker_control, "check", lambda _: None)


def kill_switch_is_ignored(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable._judge

    def judge(self: BreakerTable, *args: Any) -> Any:
        enforces, self.enforce = self.enforce, True
        try:
            return real(self, *args)
        finally:
            self.enforce = enforces

    patch.setattr(BreakerTable, "_judge", judge)


def shadow_refuses(patch: pytest.MonkeyPatch) -> None:
    real = BreakerTable._refuse

    def refuse(self: BreakerTable, entry: BreakerEntry, now: float, ends_at: float) -> Any:
        state, self._state = self._state, replace(self._state, mode=PlatformMode.PROTECT)
        try:
            return real(self, entry, now, ends_at)
        finally:
            self._state = state

    patch.setattr(BreakerTable, "_refuse", refuse)


def parsing_guesses(patch: pytest.MonkeyPatch) -> None:
    real = BreakerEntry.from_json

    def guess(value: Any) -> BreakerEntry:
        try:
            return real(value)
        except ContractError:
            return replace(real({**value, "mode": "reject", "lease_ms": 30_000}), lease_ms=10**9)

    patch.setattr(BreakerEntry, "from_json", guess)


def keys_may_flap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Restraint, "may_open", lambda *_: True)


def flapping_keys_are_let_be(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Restraint, "may_leave", Restraint.may_open)
    patch.setattr(HeldBreaker, "cool_s", property(lambda _: COOL_S, lambda *_: None))


def clearing_holds_nothing_down(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Restraint, "hold_down", lambda *_: None)


def restart_forgets_hold_downs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeptControl, "restraint", lambda *_: Restraint())


def epoch_does_not_grow(patch: pytest.MonkeyPatch) -> None:
    real = BreakerControl.__init__
    patch.setattr(BreakerControl, "__init__", lambda self, _, *rest: real(self, 1, *rest))


def failing_rules_hold_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HeldBreaker, "is_over", lambda self, now: now - self.granted_s >= self.hold_s)


def reports_count_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReportNumbers, "is_new", lambda *_: True)


def refuses_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(held_breaker, "ESCALATE_S", 0.0)


def pacing_refuses(patch: pytest.MonkeyPatch) -> None:
    def pace(self: BreakerTable, entry: BreakerEntry, now: float, _: float) -> Any:
        return self._refuse(entry, now, now)

    patch.setattr(BreakerTable, "_pace", pace)


def renewals_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BreakerTable, "_renew", lambda *_, **__: Applied.STALE)


def demand_is_never_low(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Demand, "low_for_s", lambda *_: 0.0)
