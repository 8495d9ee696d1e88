"""The registry's life of a breaker, over chosen histories."""

import math

import pytest

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.contract import (
    DEFAULT_LEASE_MS,
    BreakerMode,
    PlatformMode,
    Rejections,
    Report,
    Snapshot,
    StateVersion,
)
from heatshield_alerts import (
    BreakerControl,
    BreakerState,
    ChangeKind,
    Draft,
    HeldBreaker,
    Reason,
    Refuse,
    Trip,
)
from heatshield_alerts.breaker_changes import HISTORY
from heatshield_alerts.caps import Caps
from heatshield_alerts.held_breaker import COOL_S, HALF_OPEN_S
from heatshield_alerts.restraint import HOLD_DOWN_S, REFUSAL_REPEAT_S
from heatshield_alerts.seen import Seen

KEY = CallKey(DEFAULT_TENANT, "u-1", "shop", "POST /p")
USERS = 10_000


def draft(user: str = "u-1", issuer: str = "rule:HarmfulUser", **fields) -> Draft:
    given = {
        "threshold": 0.9,
        "cost_per_call": 0.1,
        "reason": "hot",
        "evidence": {"trace_ids": ["aa"]},
        **fields,
    }
    call = given.pop("call", KEY.call)
    return Draft(KEY._replace(user=user, call=call), issuer, **given)


def rejected(control: BreakerControl, count: int, now: float) -> None:
    entry = control.snapshot().entries[0]
    row = Rejections(entry.id, count, entry.user, entry.service, entry.call)
    control.report(Report("shop", "i-1", 1, control.at, (row,)), now)


def held(control: BreakerControl, key: CallKey = KEY) -> HeldBreaker:
    return {row.key: row for row in control.held}[key]


def run(control: BreakerControl, start: float, seconds: float, load: float = 0.0) -> list:
    """Tick every 250 ms after ``start``; the changes that came of it."""
    changes = []
    for n in range(1, round(seconds * 4) + 1):
        changes += control.tick(start + n / 4, Seen({KEY: load}))
    return changes


def kinds(changes: list) -> list[str]:
    return [change.kind.value for change in changes if change.is_recorded]


def test_a_trip_opens_an_entry_with_its_evidence_at_the_next_version():
    control = BreakerControl(epoch=3)
    change = control.trip(draft(), 0.0, USERS)
    (entry,) = control.snapshot().entries
    assert (change.kind, change.before, change.after) == ("opened", "closed", "open")
    assert change.entry == entry
    assert control.at == change.at == StateVersion(3, 1)
    assert (entry.id, entry.seq, entry.mode) == ("b-3-1", 1, BreakerMode.REJECT)
    assert (entry.lease_ms, entry.evidence) == (DEFAULT_LEASE_MS, {"trace_ids": ["aa"]})
    assert change.is_recorded


def test_when_demand_is_gone_it_half_opens_then_closes():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0, USERS)
    control.report(Report("shop", "i-1", 1, control.at), 0.0)
    assert kinds(run(control, 0.0, COOL_S)) == []
    (half,) = run(control, COOL_S, 0.25)
    assert (half.kind, half.entry.mode) == (ChangeKind.HALF_OPEN, BreakerMode.REJECT)
    assert (half.entry.prober, half.entry.probe_per_s) == ("i-1", 1.0)
    assert control.snapshot().entries == (half.entry,)
    *faster, closed = run(control, COOL_S + 0.25, HALF_OPEN_S)
    assert [one.entry.probe_per_s for one in faster] == [2.0, 4.0]
    assert (closed.kind, closed.before) == (ChangeKind.CLOSED, BreakerState.HALF_OPEN)
    assert closed.at_s == COOL_S + 0.25 + HALF_OPEN_S
    assert control.snapshot().entries == ()


def test_rejected_calls_count_as_demand_so_a_user_who_keeps_coming_stays_cut():
    """No load is admitted; ten calls a second refused, each worth 0.1, are a demand of 1.0."""
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0, USERS)
    for second in range(60):
        rejected(control, 10, float(second))
        assert run(control, float(second), 1.0) == []
    assert kinds(run(control, 60.0, 40.0)) == ["half_open", "closed"]


def test_an_absurd_count_of_refused_calls_does_not_end_the_ticking():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0, USERS)
    rejected(control, 10**400, 0.0)
    assert run(control, 0.0, 1.0) == []


def test_a_load_between_a_third_and_the_threshold_neither_cools_nor_reheats():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0, USERS)
    assert run(control, 0.0, 60.0, load=0.31) == []
    run(control, 60.0, COOL_S + 0.25, load=0.29)
    assert held(control).state is BreakerState.HALF_OPEN
    assert run(control, 80.0, 30.0, load=0.31) == []
    assert held(control).state is BreakerState.HALF_OPEN


def test_half_open_and_hot_again_opens_with_its_own_mode():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0, USERS)
    run(control, 0.0, COOL_S + 0.25)
    (again,) = run(control, 20.0, 0.25, load=0.9)
    assert (again.kind, again.entry.mode, again.entry.rate_per_s) == ("opened", "reject", 0.0)
    assert held(control).state is BreakerState.OPEN


def test_calls_of_unknown_cost_keep_it_open_while_they_are_refused():
    control = BreakerControl(epoch=1)
    control.trip(draft(cost_per_call=0.0), 0.0, USERS)
    rejected(control, 1, 0.0)
    assert held(control).demand.level(0.0, 1.0) == math.inf
    assert run(control, 0.0, 14.0) == []
    assert kinds(run(control, 14.0, 15.0)) == ["half_open"]


@pytest.mark.parametrize(
    ("mode", "rate", "probe"),
    [
        (BreakerMode.REJECT, 0.0, (BreakerMode.REJECT, "i-1")),
        (BreakerMode.TRICKLE, 5.0, (BreakerMode.TRICKLE, "")),
        (BreakerMode.PACE, 0.0, (BreakerMode.PACE, "")),
        (BreakerMode.FLAG, 0.0, (BreakerMode.FLAG, "")),
    ],
)
def test_half_open_is_never_stricter_than_open_was(mode, rate, probe):
    control = BreakerControl(epoch=1)
    control.trip(draft(mode=mode, rate_per_s=rate, budget=0.1), 0.0, USERS)
    control.report(Report("shop", "i-1", 1, control.at), 0.0)
    run(control, 0.0, COOL_S + 0.25)
    (entry,) = control.snapshot().entries
    assert held(control).state is BreakerState.HALF_OPEN
    assert (entry.mode, entry.prober) == probe
    assert entry.rate_per_s == rate


def test_an_alert_that_still_fires_holds_it_without_a_new_version():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0, USERS)
    at = control.at
    for n in range(200):
        change = control.act(Trip(draft()), n * 0.25, USERS)
        assert (change.kind, change.is_visible) == (ChangeKind.RENEWED, False)
        assert not change.is_recorded
        assert control.tick(n * 0.25, Seen({})) == []
    assert control.at == at


def test_held_under_demand_it_lapses_after_15_minutes_unless_asked_for_again():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0, USERS)
    assert control.tick(600.0, Seen({KEY: 5.0})) == []
    control.trip(draft(), 600.0, USERS)
    assert control.tick(1_499.75, Seen({KEY: 5.0})) == []
    (closed,) = control.tick(1_500.0, Seen({KEY: 5.0}))
    assert (closed.kind, closed.event) == ("closed", "lapsed")


def test_a_manual_entry_lives_for_its_lease_whatever_the_demand():
    control = BreakerControl(epoch=1)
    control.trip(draft(issuer="human:ann", lease_ms=60_000), 0.0)
    assert run(control, 0.0, 59.75) == []
    control.trip(draft(issuer="human:ann", lease_ms=60_000), 59.75)
    assert run(control, 59.75, 59.75) == []
    assert kinds(run(control, 119.5, 0.25)) == ["closed"]


def test_the_audit_speaks_of_no_infinite_demand():
    """Refused calls of unknown cost make the demand infinite; a person gives no threshold."""
    control = BreakerControl(epoch=1)
    control.trip(draft(issuer="human:ann", lease_ms=60_000, cost_per_call=0.0), 0.0)
    texts = []
    for second in range(61):
        rejected(control, 1, float(second))
        texts += [change.text for change in control.tick(float(second), Seen({KEY: 0.5}))]
    control.trip(draft(cost_per_call=0.0), 100.0, USERS)
    texts += [change.text for change in run(control, 100.0, COOL_S + 0.25)]
    rejected(control, 1, 120.5)
    texts += [change.text for change in run(control, 120.5, 0.25)]
    assert texts[0] == "lapsed: held for 60 s, and not asked for again"
    assert texts[-1] == "heated: calls are refused whose cost is not known"
    assert not any("inf" in text for text in texts)


def test_a_clear_holds_rules_down_and_not_people():
    control = BreakerControl(epoch=1)
    entry = control.trip(draft(), 0.0, USERS).entry
    change = control.clear(entry.id, "ann", 1.0)
    assert (change.kind, change.by, change.entry) == ("cleared", "human:ann", entry)
    assert control.trip(draft(), 2.0, USERS).reason is Reason.HELD_DOWN
    assert control.trip(draft("u-2"), 2.0, USERS).kind is ChangeKind.OPENED
    by_hand = control.trip(draft(issuer="human:bob"), 3.0)
    assert by_hand.kind is ChangeKind.OPENED
    control.clear(by_hand.entry.id, "human:bob", 4.0)
    control.tick(4.0 + HOLD_DOWN_S, Seen({}))
    assert control.trip(draft(), 4.0 + HOLD_DOWN_S, USERS).kind is ChangeKind.OPENED


def test_clearing_what_is_not_held_is_refused():
    change = BreakerControl(epoch=1).clear("b-9", "ann", 0.0)
    assert (change.kind, change.reason, change.entry) == ("refused", Reason.NO_SUCH_ENTRY, None)


def test_a_rule_does_not_touch_a_persons_entry_and_a_person_takes_a_rules():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0, USERS)
    taken = control.trip(draft(issuer="human:ann", mode=BreakerMode.FLAG, lease_ms=9_000), 1.0)
    assert (taken.kind, taken.entry.mode, taken.entry.issuer) == ("renewed", "flag", "human:ann")
    assert taken.is_visible
    assert len(control.snapshot().entries) == 1
    assert control.trip(draft(), 2.0, USERS).reason is Reason.HELD_BY_HUMAN
    assert control.tick(10.0, Seen({})) != []


def test_two_rules_for_one_key_agree_on_the_stricter_and_stay_with_it():
    control = BreakerControl(epoch=1)
    control.trip(draft(issuer="rule:Flag", mode=BreakerMode.FLAG), 0.0, USERS)
    assert control.trip(draft(), 0.0, USERS).entry.mode is BreakerMode.REJECT
    at = control.at
    for _ in range(10):
        control.trip(draft(issuer="rule:Flag", mode=BreakerMode.FLAG), 1.0, USERS)
        control.trip(draft(issuer="rule:Other"), 1.0, USERS)
    assert control.at == at
    assert control.snapshot().entries[0].mode is BreakerMode.REJECT


def test_caps_refuse_and_are_recorded_once_a_minute():
    control = BreakerControl(epoch=1, caps=Caps(entries=2))
    for user in ("u-1", "u-2"):
        control.trip(draft(user), 0.0, USERS)
    for n in range(8):
        change = control.act(Trip(draft("u-3")), n * 0.25, USERS)
        assert change.reason is Reason.TOO_MANY_ENTRIES
        assert change.is_recorded is (n == 0)
    assert control.act(Trip(draft("u-3")), REFUSAL_REPEAT_S, USERS).is_recorded
    assert len(control.snapshot().entries) == 2


def test_twenty_new_entries_a_minute_are_the_most_and_the_minute_is_whole():
    control = BreakerControl(epoch=1)
    for n in range(20):
        assert control.trip(draft(f"u-{n}"), 0.0, USERS).kind is ChangeKind.OPENED
    refused = control.trip(draft("one-more"), 60.0, USERS)
    assert refused.reason is Reason.TOO_MANY_NEW
    assert refused.reason.systemic
    assert control.trip(draft("one-more"), 60.25, USERS).kind is ChangeKind.OPENED


def test_a_refused_decision_is_recorded_and_grants_nothing():
    control = BreakerControl(epoch=1)
    change = control.act(Refuse(Reason.COLD_START, draft()), 0.0, USERS)
    assert (change.kind, change.reason, change.entry.id) == ("refused", Reason.COLD_START, "")
    assert control.at.version == 0
    assert change.is_recorded


def test_the_mode_is_part_of_the_state_and_its_version():
    control = BreakerControl(epoch=1)
    before = control.at
    assert control.set_mode(PlatformMode.PROTECT, "human:ann", 0.0) is None
    change = control.set_mode(PlatformMode.SHADOW, "human:ann", 0.0)
    assert change.text == "protect → shadow"
    assert control.snapshot() == Snapshot(StateVersion(1, 1), PlatformMode.SHADOW)
    assert control.delta_since(before).mode is PlatformMode.SHADOW
    assert change.is_recorded


def test_no_delta_leads_from_another_epoch_the_future_or_the_forgotten_past():
    control = BreakerControl(epoch=2)
    for n in range(HISTORY + 1):
        control.set_mode([PlatformMode.SHADOW, PlatformMode.PROTECT][n % 2], "human:ann", 0.0)
    assert control.delta_since(StateVersion(2, 0)) is None
    assert control.delta_since(StateVersion(2, 1)) is not None
    assert control.delta_since(control.at) is None
    assert control.delta_since(StateVersion(2, HISTORY + 9)) is None
    assert control.delta_since(StateVersion(1, 5)) is None
    assert control.delta_since(StateVersion(3, 0)) is None


def test_who_has_not_applied_a_version_is_known():
    control = BreakerControl(epoch=1)
    control.instances.attend("shop", "silent", 0.0, workers=1, sends_spans=True)
    control.report(Report("shop", "old", 1, StateVersion(1, 0)), 0.0)
    control.report(Report("shop", "new", 1, StateVersion(1, 1)), 0.0)
    control.instances.attend("shop", "new", 1.0, sends_spans=True)
    control.trip(draft(), 0.0, USERS)
    assert {row.instance for row in control.instances.behind(control.at, 1.0)} == {"silent", "old"}
    assert control.instances.capacities(1.0) == {"shop": 2}
    assert len(control.instances.live(1.0)) == 3


def test_memory_of_restraint_follows_the_last_ten_minutes():
    control = BreakerControl(epoch=1)
    for n in range(50):
        control.clear(control.trip(draft(f"u-{n}"), n * 5.0, USERS).entry.id, "ann", n * 5.0)
        control.trip(draft(f"u-{n}"), n * 5.0, USERS)
    control.tick(2_000.0, Seen({}))
    restraint = control._restraint
    assert not restraint._moves
    assert not restraint._held_down_until_s
    assert not restraint._refused_s
    assert restraint.opened_last_minute(2_000.0) == 0
