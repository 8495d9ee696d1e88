"""Which user is charged for a span, with which call, and when."""

import pytest
from span_rows import CLIENT, CONSUMER, INTERNAL, MS, PRODUCER, SERVER, START_NS, span, table

from heatshield.clock import Instant
from heatshield_collector.link import CHARGES, Linker
from heatshield_collector.link.pending import PATIENCE_NS, TRANSFER_NS
from heatshield_collector.model import REQUEST_PARTS, SPANS

S = 10**9
UNTIL_LATE_NS = PATIENCE_NS + 1


@pytest.fixture
def linker():
    return Linker()


def at(after_ns=0):
    """A moment after the start, on both axes of time."""
    return Instant(1_000.0 + after_ns / 1e9, START_NS + after_ns)


def link(linker, rows, after_ns=0):
    return linker.link(table(rows), at(after_ns))


def charges(linker, rows, after_ns=0):
    """(user, service, call, busy milliseconds) of each charge."""
    found = link(linker, rows, after_ns).charges
    assert found.schema == CHARGES
    return [brief(row) for row in found.to_pylist()]


def brief(row):
    return (row["user"], row["service"], row["call"], row["busy_us"] / 1_000)


# -- texts without end ---------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["service", "name", "call", "backend", "key_pattern"])
def test_other_texts_are_cut_to_what_is_kept_and_the_span_keeps_what_came(linker, column):
    spans = table([span(1, user="u", **{column: "ü" * 300}), span(2, parent=1, user="u")])
    linked = linker.link(spans, at())
    charge, part = linked.charges.to_pylist()[0], linked.parts.to_pylist()[0]
    assert any("ü" * 192 in str(value) for value in charge.values())
    assert max(len(row[name] or "") for row in (charge, part) for name in row
               if isinstance(row[name], str)) <= 256  # fmt: skip
    assert spans.column(column)[0].as_py() == "ü" * 300


# -- which call ---------------------------------------------------------------------------------


def test_a_server_span_is_charged_for_itself_alone_and_what_ran_inside_for_its_own_time(linker):
    rows = [
        span(1, user="u", duration_ns=10 * MS),
        span(2, parent=1, kind=INTERNAL, name="price", duration_ns=4 * MS),
    ]
    assert charges(linker, rows) == [
        ("u", "shop", "POST /p", 6.0),
        ("u", "shop", "POST /p", 4.0),
    ]


def test_the_call_that_a_span_names_goes_before_what_encloses_it(linker):
    rows = [
        span(1, user="u", call="POST /p"),
        span(2, parent=1, kind=INTERNAL, name="ownership.refresh", call="ownership.refresh"),
        span(3, parent=2, kind=CLIENT, name="SADD", backend="redis", call="ownership.refresh"),
    ]
    found = charges(linker, rows)
    assert [call for _, _, call, _ in found] == ["POST /p", *2 * ["ownership.refresh"]]


def test_a_span_that_names_its_call_needs_nothing_above_it(linker):
    """What encloses it comes in a later batch, or never."""
    rows = [span(3, parent=2, kind=INTERNAL, name="price", call="GET /prices", user="u")]
    assert charges(linker, rows) == [("u", "shop", "GET /prices", 10.0)]


def test_a_stock_service_s_spans_are_charged_to_the_nearest_server_span_above(linker):
    rows = [
        span(4, parent=3, kind=CLIENT, name="SADD", backend="redis", duration_ns=2 * MS),
        span(3, parent=2, kind=INTERNAL, name="refresh", duration_ns=3 * MS),
        span(2, parent=1, kind=SERVER, name="POST /inner", duration_ns=5 * MS),
        span(1, user="u", kind=SERVER, name="POST /outer", service="gateway"),
    ]
    assert charges(linker, rows) == [
        ("u", "shop", "POST /inner", 2.0),
        ("u", "shop", "POST /inner", 1.0),
        ("u", "shop", "POST /inner", 2.0),
        ("u", "gateway", "POST /outer", 10.0),
    ]


def test_a_consumer_opens_a_call_too_and_a_lone_internal_span_is_its_own(linker):
    rows = [
        span(1, user="u", kind=CONSUMER, name="orders process"),
        span(2, parent=1, kind=INTERNAL, name="book", duration_ns=MS),
        span(3, trace=2, user="u", kind=INTERNAL, name="nightly"),
    ]
    found = link(linker, rows)
    assert [row["call"] for row in found.charges.to_pylist()] == [
        "orders process", "orders process", "nightly",
    ]  # fmt: skip
    assert found.opens.tolist() == [True, False, False]


@pytest.mark.parametrize("kind", [CLIENT, PRODUCER])
def test_a_caller_of_an_instrumented_service_is_not_charged_for_its_time(linker, kind):
    rows = [
        span(1, user="u", duration_ns=10 * MS),
        span(2, parent=1, kind=kind, name="GET", duration_ns=7 * MS),
    ]
    assert charges(linker, rows) == [("u", "shop", "POST /p", 3.0)]


def test_a_backend_s_time_is_charged_to_the_enclosing_call_and_names_backend_and_operation(linker):
    rows = [
        span(1, user="u", duration_ns=10 * MS),
        span(
            2, parent=1, kind=CLIENT, name="SADD", backend="redis", duration_ns=8 * MS,
            elements=20_000,
        ),
    ]  # fmt: skip
    found = link(linker, rows).charges.to_pylist()
    assert [(row["backend"], row["operation"]) for row in found] == [
        (None, "POST /p"),
        ("redis", "SADD"),
    ]
    assert [(row["busy_us"], row["elements"], row["calls"]) for row in found] == [
        (2_000, 0, 1),
        (8_000, 20_000, 0),
    ]


def test_a_charge_carries_what_it_was_about_whether_or_not_its_user_had_to_be_waited_for(linker):
    about = {"rows": 7, "bytes": 900, "key_pattern": "user:{id}:stickers", "size": 12}
    rows = [
        span(2, parent=1, kind=CLIENT, backend="redis", **about),
        span(3, parent=1, kind=INTERNAL, name="price"),
    ]
    assert link(linker, rows).charges.num_rows == 0
    found = link(linker, [span(1, user="u")]).charges.to_pylist()
    nothing = {"rows": 0, "bytes": 0, "key_pattern": None, "size": None}
    assert [{name: row[name] for name in about} for row in found] == [nothing, about, nothing]


@pytest.mark.parametrize("cost", ["elements", "rows", "bytes"])
def test_a_span_whose_time_is_charged_elsewhere_is_charged_for_what_it_moved(linker, cost):
    rows = [span(1, user="u", kind=PRODUCER, name="orders send", **{cost: 5})]
    (found,) = link(linker, rows).charges.to_pylist()
    assert (found["busy_us"], found["calls"], found[cost]) == (0, 0, 5)


def test_spans_as_the_store_has_them_are_linked_too(linker):
    stored = table([span(1, user="u")]).select(SPANS.names)
    (found,) = linker.link(stored, at()).charges.to_pylist()
    assert (found["key_pattern"], found["size"]) == (None, None)


def test_spans_that_cost_nothing_are_not_charged_but_calls_are_counted(linker):
    rows = [
        span(1, user="u", duration_ns=0),
        span(2, parent=1, kind=INTERNAL, duration_ns=0),
    ]
    found = link(linker, rows).charges.to_pylist()
    assert [(row["calls"], row["busy_us"]) for row in found] == [(1, 0)]


def test_guards_count_as_calls_and_their_failures_as_errors(linker):
    rows = [
        span(1, user="u", call="POST /p"),
        span(2, parent=1, kind=INTERNAL, name="refresh", call="refresh", status=2),
        span(3, parent=2, kind=INTERNAL, name="detail", call="refresh", status=2),
    ]
    found = link(linker, rows).charges.to_pylist()
    assert [(row["calls"], row["errors"]) for row in found] == [(1, 0), (1, 1), (0, 0)]


def test_a_rejected_call_is_no_error_of_it_or_of_its_request(linker):
    rows = [
        span(1, user="u", status=2),
        span(2, trace=2, user="u", status=2, rejected="b-1-7"),
    ]
    found = link(linker, rows)
    assert [row["errors"] for row in found.charges.to_pylist()] == [1, 0]
    assert found.errors.tolist() == [True, False]
    assert found.parts.column("errors").to_pylist() == [1, 0]


# -- whose request ------------------------------------------------------------------------------


def test_the_entry_span_s_user_goes_before_a_server_s_and_that_before_any_other_s(linker):
    entry = span(1, user="entry", service="gateway")
    server = span(2, parent=1, user="server")
    other = span(3, parent=2, kind=INTERNAL, user="baggage", duration_ns=MS)
    silent = span(4, service="talk", parent=9)
    for rows, user in (
        ([silent, other, server, entry], "entry"),
        ([silent, other, server], "server"),
        ([silent, other], "baggage"),
    ):
        found = charges(Linker(), rows)
        assert [name for name, service, *_ in found if service == "talk"] == [user]


def test_a_span_without_a_user_is_charged_to_the_user_that_an_earlier_batch_named(linker):
    link(linker, [span(1, user="u")])
    found = link(linker, [span(2, parent=1)], 59 * S).charges.to_pylist()
    assert [(row["user"], row["eligible"]) for row in found] == [("u", True)]


def test_a_charge_waits_two_seconds_for_its_user_as_if_it_had_come_with_it(linker):
    assert charges(linker, [span(2, parent=1, service="talk", duration_ns=5 * MS)]) == []
    found = link(linker, [span(1, user="u")], PATIENCE_NS - 1).charges.to_pylist()
    assert [(brief(row), row["eligible"], row["transferred"]) for row in found] == [
        (("u", "shop", "POST /p", 10.0), True, False),
        (("u", "talk", "POST /p", 5.0), True, False),
    ]
    assert link(linker, [span(9, trace=9, user="u")], 70 * S).charges.num_rows == 1


def test_after_two_seconds_it_is_charged_to_no_user_and_cannot_trip(linker):
    link(linker, [span(2, parent=1)])
    found = link(linker, [span(9, trace=9, user="v")], PATIENCE_NS).charges.to_pylist()
    assert [(row["user"], row["eligible"]) for row in found] == [("v", True), (None, False)]


def test_it_is_charged_to_no_user_also_when_no_batch_comes(linker):
    link(linker, [span(2, parent=1)])
    assert linker.overdue(at(PATIENCE_NS - 1)).charges.num_rows == 0
    found = linker.overdue(at(PATIENCE_NS)).charges.to_pylist()
    assert [(row["user"], row["eligible"]) for row in found] == [(None, False)]
    assert linker.overdue(at(100 * S)).charges.num_rows == 0


def test_a_user_who_turns_up_within_a_minute_gets_a_transfer_that_cannot_trip(linker):
    link(linker, [span(2, parent=1)])
    linker.overdue(at(PATIENCE_NS))
    found = link(linker, [span(1, user="u")], TRANSFER_NS - 1).charges.to_pylist()
    assert [(row["user"], row["eligible"], row["transferred"]) for row in found] == [
        ("u", True, False),
        ("u", False, True),
    ]


def test_a_user_who_turns_up_after_a_minute_gets_nothing_of_it(linker):
    link(linker, [span(2, parent=1)])
    linker.overdue(at(PATIENCE_NS))
    assert link(linker, [span(1, user="u")], TRANSFER_NS).charges.num_rows == 1


@pytest.mark.parametrize(
    "witness",
    [
        {"kind": CLIENT, "name": "GET"},  # its time is charged elsewhere
        {"kind": INTERNAL, "duration_ns": 0},  # it costs nothing
    ],
)
def test_a_span_that_is_not_charged_itself_can_still_say_whose_request_it_is(linker, witness):
    link(linker, [span(2, parent=1)])
    found = charges(linker, [span(3, parent=1, user="u", **witness)], S)
    assert found == [("u", "shop", "POST /p", 10.0)]


def test_a_duplicate_can_still_say_whose_request_it_is(linker):
    twin = span(1, user="u")
    link(linker, [twin])
    linker.users = Linker().users  # forgotten for want of memory
    link(linker, [span(2, parent=1)], S)
    assert charges(linker, [twin], S) == [("u", "shop", "POST /p", 10.0)]


# -- once ---------------------------------------------------------------------------------------


def test_a_span_that_is_delivered_again_is_neither_charged_nor_counted_again(linker):
    rows = [span(1, user="u"), span(2, parent=1, kind=INTERNAL, duration_ns=MS)]
    assert len(charges(linker, rows)) == 2
    again = link(linker, rows, S)
    assert again.charges.num_rows == 0
    assert not again.opens.any()
    assert linker.seen.duplicates == 2


def test_both_sides_of_a_call_that_share_an_id_are_two_spans(linker):
    """Zipkin's shared spans: dedupe by trace, span, kind and service."""
    rows = [
        span(1, user="u", kind=CLIENT, name="SADD", backend="redis", service="gateway"),
        span(1, user="u", kind=SERVER),
        span(1, user="u", kind=SERVER, service="talk"),
        span(1, user="u", kind=SERVER),
    ]
    assert len(charges(linker, rows)) == 3


def test_an_empty_batch_is_no_error(linker):
    found = link(linker, [])
    assert (found.charges.num_rows, found.parts.num_rows) == (0, 0)
    assert found.charges.schema == CHARGES


# -- one row a request --------------------------------------------------------------------------


def test_parts_sum_a_request_up_and_take_its_name_from_the_root(linker):
    rows = [
        span(2, parent=1, user="other", start_ns=START_NS + MS, duration_ns=4 * MS, elements=3),
        span(1, user="u", service="gateway", name="GET /", duration_ns=9 * MS, status=2),
        span(3, trace=2, parent=7, kind=CLIENT, name="GET", start_ns=START_NS + 5),
    ]
    parts = link(linker, rows, S).parts
    assert parts.schema == REQUEST_PARTS
    first, second = sorted(parts.to_pylist(), key=lambda row: row["trace_id"])
    assert first == {
        "trace_id": bytes(15) + b"\x01",
        "start_ns": START_NS,
        "end_ns": START_NS + 9 * MS,
        "user": "u",
        "user_rank": 0,
        "service": "gateway",
        "call": "GET /",
        "spans": 2,
        "errors": 1,
        "busy_ns": 13 * MS,
        "elements": 3,
        "received_ns": START_NS + S,
        "last_received_ns": START_NS + S,
        "services": ["gateway", "shop"],
    }
    assert (second["user"], second["user_rank"], second["service"]) == (None, 9, None)
    assert (second["spans"], second["busy_ns"], second["start_ns"]) == (1, 0, START_NS + 5)


def sums(linker, rows, after_ns=0):
    (part,) = link(linker, rows, after_ns).parts.to_pylist()
    return [part[name] for name in ("spans", "errors", "busy_ns", "elements")]


def test_a_batch_that_comes_again_adds_nothing_to_what_its_request_is_summed_up_to(linker):
    rows = [span(1, status=2, elements=3), span(2, parent=1, kind=INTERNAL, duration_ns=4 * MS)]
    assert sums(linker, [*rows, rows[0]]) == [2, 1, 10 * MS, 3]
    assert sums(linker, rows, S) == [0, 0, 0, 0]
    assert sums(linker, [*rows, span(3, duration_ns=MS)], 2 * S) == [1, 0, MS, 0]


def test_a_batch_that_comes_again_because_it_was_not_stored_is_summed_up_once(linker):
    rows = [span(1, elements=3), span(2, parent=1, kind=INTERNAL, duration_ns=4 * MS)]
    assert sums(linker, rows) == [2, 0, 10 * MS, 3]
    linker.not_stored(table(rows))
    again = link(linker, [*rows, *rows], S)
    assert again.charges.num_rows == 0
    (part,) = again.parts.to_pylist()
    assert (part["spans"], part["busy_ns"]) == (2, 10 * MS)
    assert sums(linker, rows, 2 * S) == [0, 0, 0, 0]


def test_a_part_names_the_most_credible_user_wherever_the_span_stands(linker):
    entry, server, other = (
        span(1, user="entry"),
        span(2, parent=1, user="server"),
        span(3, parent=2, kind=INTERNAL, user="other"),
    )
    for rows in ([entry, server, other], [other, server, entry], [server, entry, other]):
        (part,) = link(Linker(), rows).parts.to_pylist()
        assert (part["user"], part["user_rank"]) == ("entry", 0)


def test_absurd_numbers_in_parts_saturate_instead_of_wrapping(linker):
    most = 2**63 - 1
    rows = [
        span(number, user="u", start_ns=most - 1, duration_ns=most, elements=most)
        for number in range(1, 9)
    ]
    (part,) = link(linker, rows).parts.to_pylist()
    assert part["end_ns"] == most
    assert 0 < part["elements"] <= most
    assert 0 < part["busy_ns"] <= most
