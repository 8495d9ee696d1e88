"""The seeded load: who sends what and when."""

from collections import Counter

import pytest

from heatshield_stickershop import arrivals, population
from heatshield_stickershop.load import Sent


def test_the_same_seed_gives_the_same_load_and_another_seed_another():
    first, again = (list(arrivals.arrivals(7, 60.0, 5.0)) for _ in range(2))
    assert first == again
    assert first != list(arrivals.arrivals(8, 60.0, 5.0))


def test_arrivals_come_in_order_at_the_rate_that_was_asked_for_and_in_the_mix():
    load = list(arrivals.arrivals(1, 100.0, 100.0))
    due = [arrival.due_s for arrival in load]
    assert due == sorted(due)
    assert due[-1] < 100.0
    assert len(load) == pytest.approx(10_000, rel=0.05)
    for route, count in Counter(arrival.route for arrival in load).items():
        assert count / len(load) == pytest.approx(arrivals.MIX[route], abs=0.03)


def test_ordinary_users_own_5_to_50_stickers_and_the_hot_user_20_000():
    owned = population.owned_at_start(seed=3)
    assert len(owned.pop(population.HOT_USER)) == 20_000
    assert len(owned) == population.ORDINARY_USERS
    assert {5 <= len(set(stickers)) <= 50 for stickers in owned.values()} == {True}


def test_ordinary_users_send_only_stickers_that_they_own_and_the_hot_user_is_not_among_them():
    owned = population.owned_at_start(seed=3)
    for arrival in arrivals.arrivals(3, 100.0, 20.0):
        assert arrival.user != population.HOT_USER
        if arrival.route == arrivals.STICKER_MESSAGE:
            assert arrival.body["sticker"] in owned[arrival.user]


def test_a_record_survives_its_line():
    sent = Sent(1, 2.5, 503, "u-1", hot=True, route="purchase", rejected_by="b-1")
    assert Sent.from_line(sent.to_line()) == sent


@pytest.mark.parametrize(("status", "failed"), [(0, True), (201, False), (403, False), (503, True)])
def test_no_answer_and_5xx_are_failures(status, failed):
    assert Sent(1, 2.5, status, "u-1", False, "purchase", None).failed is failed
