"""Rows are summed up alike by both ways of grouping, in the order in which they were first seen."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from heatshield_collector.link import charges
from heatshield_collector.link.grouping import groups_of

COSTS = ("busy_us", "elements", "calls", "errors")
NAMES = ("trace", "user", "eligible", "trace_id", *COSTS)
cost = st.sampled_from([0, 1, 2**53 + 1, 2**58])
rows = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 2**64 - 1]),
        st.sampled_from([None, "", "a", "unknown"]),
        st.booleans(),
        st.binary(max_size=2),
        *(cost for _ in COSTS),
    ),
    max_size=20,
)
SCHEMA = pa.schema(
    [
        ("trace", pa.uint64()),
        ("user", pa.string()),
        ("eligible", pa.bool_()),
        ("trace_id", pa.binary()),
        *((name, pa.int64()) for name in COSTS),
    ]
)


@given(rows, st.sampled_from([["user"], ["trace", "user", "eligible"]]))
def test_small_batches_are_summed_up_as_large_ones(some, keys):
    table = pa.Table.from_pylist(
        [dict(zip(NAMES, row, strict=True)) for row in some], schema=SCHEMA
    )
    small = charges.sums(table, keys, ["trace_id"])
    large = charges._sums_of_many(table, keys, ["trace_id"])
    assert small.to_pylist() == large.select(small.column_names).to_pylist()


@given(st.lists(st.integers(0, 4), max_size=20))
def test_groups_come_in_the_order_of_their_first_rows(values):
    groups = groups_of([pa.chunked_array([pa.array(values, pa.int64())])])
    seen = list(dict.fromkeys(values))
    assert [values[row] for row in groups.first] == seen
    assert sorted(groups.order.tolist()) == list(range(len(values)))
    assert groups.starts.tolist() == [
        sum(values.count(one) for one in seen[:at]) for at in range(len(seen))
    ]
