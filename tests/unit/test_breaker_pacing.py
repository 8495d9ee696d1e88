"""A paced user: which calls run now, which wait, which are refused, and what a share changes."""

import pytest

from heatshield.breakers.decision import Reason
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.meter import Meter
from heatshield.breakers.pacing import Pacer
from heatshield.contract import (
    SHARE_S,
    BreakerEntry,
    BreakerMode,
    EntryScope,
    PlatformMode,
    Snapshot,
    StateVersion,
)

CALL = "POST /p"


def paced(**more) -> BreakerEntry:
    """A tenth of a second of budget a second, for calls that cost as much: one a second."""
    fields = {"budget": 0.1, "cost_per_call": 0.1, **more}
    return BreakerEntry(
        "b-1", "u-1", "shop", CALL, BreakerMode.PACE, issuer="rule:HarmfulUser", **fields
    )


def table(*entries, mode=PlatformMode.PROTECT, **more) -> BreakerTable:
    made = BreakerTable("shop", **more)
    made.apply(Snapshot(StateVersion(1, 1), mode, entries), 0.0)
    return made


def test_a_meter_owes_what_was_spent_until_the_rate_has_paid_for_it():
    meter = Meter(2.0)
    assert meter.delay_s(0.0) == 0.0
    meter.spend(3.0, 0.0)
    assert meter.delay_s(0.0) == pytest.approx(1.5)
    assert meter.delay_s(0.0, burst=1.0) == pytest.approx(1.0)
    meter.change_rate(1.0, 0.5)
    assert meter.delay_s(0.5) == pytest.approx(2.0)
    meter.refund(1.0)
    assert meter.delay_s(0.5) == pytest.approx(1.0)


def test_calls_wait_in_the_order_in_which_they_came():
    pacer = Pacer(paced())
    turns = [pacer.turn(0.0, 60.0) for _ in range(3)]
    assert [turn.delay_s for turn in turns] == pytest.approx([0.0, 1.0, 2.0])
    assert all(turn.runs for turn in turns)
    assert pacer.turn(2.5, 60.0).delay_s == pytest.approx(0.5)


def test_a_line_that_would_take_too_long_refuses_with_the_time_it_would_take():
    pacer = Pacer(paced())
    for _ in range(3):
        assert pacer.turn(0.0, 60.0).runs
    assert pacer.turn(0.0, 60.0) == (False, pytest.approx(3.0))
    assert not Pacer(paced(wait_ms=500)).turn(0.0, 0.0).delay_s


def test_a_line_holds_so_many_and_no_more():
    pacer = Pacer(paced(budget=10.0, waiting=2))
    runs = [pacer.turn(0.0, 60.0).runs for _ in range(20)]
    assert pacer.waiting == 2
    assert runs.count(True) == 8  # six that need not wait, as their turn is at hand


def test_a_call_that_cannot_wait_runs_if_it_is_its_turn():
    pacer = Pacer(paced())
    assert pacer.turn(0.0, 0.0).runs
    assert not pacer.turn(0.5, 0.0).runs
    assert pacer.turn(1.0, 0.0).runs


def test_a_user_who_pauses_saves_up_so_that_a_page_of_pictures_loads_whole():
    pacer = Pacer(paced(budget=0.08, cost_per_call=0.03))
    pacer.turn(0.0, 2.0)
    page = [pacer.turn(5.5, 2.0) for _ in range(12)]
    assert [turn.delay_s for turn in page] == [0.0] * 12
    assert not all(pacer.turn(6.0, 2.0).runs for _ in range(12)), "pages without pause don't"


def test_whoever_goes_away_gives_the_place_back():
    pacer = Pacer(paced())
    pacer.turn(0.0, 60.0)
    waiting = pacer.turn(0.0, 60.0)
    pacer.leave(waiting.delay_s)
    assert pacer.waiting == 0
    assert pacer.turn(0.0, 60.0).delay_s == pytest.approx(1.0)


def test_an_instance_spends_an_equal_part_until_it_is_dealt_a_share():
    held = table(paced(instances=4))
    assert held.decide("u-1", CALL, 0.0).allowed
    refused = held.decide("u-1", CALL, 0.0, 1.0)
    assert (refused.reason, refused.status) == (Reason.BEYOND_PACE, 429)
    assert refused.retry_after_s == pytest.approx(4.0)
    held.deal({"b-1": 1.0}, 0.0, 0.0)
    assert held.decide("u-1", CALL, 0.0, 2.0).delay_s == pytest.approx(1.0)


def test_a_share_that_ended_leaves_an_equal_part_at_most():
    held = table(paced(instances=4, wait_ms=60_000))
    held.deal({"b-1": 1.0}, 0.0, SHARE_S)  # the answer took its time
    held.decide("u-1", CALL, SHARE_S)
    assert held.decide("u-1", CALL, SHARE_S).retry_after_s == pytest.approx(4.0)

    held.deal({"b-1": 0.05}, SHARE_S, SHARE_S)
    later = 2 * SHARE_S + 30.0
    held.renewed(StateVersion(1, 1), later)
    held.decide("u-1", CALL, later)
    assert held.decide("u-1", CALL, later, 60.0).delay_s == pytest.approx(15.0)  # 5 s are saved


def test_nobody_is_told_to_come_back_when_a_share_of_nothing_would_have_paid():
    """An instance that came just now is dealt nothing until the others have reported again."""
    held = table(paced(instances=2))
    assert held.decide("u-1", CALL, 0.0).allowed
    held.deal({"b-1": 0.0}, 0.0, 0.0)
    refused = held.decide("u-1", CALL, 0.1)
    assert not refused.allowed
    assert refused.retry_after_s == pytest.approx(2.0, abs=0.2), "as of an equal part"


def test_what_is_not_spent_is_saved_from_the_first_deal_on_though_no_call_has_come():
    held = table(paced())
    held.deal({"b-1": 1.0}, 0.0, 0.0)
    held.deal({"b-1": 1.0}, 2.0, 2.0)
    through = [held.decide("u-1", CALL, 4.0).allowed for _ in range(9)]
    assert through == [True] * 5 + [False] * 4  # four seconds' worth, and the one that may begin


def test_what_came_is_told_in_busy_seconds_admitted_or_not():
    held = table(paced())
    assert [(row.budget, row.per_s) for row in held.offered(1.0)] == [("b-1", 0.0)]
    for _ in range(10):
        held.decide("u-1", CALL, 1.0)
    assert held.deals
    assert [row.per_s for row in held.offered(0.5)] == [pytest.approx(2.0)]
    assert [row.per_s for row in held.offered(0.5)] == [0.0]


def test_refused_calls_are_reported_as_those_of_a_breaker_are():
    held = table(paced())
    for _ in range(5):
        held.decide("u-1", CALL, 1.0)
    (row,) = held.drain_rejections()
    assert (row.id, row.count, row.user) == ("b-1", 4, "u-1")


def test_in_shadow_nobody_waits_and_what_would_be_refused_is_counted():
    held = table(paced(), mode=PlatformMode.SHADOW)
    decisions = [held.decide("u-1", CALL, 1.0, 60.0) for _ in range(5)]
    assert all(one.allowed and not one.delay_s for one in decisions)
    assert held.would_have_rejected() == {"b-1": 2}


def test_the_kill_switch_ends_pacing():
    held = table(paced(), enforce=False)
    assert all(held.decide("u-1", CALL, 1.0, 60.0).delay_s == 0 for _ in range(5))


def test_after_the_lease_nobody_waits():
    held = table(paced(lease_ms=1_000))
    assert all(held.decide("u-1", CALL, 12.0, 60.0).allowed for _ in range(50))


def test_only_the_instance_that_is_named_probes():
    entry = BreakerEntry(
        "b-1", "u-1", "shop", CALL, issuer="rule:HarmfulUser", prober="i-2", probe_per_s=2.0
    )
    others = table(entry, instance=lambda: "i-1")
    assert not any(others.decide("u-1", CALL, n / 10).allowed for n in range(50))
    prober = table(entry, instance=lambda: "i-2")
    probes = [prober.decide("u-1", CALL, 1.0 + n / 10) for n in range(50)]
    assert {one.reason for one in probes if one.allowed} == {Reason.PROBED}
    assert sum(one.allowed for one in probes) == 10
    assert prober.decide("u-1", CALL, 31.0).reason is not Reason.PROBED


# -- scopes ----------------------------------------------------------------------------------------


def wide(scope: str, user: str, call: str, tenant: str = "default", **more) -> BreakerEntry:
    return BreakerEntry(
        f"b-{scope}", user, "shop", call, issuer="human:ann", scope=EntryScope(scope),
        tenant=tenant, **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "refused", "let_through"),
    [
        (wide("user_service", "u-1", ""), [("u-1", "GET /"), ("u-1", CALL)], [("u-2", CALL)]),
        (wide("tenant_call", "", CALL), [("u-1", CALL), (None, CALL)], [("u-1", "GET /")]),
        (wide("call", "", CALL, tenant="other"), [("u-1", CALL)], [("u-1", "GET /")]),
        (
            wide("pattern", "bot-*", "POST *"),
            [("bot-1", CALL), ("bot-", "POST /")],
            [("robot-1", CALL), ("bot-1", "GET /"), (None, CALL)],
        ),
        (wide("tenant_call", "", CALL, tenant="other"), [], [("u-1", CALL)]),
    ],
)
def test_an_entry_refuses_what_its_scope_is_about_and_nothing_else(entry, refused, let_through):
    held = table(entry)
    for user, call in refused:
        assert not held.decide(user, call, 1.0).allowed, (user, call)
    for user, call in let_through:
        assert held.decide(user, call, 1.0).allowed, (user, call)


def test_of_entries_that_match_the_first_that_refuses_counts_and_the_rest_keep_no_place():
    held = table(paced(), wide("user_service", "u-1", ""))
    for _ in range(5):
        decision = held.decide("u-1", CALL, 1.0, 60.0)
        assert (decision.allowed, decision.entry.id) == (False, "b-user_service")
    assert held.decide("u-1", "GET /", 1.0).entry.id == "b-user_service"


def test_the_longest_wait_of_entries_that_pace_counts():
    slower = wide("user_service", "u-1", "", mode=BreakerMode.PACE, budget=0.05, cost_per_call=0.1)
    held = table(paced(), slower)
    assert held.decide("u-1", CALL, 1.0, 60.0).delay_s == 0.0
    decision = held.decide("u-1", CALL, 1.0, 60.0)
    assert (decision.delay_s, decision.entry.id) == (pytest.approx(2.0), "b-user_service")


# -- the cheap path --------------------------------------------------------------------------------


def test_a_service_may_ask_and_nothing_is_counted():
    held = table(
        BreakerEntry("b-1", "u-1", "shop", "refresh", BreakerMode.FLAG, issuer="rule:HarmfulUser")
    )
    assert held.flags("u-1", "refresh", 1.0)
    assert not held.flags("u-2", "refresh", 1.0)
    assert not held.flags("u-1", "refresh", 31.0)
    held.enforce = False
    assert not held.flags("u-1", "refresh", 1.0)
    assert held.drain_rejections() == ()


def test_in_shadow_no_service_takes_the_cheap_path():
    held = table(paced(), mode=PlatformMode.SHADOW)
    assert not held.flags("u-1", CALL, 1.0)
