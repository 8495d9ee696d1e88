"""The audit of the fleet's logs: what breaks an invariant is found, what keeps it is not.

Times are seconds on both axes: a record's ``at`` is its ``ns`` in seconds.
"""

import pytest
from breaker_fleet import audit
from breaker_fleet.records import Grant, Record, grants, read

from heatshield.contract import RAMP_S, StateVersion

LEASE_S = 5.0
OPEN_S = LEASE_S + RAMP_S
"""So long after the last word of the collector a client is open again."""

KEY = ("ann", "work")
ENTRY = "e-1"


def ns(at):
    return round(at * 1e9)


def decision(at, *, allowed=False, reason="rejected", number=1, key=KEY, entry=ENTRY, quota=0.0):
    fields = {"allowed": allowed, "reason": reason, "number": number, "entry": entry}
    fields |= {"user": key[0], "call": key[1], "lease_s": LEASE_S, "probe_per_s": quota}
    return Record("decision", at, ns(at), fields)


def probe(at, quota=1.0, key=KEY):
    return decision(at, allowed=True, reason="probed", quota=quota, key=key)


def applied(at, version, *, before="", base="", held=(ENTRY,), done="changed", mode="protect"):
    fields = {"version": version, "before": before, "base": base, "done": done, "mode": mode}
    return Record("applied", at, ns(at), fields | {"held": [[one, "ann"] for one in held]})


def ran(at, number=1):
    return Record("ran", at, ns(at), {"number": number, "user": KEY[0], "call": KEY[1]})


def granted(from_s=10.0, until_s=None, key=("ann", "fleet", "work")):
    until_ns = None if until_s is None else ns(until_s)
    return {ENTRY: Grant(ENTRY, key, ns(from_s), LEASE_S, until_ns)}


def kept(verdict, facts):
    """Whether all was well, of so many facts: an audit that looks at nothing proves nothing."""
    return not verdict.troubles and verdict.looked_at == facts


def found(verdict, *words):
    """Whether exactly one trouble was found, which says these words."""
    return len(verdict.troubles) == 1 and all(word in verdict.troubles[0] for word in words)


# 1: enforced means granted


def test_a_refusal_by_a_held_entry_is_granted():
    assert kept(audit.enforced_means_granted([[decision(11)]], granted()), 2)


def test_what_is_let_through_needs_no_grant():
    assert kept(audit.enforced_means_granted([[probe(11), ran(11)]], {}), 0)


def test_a_refusal_by_an_entry_that_was_never_granted_is_found():
    verdict = audit.enforced_means_granted([[], [decision(11)]], {})
    assert found(verdict, "client 1", ENTRY, "unknown")


@pytest.mark.parametrize("key", [("bob", "work"), ("ann", "other")])
def test_a_refusal_of_another_user_or_call_is_found(key):
    assert found(audit.enforced_means_granted([[decision(11, key=key)]], granted()), key[0], key[1])


def test_a_refusal_before_the_grant_is_found():
    early, soon = 10 - audit.SLACK_S - 0.1, 10 - audit.SLACK_S / 2
    assert found(audit.enforced_means_granted([[decision(early)]], granted()), "before the grant")
    assert kept(audit.enforced_means_granted([[decision(soon)]], granted()), 2)


def test_a_refusal_after_the_end_lease_and_ramp_is_found():
    held = granted(until_s=20.0)
    assert kept(audit.enforced_means_granted([[decision(20 + OPEN_S)]], held), 3)
    late = decision(20 + OPEN_S + audit.SLACK_S + 0.1)
    assert found(audit.enforced_means_granted([[late]], held), "late")


# 2: silence ends enforcement


def test_a_refusal_in_silence_past_lease_and_ramp_is_found():
    silence = [audit.Silence([1], 10.0, 60.0)]
    within, late = decision(10 + OPEN_S), decision(10 + OPEN_S + audit.SLACK_S + 0.1)
    assert kept(audit.silences([[], [within]], silence), 1)
    assert found(audit.silences([[], [within, late]], silence), "client 1", "late")


def test_only_silent_clients_are_asked_and_only_in_the_silence():
    late, after = decision(50), decision(61)
    assert kept(audit.silences([[late], [after]], [audit.Silence([1], 10.0, 60.0)]), 0)


# 3: versions never go back


def test_a_version_that_goes_back_is_found():
    back = [applied(1, "2.5"), applied(2, "2.4")]
    assert found(audit.versions([[], back]), "client 1", "2.5", "2.4")


def test_an_epoch_that_goes_back_is_found_though_its_version_is_greater():
    assert found(audit.versions([[applied(1, "3.1"), applied(2, "2.9")]]), "3.1", "2.9")


def test_versions_that_grow_stay_or_begin_anew_in_a_later_epoch_are_kept():
    on = [applied(at, version) for at, version in enumerate(["2.9", "2.9", "2.10", "3.1"])]
    assert kept(audit.versions([on, [applied(9, "2.1")]]), 3)


# 4: deltas meet their base


def test_a_delta_on_another_base_is_found():
    astray = applied(2, "1.3", before="1.1", base="1.2")
    assert found(audit.what_was_said([[astray]]), "1.2 applied to 1.1")


def test_two_clients_that_hold_something_else_at_one_version_are_found():
    logs = [[applied(1, "1.2")], [applied(2, "1.2", held=())]]
    assert found(audit.what_was_said(logs), "client 1", "something else at 1.2")


def test_two_clients_in_different_modes_at_one_version_are_found():
    logs = [[applied(1, "1.2")], [applied(2, "1.2", mode="shadow")]]
    assert found(audit.what_was_said(logs), "something else")


def test_snapshots_deltas_on_their_base_and_any_order_of_entries_are_kept():
    delta = applied(2, "1.3", before="1.2", base="1.2", held=("e-1", "e-2"))
    snapshot = applied(3, "1.3", before="1.1", held=("e-2", "e-1"))
    assert kept(audit.what_was_said([[applied(1, "1.2"), delta], [snapshot]]), 6)


def test_a_delta_that_left_a_gap_was_not_applied():
    gap = applied(2, "1.1", before="1.1", base="1.2", done="gap")
    assert kept(audit.what_was_said([[gap]]), 0)


# 5: quiet and connected: agreed


def test_a_client_that_is_behind_after_five_quiet_seconds_is_found():
    quiet = [(10.0, StateVersion.parse("1.3"))]
    late = [applied(9, "1.2"), applied(15.1, "1.3")]
    assert found(audit.agreement([[applied(14.9, "1.3")], late], quiet), "client 1", "1.2", "1.3")


def test_a_client_that_never_applied_anything_is_found():
    assert found(audit.agreement([[]], [(10.0, StateVersion.parse("1.3"))]), "None")


def test_what_clients_learn_after_the_quiet_does_not_count():
    log = [applied(9, "1.3"), applied(16, "1.4")]
    assert kept(audit.agreement([log, log], [(10.0, StateVersion.parse("1.3"))]), 2)


# 7: probes keep their quota


def test_two_probes_in_a_second_are_found_also_at_two_clients():
    verdict = audit.probes([[probe(1.0)], [probe(1.9)]])
    assert found(verdict, "2 probes", "quota 1")


def test_as_many_probes_as_the_quota_are_kept():
    assert kept(audit.probes([[probe(1.0), probe(2.0)], [probe(3.0)]]), 3)
    assert kept(audit.probes([[probe(1.0, 2.0), probe(1.5, 2.0)]]), 2)


def test_each_key_has_its_own_quota():
    assert kept(audit.probes([[probe(1.0), probe(1.1, key=("bob", "work"))]]), 2)


def test_three_probes_where_two_are_due_are_found():
    assert found(audit.probes([[probe(1.0, 2.0), probe(1.3, 2.0), probe(1.6, 2.0)]]), "3 probes")


# 8: what is refused does not run


def test_a_refused_call_that_ran_is_found():
    log = [decision(1, number=7), ran(1, number=7)]
    assert found(audit.refused_did_not_run([[], log]), "client 1", "7")


def test_calls_that_were_let_through_may_run_and_numbers_are_each_clients_own():
    logs = [[decision(1, number=7), ran(2, number=8)], [ran(1, number=7)]]
    assert kept(audit.refused_did_not_run(logs), 2)


# 10: the kill switch stops all


def test_a_refusal_a_second_after_the_kill_switch_is_found():
    thrown = [audit.Thrown(1, 10.0, 20.0)]
    assert found(audit.kill_switches([[], [decision(11.1)]], thrown), "client 1", "ann")


def test_within_the_second_before_after_and_elsewhere_refusals_are_kept():
    log = [decision(9), decision(10.9), decision(12, allowed=True), decision(20.1)]
    thrown = [audit.Thrown(1, 10.0, 20.0)]
    assert kept(audit.kill_switches([[decision(12)], log], thrown), 1)


# 15: demand gone, closed


def test_a_user_who_is_refused_after_the_end_is_found():
    closed = [audit.Closed("ann", 10.0, 30.0)]
    assert found(audit.closing([[], [decision(29), decision(31), decision(32)]], closed), "2 times")


def test_refusals_before_the_end_and_of_others_are_kept():
    logs = [[decision(29), decision(31, allowed=True), decision(31, key=("bob", "work"))]]
    assert kept(audit.closing(logs, [audit.Closed("ann", 10.0, 30.0)]), 1)


# held on without a gap


def refusals(*times):
    return [decision(at) for at in times]


def test_a_gap_between_refusals_is_found():
    log = refusals(10.5, 11.0, 12.5, 13.0)
    assert found(audit.gaps([[*log]], KEY, 10.0, 13.5), "client 0", "1.5 s")


@pytest.mark.parametrize("times", [(11.5, 12.0), (10.5, 10.9)])
def test_a_gap_at_either_end_is_found(times):
    assert found(audit.gaps([refusals(*times)], KEY, 10.0, 12.0), "1.")


def test_refusals_of_another_key_fill_no_gap():
    log = [decision(10.5), decision(11.0, key=("bob", "work")), decision(11.7)]
    assert found(audit.gaps([log], KEY, 10.0, 12.0), "1.2 s")


def test_refusals_without_a_gap_are_kept():
    assert kept(audit.gaps([refusals(9, 10.5, 11.5, 12.3)], KEY, 10.0, 12.0), 3)


# what the audit is given, and what it says


def test_reach_is_the_first_moment_at_which_each_client_had_the_entry():
    first = [applied(1, "1.1", held=()), applied(2, "1.2"), applied(3, "1.3")]
    assert audit.reach([first, [applied(4, "1.3")], []], ENTRY) == [2.0, 4.0, None]


def row(at, change, lease_ms=5_000):
    entry = {"user": "ann", "service": "fleet", "call": "work", "lease_ms": lease_ms}
    return {"at_ns": at, "change": change, "entry_id": ENTRY, "entry": entry}


def test_grants_are_read_of_rows_in_any_order_with_the_longest_lease():
    rows = [row(30, "cleared"), row(20, "stepped", 8_000), row(10, "opened")]
    fleet = ("ann", "fleet", "work")
    assert grants(rows) == {ENTRY: Grant(ENTRY, fleet, 10, lease_s=8.0, until_ns=30)}
    assert grants(rows[1:])[ENTRY].until_ns is None


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    log = tmp_path / "log"
    log.write_text('{"what": "ran", "at": 1, "ns": 2, "number": 3}\n{"what": "ra')
    assert read(log) == [Record("ran", 1, 2, {"number": 3})]


def test_the_table_sums_the_verdicts_of_one_invariant_and_shows_the_first_trouble():
    good, bad = audit.Verdict("8 runs"), audit.Verdict("8 runs")
    good.check(True, "unseen")
    bad.check(False, "client 3 ran 7")
    bad.check(False, "client 4 ran 8")
    line = audit.table([good, bad]).splitlines()[1]
    assert line.split() == ["8", "runs", "3", "2:", "client", "3", "ran", "7"]
