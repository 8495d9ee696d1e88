"""What the machine does beside the demo, and how hard the hot user must buy on it."""

import pytest

from heatshield_stickershop.demo.machine import (
    FEWEST_CONNECTIONS,
    MOST_CONNECTIONS,
    Processors,
    connections_for,
)
from heatshield_stickershop.demo.report import Run
from heatshield_stickershop.load import Sent
from heatshield_stickershop.population import HOT_USER

MS = 10**6


def measured(calm_ms, purchase_ms, purchases=5):
    calm = [
        Sent(number * MS, calm_ms, 200, "u-0001", hot=False, route="list", rejected_by=None)
        for number in range(100)
    ]
    hot = [
        Sent(
            (1_000 + number) * MS,
            purchase_ms,
            200,
            HOT_USER,
            hot=True,
            route="purchase",
            rejected_by=None,
        )
        for number in range(purchases)
    ]
    return Run("shadow", [*calm, *hot], [], 0)


@pytest.mark.parametrize(
    ("calm_ms", "purchase_ms", "connections"),
    [
        (10.0, 200.0, FEWEST_CONNECTIONS),  # a purchase alone is harm enough
        (40.0, 50.0, 8),
        (100.0, 100.0, 10),
        (500.0, 20.0, MOST_CONNECTIONS),
    ],
)
def test_the_hot_user_buys_harder_where_a_purchase_is_cheap_beside_the_noise(
    calm_ms, purchase_ms, connections
):
    assert connections_for(measured(calm_ms, purchase_ms)) == connections


def test_without_a_purchase_to_measure_it_is_the_least():
    failed = Sent(2_000 * MS, 9.0, 503, HOT_USER, hot=True, route="purchase", rejected_by=None)
    run = measured(10.0, 1.0, purchases=0)
    assert connections_for(Run("shadow", [*run.sent, failed], [], 0)) == FEWEST_CONNECTIONS


def test_others_have_what_neither_idled_nor_was_ours():
    before = Processors.of([100, 0, 50, 800, 50, 0, 0, 0, 7, 7], 100, ours_s=1.0)
    after = Processors.of([300, 0, 150, 1_000, 50, 0, 0, 100, 9, 9], 100, ours_s=2.8)
    assert after.all_s - before.all_s == 6.0
    assert after.share_of_others(before) == pytest.approx((4.0 - 1.8) / 6.0)
    assert before.share_of_others(before) == 0.0


def test_this_machine_tells():
    assert Processors.now().all_s > Processors.now().spent_s > 0
