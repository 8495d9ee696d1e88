"""The sketch's bounds hold the truth, whatever it was fed and however it was merged."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatshield_collector.detect.sketch import WEIGHT_MOST, HeavyHitters

SMALL = 3
"""Eight slots: a handful of keys makes it forget."""

keys = st.integers(0, 40).map(lambda number: f"k{number}")
varied = st.lists(st.tuples(keys, st.integers(-3, 1_000)), max_size=120)
# As calls are counted: keys of equal weight make a sketch let go of all of them at once.
equal = st.integers(0, 40).map(lambda count: [(f"k{number}", 1) for number in range(count)])
updates = st.one_of(varied, equal)
pieces = st.lists(updates, min_size=1, max_size=6)


def sketch_of(rows, lg_slots=SMALL):
    made = HeavyHitters(lg_slots)
    made.update([key for key, _ in rows], [weight for _, weight in rows], each_once=False)
    return made


def truth_of(rows):
    """A plain dictionary, the obvious way; weights that are not positive count for nothing."""
    weights = Counter()
    for key, weight in rows:
        weights[key] += max(weight, 0)
    return weights


def assert_bounds_hold(sketch, truth):
    assert sketch.total == sum(truth.values())
    assert max(truth.values(), default=0) <= sketch.most <= sketch.total
    for key in [*truth, "never seen"]:
        found = sketch.bounds(key)
        assert found.lower <= truth[key] <= found.upper
        assert found.lower <= found.estimate <= found.upper


@given(updates)
def test_bounds_hold_the_true_weight_after_any_updates(rows):
    assert_bounds_hold(sketch_of(rows), truth_of(rows))


@given(updates)
def test_where_each_key_stands_once_none_weighs_more_than_the_heaviest(rows):
    truth, sketch = truth_of(rows), HeavyHitters(SMALL)
    sketch.update(list(truth), list(truth.values()), each_once=True)
    assert sketch.most == max(truth.values(), default=0)
    assert_bounds_hold(sketch, truth)


@given(pieces, st.randoms(use_true_random=False))
def test_merging_in_any_order_keeps_the_bounds_and_the_total(parts, shuffle):
    truth = truth_of([row for part in parts for row in part])
    for _ in range(3):
        sketches = [sketch_of(part) for part in parts]
        shuffle.shuffle(sketches)
        merged = HeavyHitters.merged(sketches, SMALL)
        assert_bounds_hold(merged, truth)


@given(pieces)
def test_merging_leaves_what_was_merged_as_it_was(parts):
    sketches = [sketch_of(part) for part in parts]
    HeavyHitters.merged(sketches, SMALL)
    for sketch, part in zip(sketches, parts, strict=True):
        assert_bounds_hold(sketch, truth_of(part))


@given(updates, updates, updates)
def test_updates_after_a_merge_count_too(first, second, third):
    sketch = sketch_of(first)
    sketch.merge(sketch_of(second))
    sketch.update([key for key, _ in third], [weight for _, weight in third], each_once=False)
    assert_bounds_hold(sketch, truth_of(first + second + third))


@given(updates)
def test_the_error_stays_within_the_promised_share_of_the_total(rows):
    sketch, truth = sketch_of(rows), truth_of(rows)
    allowed = 3.5 / 2**SMALL * sketch.total
    for key in truth:
        found = sketch.bounds(key)
        assert found.upper - found.lower <= allowed


@given(updates)
def test_top_leaves_out_no_key_that_is_surely_heavier_than_the_error(rows):
    sketch, truth = sketch_of(rows), truth_of(rows)
    top = sketch.top(1_000)
    assert [row.estimate for row in top] == sorted((row.estimate for row in top), reverse=True)
    error = max((row.upper - row.lower for row in top), default=sketch.bounds("none").upper)
    named = {row.key for row in top}
    assert {key for key, weight in truth.items() if weight > error} <= named


@given(pieces, st.integers(1, 2_000))
def test_surely_over_names_exactly_the_keys_whose_lower_bound_is(parts, weight):
    sketch = HeavyHitters.merged([sketch_of(part) for part in parts], SMALL)
    found = sketch.surely_over(weight)
    everyone = [sketch.bounds(f"k{number}") for number in range(41)]
    assert sorted(found) == sorted(one for one in everyone if one.lower > weight)
    assert [row.lower for row in found] == sorted((row.lower for row in found), reverse=True)


@given(updates, updates)
def test_bounds_survive_serialisation_and_merging_after_it(rows, more):
    read = HeavyHitters.from_bytes(sketch_of(rows).to_bytes(), SMALL)
    assert_bounds_hold(read, truth_of(rows))
    read.merge(sketch_of(more))
    assert_bounds_hold(read, truth_of(rows + more))


@given(updates, st.data())
def test_bytes_that_are_no_sketch_raise_value_error_and_nothing_else(rows, data):
    """What reads cleanly must also answer cleanly."""
    good = sketch_of(rows).to_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    bad = data.draw(
        st.one_of(
            st.binary(max_size=64),
            st.just(good[:at]),
            st.binary(min_size=1, max_size=4).map(lambda cut: good[:at] + cut + good[at + 1 :]),
        )
    )
    try:
        read = HeavyHitters.from_bytes(bad, SMALL)
    except ValueError:
        return
    read.top(10)
    read.bounds("k1")


def test_a_key_that_is_not_utf_8_is_no_sketch():
    """DataSketches itself reads it and fails only when it is asked for its keys."""
    good = sketch_of([("key-of-some-length", 5)]).to_bytes()
    with pytest.raises(ValueError, match="not a serialised sketch"):
        HeavyHitters.from_bytes(good.replace(b"key", b"k\xffy"), SMALL)


@given(st.integers(WEIGHT_MOST, 2**70))
def test_an_absurd_weight_is_clamped_and_wraps_no_sum(weight):
    sketch = sketch_of([("absurd", weight), ("absurd", weight), ("small", 1)])
    assert sketch.bounds("absurd").lower == 2 * WEIGHT_MOST
    assert sketch.bounds("small").upper == 1


def test_keys_and_weights_of_different_numbers_are_an_error():
    with pytest.raises(ValueError, match="shorter"):
        HeavyHitters().update(["a", "b"], [1], each_once=False)


@given(st.lists(st.tuples(keys, st.integers(1, 3)), max_size=60), st.integers(0, 45))
def test_the_order_of_ties_is_that_of_their_keys_whatever_order_they_came_in(rows, limit):
    sketch = sketch_of(rows, lg_slots=10)
    exact = sorted(truth_of(rows).items(), key=lambda row: (-row[1], row[0]))
    assert [(row.key, row.estimate) for row in sketch.top(limit)] == exact[:limit]
    over = [row.key for row in sketch.surely_over(1)]
    assert over == [key for key, weight in exact if weight > 1]
