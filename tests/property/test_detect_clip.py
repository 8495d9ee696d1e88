"""How much of a request counts, whatever pieces it arrives in, and what is kept as evidence."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heatshield_collector.detect.clip import Clip, counters_of
from heatshield_collector.detect.evidence import EVIDENCE_MOST, EVIDENCE_S, KEPT, Evidence

LIMIT_US = 60_000


def counter(trace, key):
    """The counter of one request on one key."""
    return counters_of(np.array([trace], dtype=np.uint64), [key], np.array([0]), seed=7)[0]


def count(clip, counter, busy_us, limit_us, now_s):
    """What one piece alone counts."""
    (counted,) = clip.counts(*(np.array([one]) for one in (counter, busy_us, limit_us)), now_s)
    return int(counted)


pieces = st.lists(
    st.tuples(
        st.integers(0, 96).map(lambda ticks: ticks / 64),  # pause before it, seconds
        st.integers(1, 3),  # request
        st.one_of(st.integers(0, 100), st.integers(LIMIT_US // 8, 2 * LIMIT_US)),
    ),
    max_size=60,
)


@given(pieces)
def test_within_any_window_a_request_counts_at_most_its_limit(rows):
    """Tiny pieces and pieces of minutes alike."""
    clip, now_s, counted = Clip(1.0), 1_000.0, []
    for pause_s, trace, busy_us in rows:
        now_s += pause_s
        part = count(clip, counter(trace, "u"), busy_us, LIMIT_US, now_s)
        assert 0 <= part <= busy_us
        counted.append((now_s, trace, part))
        for request in (1, 2, 3):
            recent = [us for at, of, us in counted if of == request and at > now_s - 1.0]
            assert sum(recent) <= LIMIT_US


@given(st.lists(st.integers(0, LIMIT_US), max_size=20))
def test_a_request_under_its_limit_counts_in_full(parts):
    clip, now_s = Clip(10.0), 1_000.0
    room = LIMIT_US
    for busy_us in parts:
        assert count(clip, counter(1, "u"), busy_us, LIMIT_US, now_s) == min(busy_us, room)
        room = max(0, room - busy_us)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 2 * LIMIT_US), st.sampled_from([1_000, LIMIT_US])
        ),
        max_size=40,
    )
)
def test_pieces_that_come_together_count_as_if_one_came_after_the_other(rows):
    together, apart = Clip(1.0), Clip(1.0)
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    for _ in range(2):
        counted = together.counts(*columns, 1_000.0)
        assert counted.tolist() == [count(apart, *row, 1_000.0) for row in rows]


def test_requests_and_keys_count_apart():
    clip = Clip(1.0)
    for trace, key in ((1, "u"), (1, "v"), (2, "u")):
        assert count(clip, counter(trace, key), 10 * LIMIT_US, LIMIT_US, 1_000.0) == LIMIT_US


def test_a_window_later_a_request_may_count_again():
    clip = Clip(1.0)
    assert count(clip, counter(1, "u"), LIMIT_US, LIMIT_US, 1_000.0) == LIMIT_US
    assert count(clip, counter(1, "u"), LIMIT_US, LIMIT_US, 1_001.0) == 0
    assert count(clip, counter(1, "u"), LIMIT_US, LIMIT_US, 1_002.0) == LIMIT_US


def test_ordinary_requests_take_little_from_a_hot_one_that_shares_their_counter():
    """200,000 requests of 2 ms in ten seconds; then 100 costly ones still count nearly in full."""
    clip = Clip(10.0)
    ordinary = np.full(200_000, 2_000)
    ones = counters_of(np.arange(len(ordinary), dtype=np.uint64), ["u"], ordinary * 0, seed=7)
    clip.counts(ones, ordinary, ordinary * 0 + LIMIT_US, 1_000.0)
    counted = [
        count(clip, counter(10**9 + trace, "hot"), LIMIT_US, LIMIT_US, 1_000.0)
        for trace in range(100)
    ]
    assert sum(counted) > 0.9 * 100 * LIMIT_US


# -- evidence -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 100)), max_size=30))
def test_evidence_is_the_worst_request_a_typical_one_and_the_latest(rows):
    evidence, last = Evidence(), {}
    for at, (trace, cost) in enumerate(rows):
        evidence.offer("u", cost, f"t{trace}", 1_000.0 + at)
        last.pop(f"t{trace}", None)
        last[f"t{trace}"] = cost
    kept = evidence.of("u")
    assert len(set(kept)) == len(kept) == min(3, len(last))
    if len(kept) == 3:
        worst, typical, latest = (last[trace] for trace in kept)
        newest = list(last)[-KEPT:]
        assert worst >= max(last[trace] for trace in newest)
        assert typical <= worst
        others = [trace for trace in newest if trace != kept[0]]
        assert kept[2] == others[-1], latest


@given(st.permutations(range(1, 20)))
def test_evidence_of_one_moment_does_not_depend_on_its_order(costs):
    evidence = Evidence()
    for cost in costs:
        evidence.offer("u", cost, f"t{cost:02}", 1_000.0)
    assert evidence.of("u") == ["t19", "t15", "t18"]


def test_old_evidence_makes_way_for_what_happens_now():
    evidence = Evidence()
    evidence.offer("u", 1_000_000, "old", 1_000.0)
    evidence.offer("u", 5, "new", 1_000.0 + EVIDENCE_S)
    assert evidence.of("u") == ["new"]
    assert evidence.of("never seen") == []


def test_evidence_is_bounded_and_forgets_the_key_that_was_quiet_longest():
    evidence = Evidence()
    for key in range(EVIDENCE_MOST):
        evidence.offer(str(key), 1, "t", 1_000.0)
    evidence.offer("0", 1, "t", 1_000.0)
    evidence.offer("one more", 1, "t", 1_000.0)
    assert (evidence.of("0"), evidence.of("1"), evidence.of("one more")) == (["t"], [], ["t"])
