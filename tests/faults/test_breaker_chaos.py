"""Twenty real clients of one real collector that is killed and stopped; audited from their logs."""

import time

from breaker_fleet import audit
from breaker_fleet.stage import CLIENTS

from heatshield.contract import RAMP_S

SHORT_LEASE_S = 5.0
REACHES_WITHIN_S = 1.0
"""On a machine that does much else; the benchmark ``fleet`` measures it."""


def asked(stage, *users, every_s=0.02):
    stage.fleet.tell(stage.fleet.all, ask=[[user, "work"] for user in users], every_s=every_s)


def reached(stage, entry_id):
    """Invariant 15: all clients soon have what was granted."""
    verdict = audit.Verdict("15 a grant reaches all")
    rows = [row for row in stage.keep_audit() if row["entry_id"] == entry_id]
    granted_s = min(row["at_ns"] for row in rows) / 1e9
    for client, at in enumerate(audit.reach(stage.records(), entry_id)):
        late_s = float("inf") if at is None else at - granted_s
        verdict.check(late_s <= REACHES_WITHIN_S, f"client {client} had it after {late_s:g} s")
    return verdict


def test_who_is_tripped_by_hand_is_refused_by_all_and_by_none_that_is_switched_off(stage):
    asked(stage, "u-hand", "u-other")
    began_s = time.monotonic()
    entry_id = stage.trip("u-hand")
    stage.all_refuse("u-hand", began_s)
    assert not stage.refusing("u-other", began_s)
    stage.fleet.kill_switch(3).touch()
    thrown_s = time.monotonic()
    time.sleep(3.0)
    stage.thrown.append(audit.Thrown(3, thrown_s, time.monotonic()))
    stage.fleet.kill_switch(3).unlink()
    lifted_s = time.monotonic()
    stage.until(lambda: 3 in stage.refusing("u-hand", lifted_s), "client 3 refuses again")
    verdict = reached(stage, entry_id)
    stage.clear(entry_id)
    cleared_s = time.monotonic()
    stage.closed.append(audit.Closed("u-hand", cleared_s, cleared_s + REACHES_WITHIN_S))
    stage.settle()
    time.sleep(REACHES_WITHIN_S)
    stage.check(verdict)


def test_a_hot_user_is_paced_then_refused_then_probed_then_let_through(stage):
    """Reports and changes come twice all the while."""
    for proxy in stage.proxies.each:
        proxy.up.twice = proxy.down.twice = 0.5
    began_s = time.monotonic()
    # So many at once that the slow rule, too, finds the user hot: it looks back ten seconds.
    stage.fleet.tell(range(0, CLIENTS, 2), hot=["u-hot", "burn"], threads=4)
    stage.until(lambda: "u-hot" in stage.held(), "a rule trips the hot user")
    entry_id = stage.held()["u-hot"]["id"]
    assert stage.held()["u-hot"]["mode"] == "pace"
    stage.until(lambda: stage.held()["u-hot"]["mode"] == "reject", "pacing does not end it")
    stage.fleet.tell(stage.fleet.all, hot=None)
    verdict = reached(stage, entry_id)
    # Refused calls count as demand for 15 s, and 10 s of low demand come after.
    stage.until(lambda: stage.held()["u-hot"]["prober"], "it is half-open", within_s=45.0)
    began = [next(one for one in log if one.what == "began") for log in stage.records()]
    instances = [one.fields["instance"] for one in began]
    prober = stage.held()["u-hot"]["prober"]
    assert prober in instances
    stage.fleet.tell([instances.index(prober)], ask=[["u-hot", "burn"]], every_s=0.25)
    stage.until(lambda: "u-hot" not in stage.held(), "it is closed")
    closed_s = time.monotonic()
    stage.closed.append(audit.Closed("u-hot", closed_s, closed_s + REACHES_WITHIN_S))
    logs = stage.fleet.records(began_s)
    assert sum(one.fields.get("reason") == "probed" for log in logs for one in log) >= 5
    assert sum(proxy.doubled for proxy in stage.proxies.each) > CLIENTS
    time.sleep(REACHES_WITHIN_S)
    stage.check(verdict)


def test_a_killed_collector_goes_on_with_what_it_held_and_with_nothing_it_had_cleared(stage):
    asked(stage, "u-held", "u-gone")
    began_s = time.monotonic()
    stage.trip("u-held")
    gone = stage.trip("u-gone")
    stage.all_refuse("u-gone", began_s)
    stage.all_refuse("u-held", began_s)
    from_s = time.monotonic()
    stage.clear(gone)
    cleared_s = time.monotonic()
    stage.closed.append(audit.Closed("u-gone", cleared_s, cleared_s + REACHES_WITHIN_S))
    for _ in range(2):
        epoch = stage.version.epoch
        stage.kill()
        time.sleep(0.5)
        stage.start()
        assert stage.version.epoch > epoch
        assert stage.held().keys() == {"u-held"}
        time.sleep(AGAIN_S)
        stage.settle()
    held = audit.gaps(stage.records(), ("u-held", "work"), from_s, time.monotonic())
    stage.check(held)


AGAIN_S = 5.0
"""Clients that lost their collector ask again within this."""


def test_a_stopped_collector_is_waited_for_within_the_lease(stage):
    asked(stage, "u-held")
    began_s = time.monotonic()
    stage.trip("u-held")
    stage.all_refuse("u-held", began_s)
    from_s = time.monotonic()
    with stage.stopped():
        time.sleep(8.0)
    time.sleep(AGAIN_S)
    stage.settle()
    stage.check(audit.gaps(stage.records(), ("u-held", "work"), from_s, time.monotonic()))


def test_a_lease_ends_while_the_collector_is_stopped_and_in_clients_that_were(stage):
    asked(stage, "u-short")
    began_s = time.monotonic()
    stage.trip("u-short", lease_s=SHORT_LEASE_S)
    stage.all_refuse("u-short", began_s)
    woken = range(4)
    with stage.stopped():
        from_s = time.monotonic()
        stage.fleet.pause(woken)
        time.sleep(SHORT_LEASE_S + RAMP_S + 2.0)
        stage.fleet.resume(woken)
        time.sleep(1.0)
        stage.silences.append(audit.Silence(stage.fleet.all, from_s, time.monotonic()))
    others = [log for client, log in enumerate(stage.records()) if client not in woken]
    until_s = began_s + SHORT_LEASE_S - 0.5
    ramps = [one.at for log in others for one in log if one.refused and one.key[0] == "u-short"]
    assert max(ramps) > until_s + 2.0, "nobody opened over a ramp"
    time.sleep(AGAIN_S)
    stage.settle()
    stage.check(audit.gaps(others, ("u-short", "work"), from_s, until_s))
