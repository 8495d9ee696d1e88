"""Simulated traffic: no ordinary user is hot, one who burns the service is, within a second.

Time is simulated; charges arrive and rules are evaluated every 250 ms, as in the collector.
"""

import pyarrow as pa
import pytest
from charge_rows import Traffic, charge, charge_table, linked

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield_collector.detect import PANE_S, Detection, HotRules
from heatshield_collector.link import Linked

CAPACITY = 8.0
START_S = 1_000.0
BASELINE_S = 150.0
HOT = "hot-user"


def at(now_s):
    """The moment at these monotonic seconds."""
    return Instant(now_s, round(now_s * 1e9))


def warm(traffic, now_s=START_S):
    """Detection that has seen ordinary traffic for a while, and the time it is there."""
    detection = Detection(lambda _: CAPACITY)
    for charges in traffic.past(BASELINE_S):
        detection.observe(Linked.of_charges(charges), at(now_s))
        now_s += 10.0
    return detection, now_s


def hot_users(detection, now_s):
    return {one.key.user for one in detection.evaluate(at(now_s)) if one.klass == "hot"}


@pytest.mark.parametrize("exponent", [0.8, 1.0, 1.2])
def test_no_user_is_hot_in_a_minute_of_normal_traffic_with_bursts(exponent):
    """2,000 requests/s; every fifteen seconds all users come twice as often for two seconds.

    The top user holds up to a fifth of all load, always.
    """
    traffic = Traffic(exponent, seed=round(exponent * 10))
    detection, now_s = warm(traffic)
    named = set()
    for step in range(round(60 / PANE_S)):
        surge = 2.0 if step * PANE_S % 15 < 2 else 1.0
        detection.observe(Linked.of_charges(traffic.requests(PANE_S, surge)), at(now_s))
        now_s += PANE_S
        named |= hot_users(detection, now_s)
    assert named == set()
    assert detection.loads.total("busy", "10s", now_s) > 3.0


@pytest.mark.parametrize("exponent", [0.8, 1.2])
@pytest.mark.parametrize(("burnt", "within_s"), [(0.5, 1.0), (1.0, 1.0), (2.0, 1.0)])
def test_exactly_the_user_who_burns_some_of_eight_workers_is_named_within_a_second(
    exponent, burnt, within_s
):
    """With requests of 50 ms, one after the other on ``burnt`` workers, in ordinary traffic."""
    traffic = Traffic(exponent, seed=7)
    detection, now_s = warm(traffic)
    spent_ms, found_s = 0.0, None
    for step in range(1, round(3 / PANE_S) + 1):
        fresh = round(burnt * step * PANE_S * 1_000 / 50) - round(spent_ms / 50)
        spent_ms += 50 * fresh
        hot = [charge(HOT, 50, trace=2**40 + 100 * step + n) for n in range(fresh)]
        both = pa.concat_tables([traffic.requests(PANE_S), charge_table(hot)])
        detection.observe(Linked.of_charges(both), at(now_s))
        now_s += PANE_S
        named = hot_users(detection, now_s)
        assert named <= {HOT}
        found_s = found_s or (step * PANE_S if named else None)
    assert found_s is not None
    assert found_s <= within_s
    assert named == {HOT}


def test_a_floor_of_nothing_is_allowed_and_finds_no_fewer():
    rules = HotRules.tuned(share=0.001, ratio=5.0, least=0.0)
    detection = Detection(lambda _: CAPACITY, rules)
    detection.observe(linked([charge(HOT, 50, trace=n) for n in range(1, 20)]), at(START_S))
    assert hot_users(detection, START_S + PANE_S) == {HOT}


def quiet():
    """Detection with the baseline of a few users, and the time it is there."""
    return warm(Traffic(1.0, seed=3, users=50, rate=20.0, load=0.5))


@pytest.mark.parametrize("piece_ms", [10_000, 250, 60, 19, 5, 1])
def test_one_giant_request_never_trips_whatever_pieces_it_arrives_in(piece_ms):
    """Ten busy seconds in one charge, or one piece after the other as the time is spent."""
    detection, now_s = quiet()
    for _ in range(min(400, 10_000 // piece_ms)):
        detection.observe(linked([charge("giant", piece_ms, trace=77)]), at(now_s))
        assert hot_users(detection, now_s) == set()
        now_s += min(piece_ms / 1_000, 1.0)
    giant = detection.loads.load_of(
        CallKey(DEFAULT_TENANT, "giant", "shop", "POST /p"), "10s", now_s - 1.0
    )
    assert giant.lower > 0.02
    for _ in range(60):
        now_s += PANE_S
        assert hot_users(detection, now_s) == set()


def hammer(user, **columns):
    """``user`` keeps four workers busy for three seconds; who was named."""
    detection, now_s = quiet()
    named = set()
    for step in range(round(3 / PANE_S)):
        rows = [
            charge(user, 50, trace=2**41 + step * 100 + number, **columns) for number in range(20)
        ]
        detection.observe(linked(rows), at(now_s))
        now_s += PANE_S
        named |= hot_users(detection, now_s)
    assert detection.loads.top("busy", "1s", 1, now_s)[0].key.user == user
    return named


def test_hammering_trips():
    """What the tests after this one rely on."""
    assert hammer("v") == {"v"}


def test_charges_of_no_user_never_trip_however_much_they_cost():
    """The linker says so, and detection does not rely on it."""
    assert hammer(None, eligible=False) == set()
    assert hammer(None) == set()


def test_a_user_called_unknown_is_found_like_any_other():
    assert hammer("unknown") == {"unknown"}


@pytest.mark.parametrize("reason", ["conflict", "transfer"])
def test_charges_that_are_not_eligible_never_trip(reason):
    """Traces whose spans name different users; transfers from unknown."""
    assert hammer("v", eligible=False, transferred=reason == "transfer") == set()


def test_a_steady_load_is_found_by_the_slow_rule_where_the_fast_one_is_blind():
    """0.2 of eight workers: under 3 % over one second, over 2 % over ten."""
    detection, now_s = quiet()
    windows = set()
    for step in range(round(15 / PANE_S)):
        rows = [charge("steady", 50, trace=2**41 + step)]
        detection.observe(linked(rows), at(now_s))
        now_s += PANE_S
        windows |= {one.window for one in detection.evaluate(at(now_s)) if one.klass == "hot"}
    assert windows == {"10s"}


def test_a_user_of_a_small_service_is_found_beside_hundreds_of_heavier_ones_of_a_large_one():
    """The large one's are usual; so many of them must not hide the small one's."""
    detection = Detection(lambda service: 1_000.0 if service == "large" else 1.0)
    now_s = START_S
    usual = [charge(f"big-{n}", 10_000, trace=n, service="large") for n in range(300)]
    for _ in range(15):
        detection.observe(linked(usual), at(now_s))
        now_s += 10.0
    for step in range(4):
        rows = [
            charge(f"big-{n}", 250, trace=10**6 + 1_000 * step + n, service="large")
            for n in range(300)
        ]
        rows += [charge("small", 25, trace=10**9 + 10 * step + n) for n in range(5)]
        detection.observe(linked(rows), at(now_s))
        now_s += PANE_S
    assert hot_users(detection, now_s) == {"small"}


def test_a_transfer_is_the_user_s_but_no_second_load_on_the_call():
    detection = Detection(lambda _: CAPACITY)
    detection.observe(linked([charge(None, 100, eligible=False)]), at(START_S))
    moved = charge("u", 100, eligible=False, transferred=True)
    detection.observe(linked([moved]), at(START_S))
    ((service, call, loads),) = detection.loads.calls("1s", 10, START_S)
    assert (service, call, round(loads["busy"], 9)) == ("shop", "POST /p", 0.1)
    assert loads["calls"] == 1.0
    assert {one.key.user for one in detection.loads.top("busy", "1s", 10, START_S)} == {"u", None}


def test_a_backend_s_time_is_the_user_s_call_s_and_shows_as_the_backend_s_own_call():
    detection = Detection(lambda _: CAPACITY)
    spent = charge("u", 80, backend="redis", operation="SADD", calls=0, elements=20_000)
    detection.observe(linked([charge("u", 20), spent]), at(START_S))
    (load,) = detection.loads.top("busy", "1s", 10, START_S)
    assert (load.key.call, round(load.load, 9)) == ("POST /p", 0.1)
    calls = {
        (service, call): of["busy"] for service, call, of in detection.loads.calls("1s", 9, START_S)
    }
    assert calls == {("redis", "SADD"): 0.08, ("shop", "POST /p"): 0.02}


def test_a_hot_user_comes_with_load_unclipped_baseline_and_the_requests_that_show_it():
    detection, now_s = quiet()
    rows = [charge("v", 100 * number, trace=number) for number in range(1, 7)]
    detection.observe(linked(rows), at(now_s))
    hot, heavy = detection.evaluate(at(now_s))
    assert (hot.klass, heavy.klass) == ("hot", "heavy")
    assert (hot.load, hot.baseline, hot.window) == (2.1, 0.0, "1s")
    assert hot.trace_ids == [f"{number:032x}" for number in (6, 3, 5)]
    assert heavy.reason.endswith("of all busy time over 10s belongs to this user")


def test_refused_calls_do_not_make_a_user_s_calls_seem_cheap():
    """Else pacing lets through many times its budget, and demand falls though as much comes."""
    detection = Detection(lambda _: 4.0)
    key = CallKey(DEFAULT_TENANT, "hot", "shop", "POST /p")
    ran = [charge("hot", 300, trace=n + 1) for n in range(4)]
    refused = [charge("hot", 0.2, trace=n + 10, eligible=False) for n in range(100)]
    detection.observe(linked(ran), Instant(1.0, 0))
    detection.observe(linked(refused), Instant(2.0, 0))
    assert detection.describe(key, 2.0).cost_per_call == pytest.approx(0.3)
    assert detection.describe(key, 30.0).cost_per_call == 0.0  # none ran lately
