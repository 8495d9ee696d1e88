"""What was held when a collector ended is held on by the next."""

import json

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.contract import BreakerMode
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.caps import Caps
from heatshield_alerts.draft import Draft
from heatshield_alerts.restart import held_after
from heatshield_alerts.restart import held_drafts as drafts_of
from heatshield_alerts.seen import Seen

SECOND_NS = 10**9
NOW_NS = 1_700_000_000 * SECOND_NS


def draft(user="u-1", issuer="rule:HotUser", **more):
    figures = {"threshold": 0.1, "cost_per_call": 0.2}
    more = {"evidence": figures, **figures, **more}
    return Draft(CallKey(DEFAULT_TENANT, user, "shop", "POST /p"), issuer, **more)


def audit_of(changes, at_ns=NOW_NS):
    """The rows a collector's audit has of these changes, a millisecond apart, newest first."""
    return [
        {
            "at_ns": at_ns + number * 1_000_000,
            "change": change.kind.value,
            "entry_id": change.entry.id,
            "entry": json.dumps(change.to_json()["entry"]),
        }
        for number, change in enumerate(changes)
    ][::-1]


def held_drafts(rows, now_ns):
    """Drafts of what audit rows, newest first, leave held."""
    held = held_after(sorted(rows, key=lambda row: row["at_ns"]))
    return drafts_of([one for one in held.values() if one is not None], now_ns)


def test_an_open_entry_is_held_on_with_its_evidence_at_the_new_epoch():
    before, after = BreakerControl(epoch=7), BreakerControl(epoch=8)
    rows = audit_of([before.trip(draft(), 0.0)])
    after.restore(held_drafts(rows, NOW_NS + SECOND_NS), 0.0)
    (entry,) = after.snapshot().entries
    assert (entry.user, entry.mode, entry.issuer) == ("u-1", BreakerMode.REJECT, "rule:HotUser")
    assert after.at.epoch == 8
    assert after.held[0].demand.threshold == 0.1
    assert after.held[0].demand.cost_per_call == 0.2


def test_what_was_cleared_or_closed_is_not_held_on():
    control = BreakerControl(epoch=1)
    opened = control.trip(draft(), 0.0)
    cleared = control.clear(opened.entry.id, "ann", 1.0)
    assert held_drafts(audit_of([opened, cleared]), NOW_NS + SECOND_NS) == []


def test_a_restart_does_not_lengthen_a_cut_however_often():
    """The ceiling is counted from the grant, not from the restart."""
    first = BreakerControl(epoch=1)
    rows = audit_of(
        [
            first.trip(draft(), 0.0),
            first.trip(draft("u-2", "human:ann", lease_ms=60_000), 0.0),
            first.trip(draft("u-3", "human:ann", lease_ms=30_000), 0.0),
            first.trip(draft("u-4", "human:ann"), 0.0),
        ]
    )
    for number, (after_s, lefts) in enumerate(
        [(8, [892, 52, 22, 892]), (40, [860, 20, 860]), (300, [600, 600])]
    ):
        again = BreakerControl(epoch=2 + number)
        changes = again.restore(held_drafts(rows, NOW_NS + after_s * SECOND_NS), 1_000.0)
        assert {change.kind.value for change in changes} == {"restored"}
        assert [round(one.left_s(1_000.0)) for one in again.held] == lefts
        rows = [*rows, *audit_of(changes, NOW_NS + after_s * SECOND_NS)]
        assert again.held[-1].entry.lease_ms == 30_000
    assert held_drafts(rows, NOW_NS + 901 * SECOND_NS) == []


def test_a_wall_clock_that_was_set_back_loses_no_entry():
    rows = audit_of([BreakerControl(epoch=1).trip(draft(), 0.0)])
    (held,) = held_drafts(rows, NOW_NS - 3_600 * SECOND_NS)
    assert held.age_s == 0.0


def test_what_its_alert_goes_on_asking_for_is_kept_now_and_then_and_not_in_the_audit():
    control = BreakerControl(epoch=1)
    control.trip(draft(), 0.0)
    kept = [control.trip(draft(), at_s) for at_s in (0.25, 9.75, 10.0, 10.25, 20.0)]
    assert [one.is_kept for one in kept] == [False, False, True, False, True]
    assert not any(one.is_recorded or one.is_visible for one in kept)
    assert kept[2].to_json()["entry"]["hold_ms"] == 900_000


def test_what_was_cleared_after_an_earlier_restart_stays_cleared():
    first, second = BreakerControl(epoch=1), BreakerControl(epoch=2)
    rows = audit_of([first.trip(draft(), 0.0)])
    (again,) = second.restore(held_drafts(rows, NOW_NS + SECOND_NS), 0.0)
    cleared = second.clear(again.entry.id, "ann", 1.0)
    later = audit_of([again, cleared], NOW_NS + SECOND_NS)
    assert held_drafts([*later, *rows], NOW_NS + 2 * SECOND_NS) == []


def test_a_half_open_entry_is_held_on_as_it_was_opened():
    control = BreakerControl(epoch=1)
    opened = control.trip(draft(), 0.0)
    changes = [opened]
    for at_s in (1.0, 12.0):
        changes += control.tick(at_s, Seen({}))
    assert [change.kind.value for change in changes] == ["opened", "half_open"]
    (held,) = held_drafts(audit_of(changes), NOW_NS + SECOND_NS)
    assert held.draft.mode is BreakerMode.REJECT


def test_what_was_granted_too_long_ago_has_ended_and_a_persons_trip_keeps_its_end():
    control = BreakerControl(epoch=1)
    rows = audit_of([control.trip(draft(issuer="human:ann"), 0.0)])
    (held,) = held_drafts(rows, NOW_NS + 300 * SECOND_NS)
    assert (held.draft.lease_ms, round(held.age_s)) == (None, 300)
    assert held_drafts(rows, NOW_NS + 900 * SECOND_NS) == []


def test_a_row_that_cannot_be_read_is_left_out():
    row = {"at_ns": NOW_NS, "change": "opened", "entry_id": "b-1", "entry": "{}"}
    assert held_drafts([row, {**row, "entry": "no JSON"}], NOW_NS) == []


def test_what_changes_nothing_that_is_held_is_left_out():
    refused = {"at_ns": NOW_NS, "change": "refused", "entry_id": "", "entry": "{}"}
    assert held_after([refused, {**refused, "change": "mode"}]) == {}


def test_what_is_held_on_takes_no_room_from_new_entries():
    """A restart is no storm of new ones: the first hot user after it must be cut."""
    rows = []
    for minute in range(Caps().new_per_minute):
        before = BreakerControl(epoch=1)
        opened = before.trip(draft(f"u-{minute}"), 0.0)
        rows += audit_of([opened], NOW_NS - minute)
    after = BreakerControl(epoch=2)
    after.restore(held_drafts(rows, NOW_NS + SECOND_NS), 0.0)
    assert len(after.held) == Caps().new_per_minute
    assert after.trip(draft("u-hot"), 1.0, active_users=100_000).kind.value == "opened"


def test_the_heat_of_what_is_held_on_is_that_of_busy_time_whatever_its_rule_looks_at():
    """20,000 elements a second are not 20,000 workers; nobody could ever take that place."""
    control = BreakerControl(epoch=1)
    asked = draft(evidence={"load": 20_000.0, "busy_load": 0.4, "threshold": 0.1}, load=0.4)
    rows = audit_of([control.trip(asked, 0.0)])
    (held,) = held_drafts(rows, NOW_NS + SECOND_NS)
    assert held.draft.heat == asked.heat
