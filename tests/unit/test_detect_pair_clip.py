"""What a reported pair counts towards a trip: as much as its requests would one by one."""

import numpy as np

from heatshield_collector.detect import pair_clip
from heatshield_collector.detect.pair_clip import PairClip

LIMIT_US = 25_000


def counts(clip, busy_us, ended=0, running=0, now_s=0.0, hashes=(7 << 50,)):
    def column(value):
        return np.full(len(hashes), value, dtype=np.int64)

    return clip.counts(
        np.array(hashes, dtype=np.uint64), column(busy_us), column(LIMIT_US), column(ended),
        column(running), now_s,
    ).tolist()  # fmt: skip


def test_one_request_that_runs_on_and_on_counts_no_more_than_one_that_is_told_once():
    clip = PairClip(1.0)
    told = [counts(clip, 200_000, running=1, now_s=at / 5)[0] for at in range(5)]
    assert told == [LIMIT_US, 0, 0, 0, 0]
    assert counts(clip, 200_000, ended=1, now_s=0.99) == [0]


def test_each_request_of_a_pair_counts_up_to_the_limit():
    clip = PairClip(1.0)
    assert counts(clip, 500_000, ended=3, running=1) == [4 * LIMIT_US]
    assert counts(clip, 500_000, ended=1, running=2, now_s=0.2) == [2 * LIMIT_US]
    assert counts(clip, 9_000, ended=40, now_s=0.4) == [9_000]


def test_a_request_counts_again_in_a_later_window():
    clip = PairClip(1.0)
    assert counts(clip, 200_000, running=1, now_s=0.0) == [LIMIT_US]
    assert counts(clip, 200_000, running=1, now_s=1.5) == [0]  # may be in the same window yet
    assert counts(clip, 200_000, running=1, now_s=3.0) == [LIMIT_US]


def test_pairs_that_share_a_counter_count_less_than_they_might_and_never_more(monkeypatch):
    monkeypatch.setattr(pair_clip, "LOG2_COUNTERS", 1)
    clip = PairClip(1.0)
    many, one = 1, 2  # both at the first counter
    assert counts(clip, 900_000, ended=20, hashes=[many]) == [20 * LIMIT_US]
    assert counts(clip, 900_000, running=1, hashes=[one], now_s=0.2) == [0]
    assert counts(clip, 900_000, ended=20, hashes=[many], now_s=0.4) == [20 * LIMIT_US]


def test_a_pair_that_comes_twice_at_once_has_its_requests_once():
    clip = PairClip(1.0)
    assert counts(clip, 200_000, running=1, hashes=[5, 5]) == [LIMIT_US, 0]
