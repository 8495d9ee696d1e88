"""Others who wait where nobody sees them are missed."""

import pytest

from heatshield_collector.detect.harm.rates import UsualRate, is_starved


def test_what_is_usual_lags_a_minute_behind():
    rate = UsualRate()
    for second in range(200):
        rate.add(60.0 if second < 140 else 5.0, 1.0, float(second))
        if second == 110:
            assert rate.usual(110.0) == 0.0, "a minute is too new, and less is known"
    assert rate.usual(199.0) == 60.0


def test_what_is_older_than_six_minutes_is_forgotten():
    rate = UsualRate()
    for second in range(700):
        rate.add(60.0 if second < 300 else 5.0, 1.0, float(second))
    assert rate.usual(700.0) == 5.0


@pytest.mark.parametrize(
    ("served", "expected", "is_so"),
    [
        (12, 60, True),
        (3, 25, True),
        (40, 60, False),  # a third is missing
        (12, 25, False),  # chance
        (0, 24, False),  # few tell nothing
        (70, 60, False),
        (0, 0, False),
        (100, 1_000, True),
    ],
)
def test_far_fewer_than_usual_and_not_by_chance(served, expected, is_so):
    assert is_starved(served, expected) is is_so
