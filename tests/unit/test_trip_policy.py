"""What an alert may do, and why not."""

import json
import math
from dataclasses import replace

import pytest

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.contract import MAX_LEASE_MS, BreakerMode
from heatshield.identity.wire_id import wire_id
from heatshield_alerts import (
    Alert,
    AlertState,
    Draft,
    Evidence,
    Labels,
    Reason,
    Refuse,
    Trip,
    decide,
)
from heatshield_alerts.caps import Caps, Held, Occupancy, cap
from heatshield_alerts.draft import check

LABELS = {
    "alertname": "HarmfulUser",
    "user": "u-1",
    "service": "shop",
    "call": "POST /p",
    "heatshield_action": "trip",
}
WARM = Evidence(
    baseline_age_s=300.0, threshold=0.5, cost_per_call=0.1, trace_ids=("aa", "bb"), figures={"n": 1}
)


def alert(state: AlertState = AlertState.FIRING, **labels: str) -> Alert:
    return Alert(
        "HarmfulUser", Labels({**LABELS, **labels}), state, 2.0, {"summary": "u-1 burns shop"}
    )


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_evidence_of_a_ratio_to_nothing_can_be_told_to_clients(value):
    """Without, every answer to a client failed for as long as the entry was held."""
    decision = decide(replace(alert(), value=value), replace(WARM, load=2.0))
    assert isinstance(decision, Trip)
    text = json.dumps(dict(decision.draft.evidence), allow_nan=False)
    assert json.loads(text)["load"] == str(value)


def test_a_firing_alert_that_asks_for_it_becomes_a_draft_with_its_evidence():
    decision = decide(alert(), WARM)
    assert isinstance(decision, Trip)
    draft = decision.draft
    assert draft.key == CallKey(DEFAULT_TENANT, "u-1", "shop", "POST /p")
    assert (draft.issuer, draft.mode, draft.lease_ms) == (
        "rule:HarmfulUser",
        BreakerMode.PACE,
        None,
    )
    assert (draft.then, draft.budget) == (BreakerMode.REJECT, 0.25)
    assert (draft.threshold, draft.cost_per_call) == (0.5, 0.1)
    assert draft.reason == "u-1 burns shop"
    assert draft.evidence == {
        "n": 1,
        "load": 2.0,
        "busy_load": 2.0,
        "threshold": 0.5,
        "cost_per_call": 0.1,
        "trace_ids": ["aa", "bb"],
    }


def test_without_a_known_threshold_the_load_at_the_trip_stands_for_it():
    decision = decide(alert(), Evidence(baseline_age_s=300.0))
    assert decision is not None
    assert decision.draft.threshold == 2.0


@pytest.mark.parametrize("state", [s for s in AlertState if s is not AlertState.FIRING])
def test_an_alert_that_does_not_fire_asks_for_nothing(state):
    assert decide(alert(state), WARM) is None


@pytest.mark.parametrize("action", ["", "tell"])
def test_an_alert_without_the_action_asks_for_nothing(action):
    assert decide(alert(heatshield_action=action), WARM) is None


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"user": ""}, Reason.UNKNOWN_USER),
        ({"service": ""}, Reason.MISSING_LABEL),
        ({"call": ""}, Reason.MISSING_LABEL),
        ({"call": "*"}, Reason.WILDCARD),
        ({"heatshield_mode": "explode"}, Reason.BAD_LABEL),
        ({"heatshield_rate_per_s": "fast"}, Reason.BAD_LABEL),
        ({"heatshield_rate_per_s": "-1"}, Reason.BAD_LABEL),
        ({"heatshield_rate_per_s": "inf"}, Reason.BAD_LABEL),
        ({"heatshield_ladder": "reject, pace"}, Reason.BAD_LABEL),
        ({"heatshield_scope": "pattern"}, Reason.NEEDS_HUMAN),
        ({"heatshield_lease": "soon"}, Reason.BAD_LABEL),
        ({"heatshield_probe_per_s": "0"}, Reason.BAD_LABEL),
    ],
)
def test_an_unfit_alert_is_refused_with_its_reason(labels, reason):
    decision = decide(alert(**labels), WARM)
    assert isinstance(decision, Refuse)
    assert decision.reason is reason
    assert not reason.systemic


def test_a_user_of_the_name_unknown_is_a_user():
    decision = decide(alert(user="unknown"), WARM)
    assert isinstance(decision, Trip)
    assert decision.draft.key.user == "unknown"


@pytest.mark.parametrize("user", ["*", "u" * 257, "a\x00b", "Юрий"])
def test_so_is_a_user_of_any_other_name(user):
    decision = decide(alert(user=user), WARM)
    assert isinstance(decision, Trip)
    assert decision.draft.key.user == wire_id(user)


def test_an_alert_without_a_user_label_names_no_user():
    labels = Labels(LABELS).drop("user")
    decision = decide(Alert("HarmfulUser", labels, AlertState.FIRING, 2.0), WARM)
    assert isinstance(decision, Refuse)
    assert (decision.reason, decision.draft.key.user) == (Reason.UNKNOWN_USER, None)


@pytest.mark.parametrize(("age_s", "trips"), [(0.0, False), (119.9, False), (120.0, True)])
def test_in_a_cold_start_it_alerts_and_does_not_trip(age_s, trips):
    decision = decide(alert(), Evidence(baseline_age_s=age_s))
    assert isinstance(decision, Trip) is trips
    assert trips or (isinstance(decision, Refuse) and decision.reason is Reason.COLD_START)


def test_mode_and_rate_come_from_the_labels():
    decision = decide(alert(heatshield_mode="trickle", heatshield_rate_per_s="2.5"), WARM)
    assert isinstance(decision, Trip)
    assert (decision.draft.mode, decision.draft.rate_per_s) == (BreakerMode.TRICKLE, 2.5)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"issuer": "rule:X"}, None),
        ({"issuer": "ingest"}, Reason.BAD_DRAFT),
        ({"issuer": "human:"}, Reason.BAD_DRAFT),
        ({"issuer": "robot:x"}, Reason.BAD_DRAFT),
        ({"call": ""}, Reason.BAD_DRAFT),
        ({"user": None}, Reason.UNKNOWN_USER),
        ({"user": ""}, Reason.UNKNOWN_USER),
        ({"user": "unknown"}, None),
        ({"user": "*"}, None),
        ({"user": "u\x00"}, Reason.BAD_DRAFT),
        ({"user": "u" * 257}, Reason.BAD_DRAFT),
        ({"call": "c\n"}, Reason.BAD_DRAFT),
        ({"issuer": "human:\u202e"}, Reason.BAD_DRAFT),
        ({"service": "*"}, Reason.WILDCARD),
        ({"lease_ms": 0}, Reason.BAD_DRAFT),
        ({"lease_ms": MAX_LEASE_MS}, None),
        ({"lease_ms": MAX_LEASE_MS + 1}, Reason.BAD_DRAFT),
        ({"rate_per_s": float("nan")}, Reason.BAD_DRAFT),
        ({"rate_per_s": -1.0}, Reason.BAD_DRAFT),
    ],
)
def test_a_draft_is_checked_whoever_wrote_it(fields, reason):
    asked = {"user": "u", "service": "s", "call": "c", "issuer": "human:ann", **fields}
    key = CallKey(DEFAULT_TENANT, *(asked.pop(name) for name in ("user", "service", "call")))
    assert check(Draft(key, **asked)) is reason


CALL = (DEFAULT_TENANT, "s", "c")


def occupancy(refused="", paced="", traffic=0.0, **fields) -> Occupancy:
    """What is held of one call: of each user named by a letter, so much of its traffic."""
    given = {"entries": 0, "new_last_minute": 0, "active_users": 1_000, **fields}
    held_up = Held(frozenset(refused + paced), traffic * len(refused + paced))
    refuses = Held(frozenset(refused), traffic * len(refused))
    return Occupancy(**given, held_up={CALL: held_up}, refused={CALL: refuses})


@pytest.mark.parametrize(
    ("held", "issuer", "reason"),
    [
        (occupancy(), "rule:R", None),
        (occupancy(entries=99), "rule:R", None),
        (occupancy(entries=100), "rule:R", Reason.TOO_MANY_ENTRIES),
        (occupancy(entries=100), "human:ann", Reason.TOO_MANY_ENTRIES),
        (occupancy(new_last_minute=19), "rule:R", None),
        (occupancy(new_last_minute=20), "rule:R", Reason.TOO_MANY_NEW),
        (occupancy(new_last_minute=20), "human:ann", Reason.TOO_MANY_NEW),
        (occupancy(active_users=0), "rule:R", None),
        (
            occupancy("v", active_users=50),
            "rule:R",
            Reason.TOO_MANY_USERS,
        ),
        (occupancy("u", active_users=50), "rule:R", None),
        (occupancy("v", active_users=50), "human:ann", None),
        (occupancy("v", active_users=200), "rule:R", None),
        (
            occupancy("vw", active_users=200),
            "rule:R",
            Reason.TOO_MANY_USERS,
        ),
    ],
)
def test_a_cap_that_is_reached_refuses_and_says_that_it_is_systemic(held, issuer, reason):
    """One user's second call is no second user; people are not bound by the share of users."""
    found = cap(Draft(CallKey(DEFAULT_TENANT, "u", "s", "c"), issuer), held, Caps())
    assert found is reason
    assert found is None or found.systemic


@pytest.mark.parametrize(
    ("held", "mode", "reason"),
    [
        (occupancy(paced="v", traffic=0.5), BreakerMode.PACE, None),
        (occupancy(paced="vw", traffic=0.3, active_users=0), BreakerMode.PACE, None),
        (occupancy("v", "w", traffic=0.3, active_users=0), BreakerMode.PACE, None),
        (occupancy(paced="vwx", traffic=0.01), BreakerMode.PACE, None),
        (occupancy(paced="vwx", traffic=0.03), BreakerMode.PACE, Reason.TOO_MUCH_TRAFFIC),
        (occupancy(paced="vwx", active_users=399), BreakerMode.PACE, Reason.TOO_MANY_USERS),
        (occupancy(paced="vw", traffic=0.3, active_users=0), BreakerMode.REJECT, None),
        (occupancy("v", active_users=199), BreakerMode.REJECT, Reason.TOO_MANY_USERS),
        (occupancy("v", traffic=0.06), BreakerMode.REJECT, Reason.TOO_MUCH_TRAFFIC),
    ],
)
def test_a_few_may_be_paced_whatever_their_share_and_one_refused(held, mode, reason):
    draft = Draft(CallKey(DEFAULT_TENANT, "u", "s", "c"), "rule:R", mode, traffic=0.05)
    assert cap(draft, held, Caps()) is reason


def test_annotations_say_how_and_go_over_labels():
    said = {
        "heatshield_ladder": "reject",
        "heatshield_scope": "user_service",
        "heatshield_lease": "10s",
        "heatshield_probe_per_s": "4",
    }
    asked = replace(alert(heatshield_ladder="pace, reject"), annotations=said)
    decision = decide(asked, WARM)
    assert isinstance(decision, Trip)
    draft = decision.draft
    assert (draft.mode, draft.then, draft.scope) == (BreakerMode.REJECT, None, "user_service")
    assert (draft.grant_ms, draft.lease_ms, draft.probe_per_s) == (10_000, None, 4.0)
    assert draft.key.call == ""
