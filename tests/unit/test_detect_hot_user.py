"""The hot-user rule, value by value."""

from dataclasses import replace

import pytest

from heatshield_collector.detect import HotRules
from heatshield_collector.detect.hot_user import FAST, SLOW, Observation, judge


@pytest.mark.parametrize(
    ("rule", "load", "baseline", "capacity", "hot"),
    [
        (FAST, 0.24, 0.0, 8, True),  # 3 % of eight workers
        (FAST, 0.239, 0.0, 8, False),
        (FAST, 3.0, 0.0, 100, True),
        (FAST, 2.99, 0.0, 100, False),
        (FAST, 0.1, 0.0, 1, True),  # a tenth of a worker, however small the service
        (FAST, 0.099, 0.0, 0, False),
        (FAST, 1.0, 0.2, 8, False),  # exactly five times is usual
        (FAST, 1.001, 0.2, 8, True),
        (FAST, 4.0, 1.6, 8, False),  # half the service, as always
        (SLOW, 0.16, 0.0, 8, True),  # 2 %
        (SLOW, 0.159, 0.0, 8, False),
        (SLOW, 0.6, 0.2, 8, False),
        (SLOW, 0.601, 0.2, 8, True),
    ],
)
def test_who_is_hot(rule, load, baseline, capacity, hot):
    assert judge(rule, Observation(load, baseline, capacity)).hot is hot


@pytest.mark.parametrize(
    ("load", "baseline", "says"),
    [
        (0.1, 0.0, "load 0.100 is under the floor of 0.240"),
        (1.0, 0.5, "load 1.000 is usual for this user: the baseline is 0.500"),
        (
            1.0,
            0.05,
            (
                "keeps at least 1.00 of 8 workers busy over 1s "
                "(floor 0.24, the user's own 5-minute baseline 0.050)"
            ),
        ),
    ],
)
def test_a_verdict_says_why(load, baseline, says):
    assert judge(FAST, Observation(load, baseline, 8)).reason == says


@pytest.mark.parametrize(
    ("rule", "capacity", "clip_s"),
    [(FAST, 8, 0.06), (FAST, 1, 0.025), (SLOW, 8, 0.16), (SLOW, 100, 2.0)],
)
def test_one_request_counts_a_quarter_of_the_floor_or_a_tenth_over_ten_seconds(
    rule, capacity, clip_s
):
    assert rule.clip_s(capacity) == pytest.approx(clip_s)
    assert rule.requests * rule.clip_s(capacity) == pytest.approx(
        rule.floor(capacity) * rule.window_s
    )


def test_an_operator_s_thresholds_move_both_rules_and_keep_their_proportions():
    rules = HotRules.tuned(share=0.3, ratio=2.5, least=0.5)
    assert rules.fast == replace(FAST, share=0.3, ratio=2.5, least=0.5)
    assert rules.slow.share == pytest.approx(0.2)
    assert rules.slow.ratio == pytest.approx(1.5)
    assert rules.slow.least == 0.5
    assert HotRules.tuned(share=FAST.share, ratio=FAST.ratio, least=FAST.least) == HotRules()
