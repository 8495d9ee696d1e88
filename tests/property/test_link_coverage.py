"""What charge reports cover is what their stretches cover together, in whatever order they come."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heatshield_collector.link.coverage import JOINT_NS, Coverage

STEP = 10 * JOINT_NS
stretches = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3)), min_size=1, max_size=10).map(
    lambda rows: [(at * STEP, (at + length) * STEP) for at, length in rows]
)


@given(stretches)
def test_a_moment_is_covered_if_a_stretch_has_it(rows):
    coverage = Coverage()
    for begin, end in rows:
        coverage.add(begin, end)
    moments = np.arange(1, 16 * STEP, STEP // 2) + JOINT_NS
    expected = [any(b < at <= e + JOINT_NS for b, e in rows) for at in moments.tolist()]
    assert coverage.has(moments).tolist() == expected
    assert (coverage.first_ns, coverage.until_ns) == (
        min(b for b, _ in rows),
        max(e for _, e in rows),
    )
    before = [max((e for e in coverage.ends if e < at), default=0) for at in moments.tolist()]
    assert coverage.before(moments).tolist() == before


@given(stretches, st.randoms(use_true_random=False))
def test_the_order_changes_nothing(rows, dice):
    one, other = Coverage(), Coverage()
    for begin, end in rows:
        one.add(begin, end)
    for begin, end in dice.sample(rows, len(rows)):
        other.add(begin, end)
    assert (one.begins, one.ends) == (other.begins, other.ends)


def test_a_millisecond_between_two_reports_is_no_gap_and_stretches_are_bounded():
    coverage = Coverage()
    for number in range(10_000):
        coverage.add(number * STEP, (number + 1) * STEP - 10**6)
    assert (coverage.begins, len(coverage.ends)) == ([0], 1)
    for number in range(10_000):
        coverage.add((20_000 + 2 * number) * STEP, (20_001 + 2 * number) * STEP)
    assert len(coverage.begins) == len(coverage.ends) <= 32
