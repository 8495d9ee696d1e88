"""Self times and enclosing calls against the obvious way of finding them."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from span_rows import CLIENT, CONSUMER, SERVER, START_NS, self_ns, span, table

from heatshield_collector.link.tree import (
    DEEPEST,
    LONGEST_NS,
    WAIT_NS,
    Tree,
    enclosing,
    keys_of,
    trace_keys,
)

NOW_NS = START_NS


def place(tree, rows, now_ns=NOW_NS):
    spans = table(rows)
    columns = {name: spans.column(name).combine_chunks() for name in spans.column_names}
    traces = trace_keys(columns["trace_id"])
    keys, _ = keys_of(traces, columns["span_id"])
    parents, has_parent = keys_of(traces, columns["parent_span_id"])
    return tree.place(
        keys,
        parents,
        has_parent,
        columns["start_ns"].to_numpy(),
        columns["duration_ns"].to_numpy(),
        columns["kind"].to_numpy(),
        now_ns,
    )


@st.composite
def forests(draw):
    """Spans with any parents at all: rings, themselves, spans that are missing, other traces'."""
    count = draw(st.integers(1, 14))
    return [
        span(
            number,
            trace=draw(st.integers(1, 2)),
            parent=draw(st.integers(0, count + 2)),
            kind=draw(st.integers(0, 5)),
            start_ns=START_NS + draw(st.integers(0, 60)),
            duration_ns=draw(st.one_of(st.just(0), st.integers(0, 60))),
        )
        for number in range(1, count + 1)
    ]


def without_rings(rows):
    """Children before parents needs an order: a span's parent has a higher number here."""
    for number, row in enumerate(rows, start=1):
        parent = int.from_bytes(row["parent_span_id"], "big")
        row["parent_span_id"] = b"" if parent <= number else row["parent_span_id"]
    return rows


@given(forests())
def test_self_times_of_one_batch_are_those_of_the_obvious_way(rows):
    placed = place(Tree(), rows)
    assert placed.self_ns.tolist() == [self_ns(row, rows) for row in rows]


@given(forests(), st.permutations(range(14)))
def test_the_order_within_a_batch_does_not_matter(rows, order):
    shuffled = [rows[at] for at in order if at < len(rows)]
    placed = place(Tree(), shuffled)
    assert placed.self_ns.tolist() == [self_ns(row, rows) for row in shuffled]


@given(forests().map(without_rings), st.data())
def test_batches_that_bring_children_first_give_the_same_self_times(rows, data):
    """As a process sends them: a child ends before its parent does."""
    tree, found, at = Tree(), [], 0
    while at < len(rows):
        size = data.draw(st.integers(1, len(rows)))
        found += place(tree, rows[at : at + size]).self_ns.tolist()
        at += size
    assert found == [self_ns(row, rows) for row in rows]


@given(forests().map(without_rings), st.data())
def test_children_that_come_late_lower_nothing_and_raise_nothing(rows, data):
    """Whatever the order of batches, a self time is between what is certain and the duration."""
    shuffled = data.draw(st.permutations(rows))
    tree, at = Tree(), 0
    while at < len(shuffled):
        size = data.draw(st.integers(1, len(shuffled)))
        batch = shuffled[at : at + size]
        for row, own_ns in zip(batch, place(tree, batch).self_ns.tolist(), strict=True):
            assert self_ns(row, rows) <= own_ns <= row["duration_ns"]
        at += size


@given(forests())
def test_a_batch_that_comes_twice_gives_no_other_self_times_to_its_first_rows(rows):
    """Spans with twin ids: the first of them is the one that is charged."""
    placed = place(Tree(), rows + rows)
    assert placed.self_ns[: len(rows)].tolist() == [self_ns(row, rows) for row in rows]


@given(st.permutations(range(3)))
def test_where_both_sides_of_a_call_have_one_id_what_ran_inside_is_the_server_s(order):
    """As Zipkin's senders name them."""
    rows = [
        span(5, parent=1, kind=CLIENT, service="gateway", duration_ns=10),
        span(5, parent=1, kind=SERVER, duration_ns=8),
        span(6, parent=5, kind=1, duration_ns=3),
    ]
    placed = place(Tree(), [rows[at] for at in order])
    assert [placed.self_ns[order.index(at)] for at in range(3)] == [10, 5, 3]


@given(forests())
def test_parents_are_rows_of_the_batch_never_the_row_itself_and_never_a_server_s(rows):
    placed = place(Tree(), rows)
    ids = [(row["trace_id"], row["span_id"]) for row in rows]
    for at, (row, parent) in enumerate(zip(rows, placed.parent.tolist(), strict=True)):
        wanted = (row["trace_id"], row["parent_span_id"])
        local = row["kind"] not in (SERVER, CONSUMER)
        known = local and wanted in ids and ids.index(wanted) != at
        assert parent == (ids.index(wanted) if known else -1)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_absurd_times_leave_self_times_within_an_hour(start_ns, duration_ns, child_start_ns):
    rows = [
        span(1, start_ns=start_ns, duration_ns=duration_ns),
        span(2, parent=1, kind=1, start_ns=child_start_ns, duration_ns=duration_ns),
    ]
    placed = place(Tree(), rows)
    assert all(0 <= own_ns <= LONGEST_NS for own_ns in placed.self_ns.tolist())


def test_a_child_waits_a_minute_for_its_parent_and_no_longer():
    child = span(2, parent=1, kind=1, duration_ns=4)
    parent = span(1, duration_ns=10)
    for waited_ns, own_ns, evicted in ((WAIT_NS - 1, 6, 0), (WAIT_NS, 10, 1)):
        tree = Tree()
        place(tree, [child])
        place(tree, [span(9, trace=3)], NOW_NS + waited_ns)
        assert place(tree, [parent], NOW_NS + waited_ns).self_ns.tolist() == [own_ns]
        assert tree.evicted == evicted


def test_children_that_found_their_parent_wait_no_longer():
    tree = Tree()
    place(tree, [span(2, parent=1, kind=1)])
    place(tree, [span(1)])
    assert len(tree._waiting.parent) == 0
    place(tree, [span(9, trace=3)], NOW_NS + WAIT_NS)
    assert tree.evicted == 0


def test_too_many_waiting_children_let_go_of_the_oldest_and_count_them():
    tree = Tree(waiting_most=3)
    for number in range(5):
        place(tree, [span(10 + number, parent=number + 1, kind=1, duration_ns=4)])
    assert tree.evicted == 2
    parents = [span(number + 1, duration_ns=10) for number in range(5)]
    assert place(tree, parents).self_ns.tolist() == [10, 10, 6, 6, 6]
    assert tree.evicted == 2


@given(
    st.lists(st.tuples(st.integers(-1, 19), st.booleans()), min_size=1, max_size=20),
)
def test_enclosing_climbs_to_the_nearest_call_as_far_as_it_promises(rows):
    parent = [above if above < len(rows) else -1 for above, _ in rows]
    opens = [opened for _, opened in rows]

    def nearest(at):
        for _ in range(len(rows) + 1):
            if at < 0 or opens[at]:
                return at
            at = parent[at]
        return -1  # a ring without a call

    found = enclosing(np.array(parent), np.array(opens)).tolist()
    assert found == [nearest(at) for at in range(len(rows))]


def test_enclosing_gives_up_on_a_chain_deeper_than_it_promises():
    parent = np.arange(DEEPEST + 2) - 1
    opens = parent < 0
    found = enclosing(parent, opens)
    assert found[DEEPEST] == 0
    assert found[DEEPEST + 1] == -1


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=8), st.integers(0, 8))
def test_keys_do_not_depend_on_where_an_id_stands_in_its_buffer(ids, skip):
    """A slice of a column, as a filter or a joint decode leaves it, reads the same."""
    whole = trace_keys(pa.array(ids, pa.binary()))
    sliced = trace_keys(pa.array(ids, pa.binary()).slice(min(skip, len(ids))))
    assert sliced.tolist() == whole.tolist()[skip:]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=8))
def test_a_span_has_a_key_when_it_has_an_id_and_the_same_one_for_the_same_span(rows):
    table_of = table([span(number, trace=trace) for trace, number in rows])
    traces = trace_keys(table_of.column("trace_id").combine_chunks())
    keys, named = keys_of(traces, table_of.column("span_id").combine_chunks())
    assert named.tolist() == [number > 0 for _, number in rows]
    by_span = {}
    for row, key in zip(rows, keys.tolist(), strict=True):
        assert by_span.setdefault(row, key) == key
    named_keys = [by_span[row] for row in by_span if row[1]]
    assert len(set(named_keys)) == len(named_keys)
