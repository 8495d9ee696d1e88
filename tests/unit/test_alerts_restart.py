"""What was held when a collector ended is held on by the next."""

import json
from dataclasses import replace

import pytest

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant, ManualClock
from heatshield.contract import BreakerMode
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.breaker_states import BreakerState
from heatshield_alerts.caps import Caps
from heatshield_alerts.control_state import KeptControl
from heatshield_alerts.draft import Draft, Reason
from heatshield_alerts.restart import HeldEntry, kept_entries
from heatshield_alerts.restraint import HOLD_DOWN_S, MAX_MOVES
from heatshield_alerts.seen import Seen

S = 10**9
START = Instant(50.0, 1_700_000_000 * S)


def after(seconds, monotonic_s=1_000.0):
    """So much later on the wall clock, in a process whose monotonic clock began elsewhere."""
    return Instant(monotonic_s, START.epoch_ns + round(seconds * S))


def draft(user="u-1", issuer="rule:HarmfulUser", **more):
    figures = {"threshold": 0.1, "cost_per_call": 0.2}
    more = {"evidence": figures, **figures, **more}
    return Draft(CallKey(DEFAULT_TENANT, user, "shop", "POST /p"), issuer, **more)


def kept(control, now=START):
    """What a collector keeps, as it is read back from its file."""
    return KeptControl(json.loads(json.dumps(control.keep(now))))


def restarted(control, now, ended=START, epoch=8):
    again = BreakerControl(epoch)
    changes = again.restore(kept(control, ended), now)
    assert {change.kind.value for change in changes} <= {"restored"}
    return again


def entries_of(control):
    """Whatever clients see of them but the version of the change."""
    return [replace(entry, seq=0) for entry in control.snapshot().entries]


def test_an_open_entry_is_held_on_as_it_was_at_the_new_epoch():
    before = BreakerControl(epoch=7)
    before.trip(draft(), START.monotonic_s)
    again = restarted(before, after(1))
    assert entries_of(again) == entries_of(before)
    assert again.at.epoch == 8
    assert again.held[0].demand.threshold == 0.1
    assert again.held[0].demand.cost_per_call == 0.2


def test_what_was_cleared_is_not_held_on_and_rules_are_held_off_for_as_long_as_before():
    control = BreakerControl(epoch=7)
    opened = control.trip(draft(), START.monotonic_s)
    control.clear(opened.entry.id, "ann", START.monotonic_s)
    again = restarted(control, after(100))
    assert again.snapshot().entries == ()
    assert again.trip(draft(), 1_000.0).reason is Reason.HELD_DOWN
    assert again.trip(draft(issuer="human:ann"), 1_000.0).reason is None
    later = restarted(control, after(HOLD_DOWN_S))
    assert later.trip(draft(), 1_000.0).reason is None


def test_a_restart_does_not_lengthen_a_cut_however_often():
    """The ceiling is counted from the grant, not from the restart."""
    control, ended = BreakerControl(epoch=1), START
    for one in (
        draft(),
        draft("u-2", "human:ann", lease_ms=60_000),
        draft("u-3", "human:ann", lease_ms=30_000),
        draft("u-4", "human:ann"),
    ):
        control.trip(one, START.monotonic_s)
    for number, (after_s, lefts) in enumerate(
        [(8, [892, 52, 22, 892]), (40, [860, 20, 860]), (300, [600, 600]), (901, [])]
    ):
        now = after(after_s, monotonic_s=1_000.0 * number)
        control, ended = restarted(control, now, ended), now
        assert [round(one.left_s(now.monotonic_s)) for one in control.held] == lefts


def test_a_wall_clock_that_was_set_back_loses_no_entry_and_one_ahead_lengthens_none():
    before = BreakerControl(epoch=1)
    before.trip(draft(), START.monotonic_s)
    (held,) = restarted(before, after(-3_600)).held
    assert held.left_s(1_000.0) == 900.0
    assert restarted(before, after(3_600)).held == ()


def test_what_its_alert_goes_on_asking_for_is_kept_now_and_then_and_not_in_the_audit():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0)
    renewed = [control.trip(draft(), at_s) for at_s in (0.25, 9.75, 10.0, 10.25, 20.0)]
    assert [one.is_kept for one in renewed] == [False, False, True, False, True]
    assert not any(one.is_recorded or one.is_visible for one in renewed)
    (held,) = restarted(control, after(0), ended=Instant(20.0, START.epoch_ns)).held
    assert held.left_s(1_000.0) == 900.0


def test_a_half_open_entry_is_half_open_still():
    control, now = BreakerControl(epoch=1), ManualClock(50.0, START.epoch_ns)
    control.trip(draft(), now.monotonic())
    for seconds in (1.0, 11.0):
        now.advance(seconds)
        control.tick(now.monotonic(), Seen({}))
    assert control.held[0].state is BreakerState.HALF_OPEN
    again = restarted(control, after(13), ended=now.now())
    assert again.held[0].state is BreakerState.HALF_OPEN
    assert entries_of(again) == entries_of(control)


def test_time_in_which_nothing_was_observed_does_not_count_as_quiet():
    """A user who knocks on while the collector is down has not given up."""
    control, now = BreakerControl(epoch=1), ManualClock(50.0, START.epoch_ns)
    asked = draft()
    control.trip(asked, now.monotonic())
    for seconds in (1.0, 8.0):
        now.advance(seconds)
        control.tick(now.monotonic(), Seen({}))
    again = restarted(control, after(100), ended=now.now())
    changes = [again.tick(1_000.0 + step, Seen({})) for step in (0, 1, 2, 3)]
    assert [[one.kind.value for one in some] for some in changes] == [[], [], ["half_open"], []]


def test_an_entry_that_paces_keeps_its_budget_and_the_next_step_of_its_ladder():
    control = BreakerControl(epoch=1)
    asked = draft(mode=BreakerMode.PACE, then=BreakerMode.REJECT, budget=0.25, load=4.0)
    control.trip(asked, START.monotonic_s)
    again = restarted(control, after(1))
    (entry,) = again.snapshot().entries
    assert (entry.mode, entry.budget) == (BreakerMode.PACE, 0.25)
    changes = []
    for step in range(20):
        seen = Seen({asked.key: 4.0}, lasting={asked.key: "it harms others"})
        changes += again.tick(1_000.0 + step / 4, seen)
    assert [change.kind.value for change in changes] == ["escalated"]
    assert again.snapshot().entries[0].id == entry.id


def test_a_key_that_moved_too_often_is_not_free_to_move_again():
    control = BreakerControl(epoch=1)
    for _ in range(MAX_MOVES):
        change = control.trip(draft(issuer="human:ann"), START.monotonic_s)
        if change.reason is not None:
            break
        control.clear(change.entry.id, "ann", START.monotonic_s)
    control._restraint._held_down_until_s.clear()
    assert control.trip(draft(), START.monotonic_s).reason is Reason.FLAPPING
    assert restarted(control, after(1)).trip(draft(), 1_000.0).reason is Reason.FLAPPING


def test_what_is_held_on_and_what_was_opened_lately_counts_for_the_caps():
    """A restart gives no room for another storm of new entries, and takes none afterwards."""
    before = BreakerControl(epoch=1)
    for number in range(Caps().new_per_minute):
        before.trip(draft(f"u-{number}"), START.monotonic_s, active_users=100_000)
    again = restarted(before, after(1))
    assert len(again.held) == Caps().new_per_minute
    assert again.trip(draft("u-hot"), 1_000.0, 100_000).reason is Reason.TOO_MANY_NEW
    assert again.trip(draft("u-hot"), 1_060.0, 100_000).reason is None


def test_the_heat_of_what_is_held_on_is_that_of_busy_time_whatever_its_rule_looks_at():
    """20,000 elements a second are not 20,000 workers; nobody could ever take that place."""
    control = BreakerControl(epoch=1)
    asked = draft(evidence={"load": 20_000.0, "busy_load": 0.4, "threshold": 0.1}, load=0.4)
    control.trip(asked, START.monotonic_s)
    (held,) = restarted(control, after(1)).held
    assert held.draft.heat == asked.heat


def wrong_values():
    """Each member of what is kept, replaced by what it can't be."""
    control = BreakerControl(epoch=1)
    control.trip(draft(), START.monotonic_s)
    control.clear(control.trip(draft("u-2"), START.monotonic_s).entry.id, "ann", START.monotonic_s)
    said = json.dumps(control.keep(START))
    row, whole = json.loads(said)["held"][0], json.loads(said)
    paths = [
        *((name,) for name in whole),
        *(("restraint", name) for name in whole["restraint"]),
        *(("held", 0, name) for name in row),
        *(("held", 0, "draft", name) for name in row["draft"]),
        *(("held", 0, "entry", name) for name in row["entry"]),
    ]
    for path in paths:
        for value in ("x", None, [], [[]], [["x"]], {}, {"a": 1}, -1, 10**400, float("nan"), True):
            broken = json.loads(said)
            target = broken
            for name in path[:-1]:
                target = target[name]
            target[path[-1]] = value
            yield broken


@pytest.mark.parametrize("gone", ["since_ns", "entry", "state", "hold_s", "granted_ns"])
def test_a_breaker_that_lacks_a_member_is_left_out_and_the_others_are_held(gone):
    control = BreakerControl(epoch=1)
    for user in ("u-1", "u-2"):
        control.trip(draft(user, "human:ann"), START.monotonic_s)
    said = control.keep(START)
    del said["held"][0][gone]
    assert [one.key.user for one in KeptControl(said).held(START)] == ["u-2"]


def test_no_value_that_is_wrong_ends_the_next_collector_or_holds_anything_for_longer():
    for broken in wrong_values():
        again = BreakerControl(epoch=2)
        again.restore(KeptControl(broken), after(1))
        for at_s in (1_000.0, 1_000.25, 1_700.0):
            again.tick(at_s, Seen({}))
        again.keep(after(2))
        assert all(one.left_s(1_000.0) <= 900.0 for one in again.held)
        again.tick(1_900.0, Seen({}))
        assert not again.held


def test_what_a_later_format_says_is_not_guessed_at():
    control = BreakerControl(epoch=1)
    control.trip(draft(), START.monotonic_s)
    assert KeptControl({**control.keep(START), "format": 2}).held(START) == []
    assert KeptControl({**control.keep(START), "of a later version": 1}).held(START)


# -- what older versions kept -------------------------------------------------------------------


def older(user="u-1", issuer="rule:HarmfulUser", at_s=0, **more):
    """A row of the table that older versions had."""
    entry = {
        "id": f"b-{user}", "user": user, "service": "shop", "call": "POST /p", "mode": "reject",
        "lease_ms": 30_000, "issuer": issuer, "reason": "r", "rate_per_s": 0.0,
        "evidence": {"threshold": 0.1, "cost_per_call": 0.2, "busy_load": 0.4}, **more,
    }  # fmt: skip
    return HeldEntry(json.dumps(entry), START.epoch_ns + at_s * S)


def test_what_an_older_version_kept_is_held_on_for_the_rest_of_its_time():
    again = BreakerControl(epoch=8)
    again.restore(
        kept_entries(
            [
                older(hold_ms=900_000),
                older("u-2", "human:ann", lease_ms=60_000, hold_ms=60_000),
                older("u-3", "human:ann", hold_ms=30_000),
                older("u-4", "human:ann", hold_ms=900_000),
                older("u-5"),
                older("u-6", "human:ann", lease_ms=5_000),
            ]
        ),
        after(8),
    )
    left = {one.entry.user: round(one.left_s(1_000.0)) for one in again.held}
    assert left == {"u-1": 892, "u-2": 52, "u-3": 22, "u-4": 892, "u-5": 892}
    by_user = {one.entry.user: one for one in again.held}
    assert by_user["u-1"].demand.threshold == 0.1
    assert by_user["u-1"].draft.heat == 4.0
    assert by_user["u-4"].draft.lease_ms is None
    assert by_user["u-3"].draft.lease_ms == 30_000


def test_a_row_of_an_older_version_that_cannot_be_read_is_left_out():
    rows = [HeldEntry("{}", 1), HeldEntry("no JSON", 1), HeldEntry("[]", 1), older()]
    assert [one.key.user for one in kept_entries(rows).held(START)] == ["u-1"]
