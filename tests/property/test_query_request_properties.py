"""The linked request holds together whatever spans it is made of."""

from hypothesis import given
from hypothesis import strategies as st

from heatshield_collector.query.request import link_request
from heatshield_collector.query.timing import self_times

TRACE = bytes(range(16))

spans = st.lists(
    st.fixed_dictionaries(
        {
            "span_id": st.integers(1, 9).map(lambda n: n.to_bytes(8, "big")),
            "parent_span_id": st.integers(0, 11).map(lambda n: n.to_bytes(8, "big") if n else b""),
            "service": st.sampled_from(["a", "b", "c"]),
            "instance": st.sampled_from(["1", "2"]),
            "name": st.sampled_from(["x", "y"]),
            "kind": st.integers(0, 5),
            "start_ns": st.integers(0, 200),
            "duration_ns": st.integers(0, 100),
            "status": st.integers(0, 2),
            "status_message": st.none(),
            "user": st.sampled_from([None, "u-1", "u-2"]),
            "call": st.sampled_from([None, "x"]),
            "backend": st.sampled_from([None, "redis"]),
            "rejected": st.none(),
            "elements": st.integers(0, 10),
            "rows": st.none(),
            "bytes": st.none(),
            "attribute_keys": st.none(),
            "attribute_values": st.none(),
            "events": st.none(),
        }
    ),
    max_size=14,
)


@given(spans)
def test_every_span_is_shown_exactly_once_below_what_precedes_it(rows):
    """Rings, self-parents, orphans and twin ids included."""
    request = link_request(TRACE, rows, [])
    assert sorted(one.span_id for one in request.spans) == sorted(
        row["span_id"].hex() for row in rows
    )
    depth = -1
    for one in request.spans:
        assert 0 <= one.depth <= depth + 1
        depth = one.depth


@given(spans)
def test_orphans_stand_at_the_root_level_after_all_true_roots(rows):
    roots = [one for one in link_request(TRACE, rows, []).spans if one.depth == 0]
    assert [one.orphan for one in roots] == sorted(one.orphan for one in roots)


@given(spans)
def test_self_time_lies_within_the_span_and_the_busy_sum_is_that_of_the_spans(rows):
    request = link_request(TRACE, rows, [])
    for one in request.spans:
        assert 0 <= one.self_ns <= one.duration_ns
    charged = sum(one.self_ns for one in request.spans if one.cost.busy_s)
    assert abs(request.cost.busy_s * 1e9 - charged) < 1


@given(spans)
def test_a_server_of_another_process_never_seems_to_begin_before_it_was_called(rows):
    request = link_request(TRACE, rows, [])
    open_at: list = []
    for one in request.spans:
        del open_at[one.depth :]
        if open_at and one.kind == "server":
            above = open_at[-1]
            if (above.service, above.instance) != (one.service, one.instance):
                assert one.start_ns >= above.start_ns
        open_at.append(one)


@given(spans, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter_where_starts_differ(rows, chance):
    """Only spans that start together, or share an id, may stand in either order."""
    distinct = {row["span_id"]: row for row in rows}.values()
    distinct = list({row["start_ns"]: row for row in distinct}.values())
    shuffled = list(distinct)
    chance.shuffle(shuffled)

    def timed(given_rows):
        request = link_request(TRACE, given_rows, [])
        return {(one.span_id, one.start_ns, one.self_ns) for one in request.spans}

    assert timed(distinct) == timed(shuffled)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_self_time_is_what_no_child_covers_nanosecond_by_nanosecond(children, start, length):
    """Against the definition: count the instants of the span that lie in no child."""
    starts = [start, *(at for at, _ in children)]
    durations = [length, *(for_ for _, for_ in children)]
    got = self_times(starts, durations, [-1] + [0] * len(children))[0]
    bare = [
        at
        for at in range(start, start + length)
        if not any(begin <= at < begin + for_ for begin, for_ in children)
    ]
    assert got == len(bare)
