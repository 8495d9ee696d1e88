"""Weights that are summed up before sketches get them come to the same loads."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatshield_collector.detect import cost_windows
from heatshield_collector.detect.cost_windows import CostWindows
from heatshield_collector.detect.sketch import HeavyHitters
from heatshield_collector.detect.windows import Windows

COSTS = ("busy", "calls")
rows = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(-2, 9), st.integers(0, 3)), max_size=6
)
steps = st.lists(
    st.tuples(rows, st.sampled_from([0.0, 0.1, 0.3, 1.0, 12.0]), st.booleans()), max_size=12
)


@given(steps, st.sampled_from([3, 2**16]))
def test_windows_of_costs_are_those_of_each_cost(history, rows_most):
    """However often they are asked meanwhile, and however many rows are summed up at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost_windows, "ROWS_MOST", rows_most)
        together, alone = CostWindows(COSTS), {cost: Windows() for cost in COSTS}
        now_s = 100.0
        for batch, pause_s, asks in history:
            keys = [key for key, *_ in batch]
            weights = {cost: [row[at] for row in batch] for at, cost in enumerate(COSTS, 1)}
            together.add(
                keys, {cost: np.array(one, np.int64) for cost, one in weights.items()}, now_s
            )
            for cost in COSTS:
                sums = Counter()
                for key, weight in zip(keys, weights[cost], strict=True):
                    sums[key] += max(0, weight)
                alone[cost].add(list(sums), list(sums.values()), now_s)
            if asks:
                together.of("busy").window("1s", now_s)
            now_s += pause_s
        for cost in COSTS:
            for name in ("1s", "10s", "1m", "5m"):
                ours = together.of(cost).window(name, now_s).top(9)
                assert ours == alone[cost].window(name, now_s).top(9), (cost, name)


def test_the_keys_that_are_new_within_a_pane_are_told_once():
    windows = CostWindows(["busy"])

    def add(keys, now_s):
        return windows.add(keys, {"busy": np.ones(len(keys), np.int64)}, now_s)

    assert add(["a", "b", "a"], 1.0) == ["a", "b"]
    assert add(["b", "c"], 1.1) == ["c"]
    assert add(["b"], 1.3) == ["b"]


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=60, unique=True), st.data())
def test_of_more_keys_than_a_sketch_holds_bounds_hold_for_each(weights, data):
    """And the heaviest are known exactly."""
    sketch = HeavyHitters(lg_slots=3)  # six keys
    keys = [f"k{at}" for at in range(len(weights))]
    sketch.update_heaviest(keys, np.array(weights))
    assert sketch.total == sum(weights)
    heaviest = sorted(weights)[-6:]
    for key, weight in zip(keys, weights, strict=True):
        bounds = sketch.bounds(key)
        assert bounds.lower <= weight <= bounds.upper
        assert bounds.lower == (weight if weight in heaviest else 0)
    assert sketch.most >= max(weights)
    other = HeavyHitters(lg_slots=3)
    other.update(["k0"], [data.draw(st.integers(1, 9))], each_once=True)
    other.merge(sketch)
    assert other.bounds("k0").upper >= weights[0]
