"""A policy that comes into force: what rules may do from then on, and what of it is recorded."""

import pytest

from heatshield.call_key import CallKey
from heatshield.contract import BreakerMode, Report
from heatshield_alerts.action_labels import ACTION_LABEL, TRIP_ACTION
from heatshield_alerts.breaker_changes import ChangeKind
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.draft import Draft, Reason
from heatshield_alerts.policy import NO_POLICY, load_text
from heatshield_alerts.policy_change import follow_policy, has_grown
from heatshield_alerts.rules.state import Alert, AlertState
from heatshield_alerts.series import Labels
from heatshield_alerts.trip_policy import Evidence, Refuse, Trip, decide

BY = "human:file policy.yaml"


@pytest.fixture
def control() -> BreakerControl:
    return BreakerControl(epoch=1)


def draft(user: str = "u-1", issuer: str = "rule:Hot", call: str = "GET /p") -> Draft:
    return Draft(CallKey("default", user, "shop", call), issuer, reason="hot")


def firing(user: str = "u-1", call: str = "GET /p") -> Alert:
    labels = {"user": user, "service": "shop", "call": call, ACTION_LABEL: TRIP_ACTION}
    return Alert("Hot", Labels(labels), AlertState.FIRING, 2.0)


WARM = Evidence(baseline_age_s=1_000, threshold=1.0, budget=0.2, cost_per_call=0.3)


def test_an_alert_about_a_user_that_is_never_to_be_cut_is_refused_with_the_line() -> None:
    policy = load_text("rules: {never_users: [anonymous]}")
    decision = decide(firing("anonymous"), WARM, policy)
    assert isinstance(decision, Refuse)
    assert decision.reason is Reason.POLICY
    assert decision.draft.evidence["policy"] == "never_users: anonymous"
    assert isinstance(decide(firing(), WARM, policy), Trip)


def test_a_call_that_is_itself_too_much_is_refused_at_once() -> None:
    policy = load_text("rules: {reject_at_once_over_s: 250ms}")
    decision = decide(firing(), WARM, policy)
    assert isinstance(decision, Trip)
    assert (decision.draft.mode, decision.draft.then) == (BreakerMode.REJECT, None)


def test_entries_of_rules_that_it_forbids_end_at_once_and_those_of_people_stay(
    control: BreakerControl,
) -> None:
    control.trip(draft(), 0.0)
    control.trip(draft("u-2", "human:ada"), 0.0)
    changes = follow_policy(control, load_text("rules: {never_calls: [shop/*]}"), BY, 1.0)
    assert [one.kind for one in changes] == [ChangeKind.POLICY, ChangeKind.CLEARED]
    assert [one.by for one in changes] == [BY, BY]
    assert [held.key.user for held in control.held] == ["u-2"]
    assert control.trip(draft("u-3"), 2.0).reason is Reason.POLICY
    assert control.trip(draft("u-4", "human:ada"), 2.0).kind is ChangeKind.OPENED


def test_one_record_has_all_the_differences_and_clients_hear_of_limits(
    control: BreakerControl,
) -> None:
    base = control.at
    text = "limits: [{id: x, per: user, unit: requests, rate_per_s: 5}]\nrules: {users_at_most: 2}"
    (change,) = follow_policy(control, load_text(text), BY, 1.0)
    assert change.is_recorded
    assert change.is_visible
    assert "users_at_most: as user_share says → 2; limit x: added, 5 requests" in change.text
    delta = control.delta_since(base)
    assert delta is not None
    assert [limit.id for limit in delta.limits or ()] == ["x"]
    assert [limit.id for limit in control.snapshot().limits] == ["x"]


def test_what_the_audit_knows_is_not_recorded_again(control: BreakerControl) -> None:
    policy = load_text("limits: [{id: x, per: user, unit: requests, rate_per_s: 5}]")
    (change,) = follow_policy(control, policy, BY, 1.0, before=policy)
    assert change.is_visible
    assert not change.is_recorded
    assert follow_policy(control, policy, BY, 2.0) == []


def test_what_rules_may_do_is_no_news_for_clients(control: BreakerControl) -> None:
    base = control.at
    (change,) = follow_policy(control, load_text("rules: {users_at_most: 2}"), BY, 1.0)
    assert not change.is_visible
    assert control.at == base


def test_caps_bind_rules_and_leave_people_the_usual_ones(control: BreakerControl) -> None:
    follow_policy(control, load_text("rules: {entries_at_most: 0}"), BY, 1.0)
    assert control.trip(draft(), 1.0, active_users=9_999).reason is Reason.TOO_MANY_ENTRIES
    assert control.trip(draft(issuer="human:ada"), 1.0).kind is ChangeKind.OPENED
    follow_policy(control, NO_POLICY, BY, 2.0)
    assert control.trip(draft("u-2"), 2.0, active_users=9_999).kind is ChangeKind.OPENED


def test_no_user_at_all_may_be_cut_by_rules_where_it_says_so(control: BreakerControl) -> None:
    follow_policy(control, load_text("rules: {users_at_most: 0}"), BY, 1.0)
    assert control.trip(draft(), 1.0, active_users=9_999).reason is Reason.TOO_MANY_USERS


def test_limits_name_the_instances_that_live(control: BreakerControl) -> None:
    for name in ("a", "b"):
        control.report(Report("shop", name, 1, control.at), 0.0)
    text = "limits: [{id: x, per: user, unit: requests, rate_per_s: 5, service: shop}]"
    follow_policy(control, load_text(text), BY, 1.0)
    assert control.snapshot().limits[0].instances == 2
    control.report(Report("shop", "c", 1, control.at), 1.0)
    assert not has_grown(control, 1.0)
    control.report(Report("shop", "d", 1, control.at), 1.0)
    assert has_grown(control, 1.0)
