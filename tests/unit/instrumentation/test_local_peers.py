"""Local breakers by peer and call: one each, bounded, and the idle ones go."""

import threading

from heatshield.resilience.local_breaker import Outcome, State
from heatshield.resilience.peer_breakers import IDLE_S, MOST_BREAKERS, LocalBreakers

NOW = 1_000.0
SHOP = ("shop:8000", "GET", "POST /purchases")
OTHER = ("shop:8000", "GET", "GET /stickers")


def trip(breaker, now):
    for later in (0, 1):
        for _ in range(10):
            phase = breaker.allow(now + later)
            if phase is not None:
                breaker.record(phase, Outcome.FAILURE, 0.0, now + later)
    assert breaker.state is State.OPEN
    return now + 1


def test_there_is_one_for_each_peer_call_and_caller():
    breakers = LocalBreakers()
    assert breakers.at(SHOP, NOW) is breakers.at(SHOP, NOW)
    trip(breakers.at(SHOP, NOW), NOW)
    assert breakers.at(OTHER, NOW).state is State.CLOSED
    assert breakers.at(("talk:8000", *SHOP[1:]), NOW).state is State.CLOSED


def test_there_are_never_more_than_so_many():
    breakers = LocalBreakers()
    for peer in range(3 * MOST_BREAKERS):
        breakers.at((f"host-{peer}", "GET", ""), NOW + peer / 1_000)
        assert len(breakers) <= MOST_BREAKERS
    assert len(breakers) > MOST_BREAKERS / 2


def test_one_that_is_open_is_not_pushed_out_by_a_flood_of_new_ones():
    breakers = LocalBreakers(most=100)
    now = trip(breakers.at(SHOP, NOW), NOW)
    for peer in range(1_000):
        breakers.at((f"host-{peer}", "GET", ""), now + peer / 1_000)
    assert breakers.at(SHOP, now + 1).state is State.OPEN


def test_one_that_has_seen_failures_is_not_pushed_out_before_it_trips():
    breakers = LocalBreakers(most=100)
    breaker = breakers.at(SHOP, NOW)
    breaker.record(breaker.allow(NOW), Outcome.FAILURE, 0.0, NOW)
    for peer in range(1_000):
        breakers.at((f"host-{peer}", "GET", ""), NOW + peer / 1_000)
    assert breakers.at(SHOP, NOW + 1) is breaker


def test_the_bound_holds_even_if_all_of_them_are_open():
    breakers = LocalBreakers(most=16)
    for peer in range(64):
        trip(breakers.at((f"host-{peer}", "GET", ""), NOW + peer), NOW + peer)
        assert len(breakers) <= 16
    assert breakers.at(("host-63", "GET", ""), NOW + 64).state is State.OPEN  # the newest stays


def test_of_clean_ones_the_least_recently_used_go():
    breakers = LocalBreakers(most=16)
    kept = breakers.at(SHOP, NOW)
    for peer in range(64):
        breakers.at((f"host-{peer}", "GET", ""), NOW + peer)
        assert breakers.at(SHOP, NOW + peer) is kept


def test_idle_ones_go_though_there_is_room():
    breakers = LocalBreakers()
    trip(breakers.at(SHOP, NOW), NOW)
    breakers.at(OTHER, NOW + IDLE_S)
    assert len(breakers) == 2
    breakers.at(("talk:8000", "GET", ""), NOW + IDLE_S + 61)
    assert [state.caller for state in breakers.states(NOW)] == ["GET /stickers", ""]


def test_states_say_all_that_people_and_metrics_want():
    breakers = LocalBreakers(chance=lambda: 0.5)
    now = trip(breakers.at(SHOP, NOW), NOW)
    breaker = breakers.at(OTHER, now)
    for outcome in (Outcome.SUCCESS, Outcome.FAILURE):
        breaker.record(breaker.allow(now), outcome, 0.0, now)
    breaker.record(breaker.allow(now + 1), Outcome.SUCCESS, 0.0, now + 1)
    closed, opened = breakers.states(now + 1)
    assert closed[:7] == (*OTHER, State.CLOSED, 2, 1, 0)
    assert opened[:7] == (*SHOP, State.OPEN, 0, 0, 0)
    assert (opened.refused, opened.opened, opened.retry_after_s) == (9, 1, 9.0)
    assert opened.reason == "10 of 10 requests failed"


def test_threads_that_meet_a_peer_at_once_share_its_breaker():
    breakers = LocalBreakers()
    found, barrier = [], threading.Barrier(8)

    def meet():
        barrier.wait()
        found.append(breakers.at(SHOP, NOW))

    threads = [threading.Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_threads_get_one_trial_between_them():
    breakers = LocalBreakers(chance=lambda: 0.5)
    breaker = breakers.at(SHOP, NOW)
    at = trip(breaker, NOW) + breaker.retry_after_s(NOW + 1)
    trials, barrier = [], threading.Barrier(8)

    def ask():
        barrier.wait()
        trials.extend(breaker.allow(at) is not None for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(trials) == 1
    assert breaker.refused == 9 + 399
