"""Histories that the explicit-state search found, each of which broke an invariant once."""

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield.contract import BreakerMode, Report
from heatshield_alerts import BreakerControl, ChangeKind, Draft, Reason
from heatshield_alerts.control_state import KeptControl
from heatshield_alerts.held_breaker import COOL_S
from heatshield_alerts.instances import LIVE_S
from heatshield_alerts.seen import Seen

ANN = CallKey(DEFAULT_TENANT, "ann", "shop", "GET /a")
BOB = ANN._replace(user="bob")
LEASE_S = 30.0


def draft(key: CallKey = ANN, issuer: str = "rule:Hot", **fields) -> Draft:
    return Draft(key, issuer, **{"threshold": 1.0, "cost_per_call": 0.1, "load": 2.0, **fields})


def alive(control: BreakerControl, instance: str, now: float) -> None:
    control.report(Report("shop", instance, 1, control.at), now)


def prober(control: BreakerControl) -> str:
    (entry,) = control.snapshot().entries
    return entry.prober


def half_open(instances: list[str]) -> BreakerControl:
    """At second 0, probed by one of these instances."""
    control = BreakerControl(epoch=1)
    control.trip(draft(), -COOL_S)
    control.tick(-COOL_S, Seen())
    for name in instances:
        alive(control, name, 0.0)
    control.tick(0.0, Seen())
    return control


def test_another_instance_probes_only_when_the_silent_ones_lease_has_surely_ended():
    """The silent one may still be renewed by answers that reach it, and not know of the other."""
    control = half_open(["i-1"])
    assert prober(control) == "i-1"
    gone_s = LIVE_S + 1.0
    alive(control, "i-2", gone_s)
    loads = {ANN: 0.5}  # neither low nor high: it stays half-open
    control.tick(gone_s, Seen(loads))
    assert prober(control) == ""
    alive(control, "i-2", gone_s + LEASE_S - 0.1)
    control.tick(gone_s + LEASE_S - 0.1, Seen(loads))
    assert prober(control) == ""
    control.tick(gone_s + LEASE_S, Seen(loads))
    assert prober(control) == "i-2"


def test_a_restart_leaves_the_quota_of_probes_where_it_was():
    control = half_open(["i-1"])
    now = Instant(5.0, 10**18)
    following = BreakerControl(epoch=2)
    following.restore(KeptControl(control.keep(now)), now)
    alive(following, "i-2", 5.0)
    following.tick(5.0, Seen({ANN: 0.5}))
    assert prober(following) == "i-1"
    alive(following, "i-1", 6.0)
    following.tick(LIVE_S + 5.5, Seen({ANN: 0.5}))
    assert prober(following) == "i-1"


def test_after_a_restart_no_instance_probes_that_was_not_known_to_for_a_lease():
    """The earlier process may have withdrawn the quota from an instance that did not hear of it."""
    control = BreakerControl(epoch=1)
    control.trip(draft(), -COOL_S)
    now = Instant(0.0, 10**18)
    following = BreakerControl(epoch=2)
    following.restore(KeptControl(control.keep(now)), now)
    for second in range(int(LEASE_S) + 2):
        alive(following, "i-2", float(second))
        following.tick(float(second), Seen({ANN: 0.5 if second > COOL_S else 0.0}))
        assert second <= COOL_S or prober(following) == ("i-2" if second >= LEASE_S else "")


def test_a_rule_that_works_does_not_hold_the_entry_of_one_that_fails():
    """Both are about one user: one rule only flags, the other refused, and is not evaluated."""
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0)
    flag = draft(issuer="rule:Flag", mode=BreakerMode.FLAG)
    for second in range(1, int(LEASE_S)):
        control.trip(flag, float(second))
        assert control.tick(float(second), Seen({ANN: 2.0}, rules={"Flag"})) == []
    (change,) = control.tick(LEASE_S, Seen({ANN: 2.0}, rules={"Flag"}))
    assert change.kind is ChangeKind.CLOSED
    assert "rule:Hot fails" in change.text


def test_a_flag_that_is_to_refuse_is_asked_for_the_caps_like_a_new_entry():
    """Flags cut nobody, so that they are not counted; what they turn into is."""
    control = BreakerControl(epoch=1)
    control.trip(draft(BOB), 0.0, active_users=100)
    control.trip(draft(ANN, mode=BreakerMode.FLAG), 0.0, active_users=100)
    change = control.trip(draft(ANN), 1.0, active_users=100)
    assert (change.kind, change.reason) == (ChangeKind.REFUSED, Reason.TOO_MANY_USERS)
    assert control.trip(draft(ANN), 1.0, active_users=200).entry.mode is BreakerMode.REJECT


def test_a_stricter_entry_does_not_hold_up_more_of_a_calls_traffic_than_may_be():
    control = BreakerControl(epoch=1)
    control.trip(draft(BOB, traffic=0.06), 0.0, active_users=1_000)
    paced = draft(ANN, mode=BreakerMode.PACE, budget=0.5, traffic=0.04)
    assert control.trip(paced, 0.0, active_users=1_000).kind is ChangeKind.OPENED
    change = control.trip(draft(ANN, traffic=0.3), 1.0, active_users=1_000)
    assert change.reason is Reason.TOO_MUCH_TRAFFIC


def test_a_flag_that_is_to_pace_paces_for_as_long_as_any_other_before_it_refuses():
    control = BreakerControl(epoch=1)
    control.trip(draft(mode=BreakerMode.FLAG), 0.0)
    ladder = {"mode": BreakerMode.PACE, "budget": 0.5, "then": BreakerMode.REJECT}
    hot = Seen({ANN: 2.0}, lasting={ANN: "it harms others"})
    control.tick(9.0, hot)
    control.trip(draft(**ladder), 10.0)
    assert control.tick(11.75, hot) == []
    (change,) = control.tick(12.0, hot)
    assert change.kind is ChangeKind.ESCALATED


def test_what_a_person_holds_for_long_keeps_no_other_breaker_from_its_probes_after_a_restart():
    control = half_open([])
    control.trip(draft(BOB, "human:eve", lease_ms=900_000), 0.0)
    now = Instant(0.0, 10**18)
    following = BreakerControl(epoch=2)
    following.restore(KeptControl(control.keep(now)), now)
    alive(following, "i-2", LEASE_S - 1)
    following.tick(LEASE_S - 1, Seen({ANN: 0.5}))
    (held,) = [one for one in following.snapshot().entries if one.key == ANN]
    assert held.prober == ""
    following.tick(LEASE_S, Seen({ANN: 0.5}))
    (held,) = [one for one in following.snapshot().entries if one.key == ANN]
    assert held.prober == "i-2"
