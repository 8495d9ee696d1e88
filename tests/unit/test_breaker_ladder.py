"""The registry's ladder (paced, then refused), rules that fail, scopes, limits and shares."""

import pytest

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.contract import (
    DEFAULT_LEASE_MS,
    BreakerMode,
    EntryScope,
    Offered,
    Rejections,
    Report,
    Snapshot,
)
from heatshield.declared_limit import DeclaredLimit, LimitPer, LimitUnit
from heatshield_alerts import BreakerControl, ChangeKind, Draft, Reason
from heatshield_alerts.held_breaker import ESCALATE_S
from heatshield_alerts.seen import Seen

KEY = CallKey(DEFAULT_TENANT, "u-1", "shop", "POST /p")
USERS = 10_000
WHY = "u-1 keeps Redis `cart` 83-91 % busy"


def draft(user: str | None = "u-1", issuer: str = "rule:HarmfulUser", **fields) -> Draft:
    given = {"threshold": 0.9, "cost_per_call": 0.1, **fields}
    call = given.pop("call", KEY.call)
    return Draft(KEY._replace(user=user, call=call), issuer, **given)


def rejected(control: BreakerControl, count: int, now: float) -> None:
    entry = control.snapshot().entries[0]
    row = Rejections(entry.id, count, entry.user, entry.service, entry.call)
    control.report(Report("shop", "i-1", 1, control.at, (row,)), now)


# -- the ladder ------------------------------------------------------------------------------------


def paced(control: BreakerControl, now: float = 0.0, **fields) -> str:
    """Trip a key at the first step of the ladder; the entry's id."""
    asked = draft(mode=BreakerMode.PACE, then=BreakerMode.REJECT, budget=0.08, **fields)
    return control.trip(asked, now, USERS).entry.id


def pushed(control: BreakerControl, start: float, seconds: float, *, lasting=(KEY,)):
    """Tick while the user goes on: every time some calls are refused. The changes."""
    changes = []
    for n in range(1, round(seconds * 4) + 1):
        now = start + n / 4
        rejected(control, 3, now)
        harm = dict.fromkeys(lasting, WHY)
        changes += control.tick(now, Seen({KEY: 0.1}, harming=harm, lasting=harm))
    return changes


def test_a_user_is_paced_first_and_refused_after_two_seconds_that_changed_nothing():
    control = BreakerControl(epoch=1)
    entry_id = paced(control)
    (entry,) = control.snapshot().entries
    assert (entry.mode, entry.budget, entry.cost_per_call) == (BreakerMode.PACE, 0.08, 0.1)
    (escalated,) = pushed(control, 0.0, 5.0)
    assert (escalated.kind, escalated.event) == (ChangeKind.ESCALATED, "escalated")
    assert ESCALATE_S <= escalated.at_s <= ESCALATE_S + 0.5
    assert (escalated.entry.id, escalated.entry.mode) == (entry_id, BreakerMode.REJECT)
    assert escalated.entry.reason == WHY
    assert escalated.text.endswith(f"did not end it: {WHY}")


def test_a_user_whose_harm_does_not_last_stays_paced_however_long_the_demand_lasts():
    control = BreakerControl(epoch=1)
    paced(control)
    assert pushed(control, 0.0, 60.0, lasting=()) == []
    assert control.snapshot().entries[0].mode is BreakerMode.PACE


def test_a_user_who_slows_down_in_time_is_not_refused_for_what_came_before():
    control = BreakerControl(epoch=1)
    paced(control)
    assert pushed(control, 0.0, ESCALATE_S - 0.25) == []
    assert pushed(control, ESCALATE_S - 0.25, 8.0, lasting=()) == []


def test_harm_refuses_a_user_however_little_of_the_demand_gets_through():
    """The budget of a large service may be more than a small backend bears."""
    control = BreakerControl(epoch=1)
    paced(control, threshold=5.0)
    ticks = [control.tick(n / 4, Seen({KEY: 0.1}, (KEY,), {KEY: WHY})) for n in range(1, 13)]
    (escalated,) = [change for changes in ticks for change in changes]
    assert escalated.kind is ChangeKind.ESCALATED


def test_an_alert_that_asks_for_pacing_does_not_take_a_refusal_back():
    control = BreakerControl(epoch=1)
    paced(control)
    pushed(control, 0.0, 3.0)
    at = control.at
    paced(control, 3.0)
    assert control.at == at
    assert control.snapshot().entries[0].mode is BreakerMode.REJECT


def flagged(control: BreakerControl, user: str = "u-1", now: float = 0.0):
    """Trip a key at the first step of a ladder that refuses nothing at first; the change."""
    asked = draft(user, mode=BreakerMode.FLAG, then=BreakerMode.REJECT, traffic=0.06)
    return control.trip(asked, now, 100)


def test_a_flag_that_did_not_end_it_refuses_after_two_seconds():
    control = BreakerControl(epoch=1)
    flagged(control)
    ticks = [control.tick(n / 4, Seen({KEY: 5.0}, (KEY,), {KEY: WHY})) for n in range(1, 21)]
    (escalated,) = [change for changes in ticks for change in changes]
    assert escalated.kind is ChangeKind.ESCALATED
    assert ESCALATE_S <= escalated.at_s <= ESCALATE_S + 0.5
    assert "2 s of flag did not end it" in escalated.text
    assert escalated.entry.mode is BreakerMode.REJECT


def test_caps_count_a_flag_that_is_to_refuse_if_it_does_not_end_it():
    control = BreakerControl(epoch=1)
    flagged(control)
    assert flagged(control, "u-2").reason is Reason.TOO_MANY_USERS
    only_flags = draft("u-3", mode=BreakerMode.FLAG)
    assert control.trip(only_flags, 0.0, 100).kind is ChangeKind.OPENED


def test_a_paced_entry_needs_a_budget():
    asked = draft(mode=BreakerMode.PACE)
    assert BreakerControl(epoch=1).trip(asked, 0.0, USERS).reason is Reason.NO_BUDGET


def test_clients_hear_of_a_cost_that_changed_by_a_quarter_and_not_of_less():
    control = BreakerControl(epoch=1)
    paced(control)
    at = control.at
    paced(control, 1.0, cost_per_call=0.12)
    assert control.at == at
    paced(control, 2.0, cost_per_call=0.13)
    assert control.snapshot().entries[0].cost_per_call == 0.13


# -- rules that are not evaluated ------------------------------------------------------------------


def test_an_entry_ends_within_a_lease_of_its_rules_last_evaluation_and_says_so():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0, USERS)
    lease_s = DEFAULT_LEASE_MS / 1_000
    changes = []
    for n in range(1, round(lease_s * 4) + 1):
        rejected(control, 10, n / 4)
        changes += control.tick(n / 4, Seen({KEY: 5.0}, rules={"Another"}))
    (closed,) = changes
    assert (closed.event, closed.at_s) == ("lapsed", lease_s)
    assert "rule:HarmfulUser fails, is gone" in closed.text


def test_a_persons_entry_and_one_whose_rule_works_are_held_on():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0, USERS)
    control.trip(draft("u-2", "human:ann"), 0.0, USERS)
    for n in range(400):
        rejected(control, 10, n / 4)
        assert control.tick(n / 4, Seen({KEY: 5.0}, rules={"HarmfulUser"})) == []


# -- scopes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "user", "call"),
    [
        ("tenant_call", None, "POST /p"),
        ("call", None, "POST /p"),
        ("pattern", "bot-*", "POST /*"),
    ],
)
def test_what_is_about_more_than_one_user_needs_a_person_and_an_expiry(scope, user, call):
    control = BreakerControl(epoch=1)
    wide = {"scope": EntryScope(scope), "call": call}
    assert control.trip(draft(user, **wide), 0.0, USERS).reason is Reason.NEEDS_HUMAN
    by_hand = draft(user, "human:ann", **wide)
    assert control.trip(by_hand, 0.0, USERS).reason is Reason.NEEDS_HUMAN
    change = control.trip(draft(user, "human:ann", lease_ms=60_000, **wide), 0.0, USERS)
    assert change.kind is ChangeKind.OPENED
    assert Snapshot.from_json(control.snapshot().to_json()) == control.snapshot()


def test_a_rule_may_cut_a_user_off_a_whole_service():
    control = BreakerControl(epoch=1)
    asked = draft(scope=EntryScope.USER_SERVICE, call="")
    assert control.trip(asked, 0.0, USERS).kind is ChangeKind.OPENED
    assert control.trip(draft(call=""), 0.0, USERS).reason is Reason.BAD_DRAFT


# -- limits ----------------------------------------------------------------------------------------


def test_declared_limits_reach_clients_and_are_one_version():
    control = BreakerControl(epoch=1)
    before = control.at
    limit = DeclaredLimit("buys", LimitPer.USER, LimitUnit.REQUESTS, 10.0, service="shop")
    change = control.declare([limit], "human:policy", 0.0)
    assert (change.kind, change.at) == (ChangeKind.LIMITS, control.at)
    assert control.declare([limit], "human:policy", 1.0) is None
    assert control.snapshot().limits == (limit,)
    delta = control.delta_since(before)
    assert type(delta).from_json(delta.to_json()) == delta
    assert delta.limits == (limit,)


def test_shares_are_dealt_for_what_is_held_and_nothing_else():
    control = BreakerControl(epoch=1)
    entry_id = paced(control)
    offered = (Offered(entry_id, 3.0), Offered("b-9", 1.0), Offered("gone\x1fu-1", 1.0))
    for instance in ("i-1", "i-2"):
        control.report(Report("shop", instance, 1, control.at), 0.0)
    assert control.deal(Report("shop", "i-1", 1, control.at, offered=offered), 0.0) == {
        entry_id: pytest.approx(0.5)
    }
    other = Report("shop", "i-2", 1, control.at, offered=(Offered(entry_id, 0.0),))
    assert control.deal(other, 0.25)[entry_id] == pytest.approx(0.05)
    mine = Report("shop", "i-1", 1, control.at, offered=(Offered(entry_id, 3.0),))
    assert control.deal(mine, 0.5)[entry_id] == pytest.approx(0.95)


# -- what is told ------------------------------------------------------------------------------


def test_the_json_of_a_change_is_what_the_event_stream_tells():
    change = BreakerControl(epoch=1).trip(draft(), 0.0, USERS)
    told = change.to_json()
    assert told["change"] == "opened"
    assert told["version"] == "1.1"
    assert told["entry"]["id"] == "b-1-1"
    assert told["by"] == "rule:HarmfulUser"


def test_a_cost_stands_while_no_call_runs_and_demand_counts_with_what_is_known_last():
    control = BreakerControl(epoch=1)
    paced(control)
    paced(control, 1.0, cost_per_call=0.3)
    at = control.at
    paced(control, 2.0, cost_per_call=0.0)
    assert control.at == at
    (held,) = control.held
    assert (held.entry.cost_per_call, held.demand.cost_per_call) == (0.3, 0.3)


def test_a_person_who_asks_for_another_scope_of_the_same_names_gets_it():
    """A call of one tenant and of all have one key; so have a user's name and a pattern."""
    control = BreakerControl(epoch=1)
    for scope in (EntryScope.TENANT_CALL, EntryScope.CALL, EntryScope.TENANT_CALL):
        change = control.trip(draft(None, "human:ann", scope=scope, lease_ms=60_000), 0.0)
        assert (change.entry.scope, change.is_visible) == (scope, True)


@pytest.mark.parametrize(
    ("active_users", "most"), [(1, 2), (25, 2), (60, 6), (100, 10), (9_999, 10)]
)
def test_nobody_is_refused_as_one_of_a_crowd_that_harms_on_one_call(active_users, most):
    users = [KEY._replace(user=f"v-{n}") for n in range(most)]
    elsewhere = [one._replace(call="GET /q") for one in users]
    lasting = dict.fromkeys([KEY, *users], WHY)
    for harming, why in (([KEY, *users[1:], *elsewhere], WHY), ([KEY, *users], None)):
        seen = Seen(harming=harming, lasting=lasting, active_users=active_users)
        assert seen.lasting_of(KEY) == why
    assert Seen(harming=users, active_users=active_users).lasting_of(KEY) is None


def test_a_crowd_stays_paced():
    control = BreakerControl(epoch=1)
    paced(control)
    crowd = [KEY, *(KEY._replace(user=f"v-{n}") for n in range(10))]
    for n in range(1, 41):
        rejected(control, 3, n / 4)
        assert (
            control.tick(
                n / 4, Seen({KEY: 0.1}, crowd, dict.fromkeys(crowd, WHY), active_users=USERS)
            )
            == []
        )
