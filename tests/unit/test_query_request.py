"""The linked request on traces as they come: lost, late, skewed, broken."""

import json

import pytest

from heatshield_collector.query.request import link_request
from heatshield_collector.query.requests import Search, query_of

TRACE = bytes.fromhex("ab" * 16)
T0 = 1_700_000_000 * 10**9
MS = 10**6
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5


def span(number, parent=0, start=0, length=10, **columns):
    """A row of SPANS; start and length in ms after T0."""
    return {
        "span_id": number.to_bytes(8, "big"),
        "parent_span_id": parent.to_bytes(8, "big") if parent else b"",
        "service": "shop",
        "instance": "i-1",
        "name": f"s{number}",
        "kind": INTERNAL,
        "start_ns": T0 + start * MS,
        "duration_ns": length * MS,
        "status": 0,
        "status_message": "",
        "user": None,
        "call": None,
        "backend": None,
        "rejected": None,
        "elements": None,
        "rows": None,
        "bytes": None,
        "attribute_keys": None,
        "attribute_values": None,
        "events": None,
    } | columns


def log(time=0, number=0, **columns):
    return {
        "time_ns": T0 + time * MS,
        "severity": 9,
        "severity_text": "",
        "body": "hello",
        "service": "shop",
        "span_id": number.to_bytes(8, "big") if number else b"",
        "user": None,
        "attribute_keys": None,
        "attribute_values": None,
    } | columns


def shape(request):
    return [(one.name, one.depth) for one in request.spans]


def by_name(request):
    return {one.name: one for one in request.spans}


def test_spans_come_in_tree_order_with_siblings_by_start():
    rows = [
        span(4, 2, start=6),
        span(3, 1, start=5),
        span(2, 1, start=1),
        span(5, 2, start=2),
        span(1, start=0),
    ]
    assert shape(link_request(TRACE, rows, [])) == [
        ("s1", 0), ("s2", 1), ("s5", 2), ("s4", 2), ("s3", 1),
    ]  # fmt: skip


def test_orphans_stand_at_the_end_of_the_root_level_with_their_children():
    rows = [span(7, 99, start=-50), span(8, 7, start=-40), span(1, start=0), span(2, 1, start=1)]
    request = link_request(TRACE, rows, [])
    assert shape(request) == [("s1", 0), ("s2", 1), ("s7", 0), ("s8", 1)]
    assert [one.orphan for one in request.spans] == [False, False, True, False]
    assert by_name(request)["s7"].parent_span_id == (99).to_bytes(8, "big").hex()


def test_a_span_that_is_its_own_parent_is_shown_once():
    request = link_request(TRACE, [span(1, 1)], [])
    assert shape(request) == [("s1", 0)]
    assert request.spans[0].orphan


def test_a_ring_of_parents_is_opened_at_its_earliest_span():
    rows = [span(1, 3, start=5), span(2, 1, start=6), span(3, 2, start=4), span(4, 2, start=7)]
    assert shape(link_request(TRACE, rows, [])) == [("s3", 0), ("s1", 1), ("s2", 2), ("s4", 3)]


def test_a_chain_deeper_than_the_stack_is_shown_whole():
    rows = [span(n, n - 1, start=n) for n in range(1, 20_001)]
    request = link_request(TRACE, rows, [])
    assert [one.depth for one in request.spans] == list(range(20_000))


def test_both_sides_of_a_zipkin_call_stand_under_each_other():
    """Zipkin's client and server share one id; the server's children belong to the server."""
    rows = [
        span(1, service="gateway"),
        span(2, 1, start=1, kind=CLIENT, service="gateway", name="client"),
        span(2, 1, start=2, kind=SERVER, service="shop", name="server"),
        span(3, 2, start=3, service="shop", name="work"),
    ]
    assert shape(link_request(TRACE, rows, [])) == [
        ("s1", 0), ("client", 1), ("server", 2), ("work", 3),
    ]  # fmt: skip


def call(server_start, server_length):
    """A client span from 100 to 200 ms, and its server with its own clock and a child."""
    return [
        span(1, start=100, length=100, kind=CLIENT, service="gateway", name="client"),
        span(2, 1, start=server_start, length=server_length, kind=SERVER, name="server"),
        span(3, 2, start=server_start + 5, length=10, name="child"),
    ]


@pytest.mark.parametrize(
    ("start", "length", "shown_at"),
    [
        (40, 60, 120),  # began before it was called: into the middle, 20 ms each way
        (170, 60, 120),  # ended after the answer: likewise
        (110, 60, 110),  # fits: as it is
        (40, 160, 100),  # longer than its client: not before it was called
        (150, 160, 150),  # longer, but begins within: it just went on
    ],
)
def test_a_servers_clock_is_aligned_to_its_clients(start, length, shown_at):
    spans = by_name(link_request(TRACE, call(start, length), []))
    assert spans["server"].start_ns == T0 + shown_at * MS
    assert spans["server"].skew_ns == (shown_at - start) * MS
    assert spans["child"].start_ns == T0 + (shown_at + 5) * MS


def test_a_later_hop_is_aligned_to_the_corrected_clock():
    rows = [
        span(1, start=0, length=100, kind=CLIENT, service="a", name="a client"),
        span(2, 1, start=1_000, length=80, kind=SERVER, service="b", name="b server"),
        span(3, 2, start=1_010, length=60, kind=CLIENT, service="b", name="b client"),
        span(4, 3, start=-500, length=40, kind=SERVER, service="c", name="c server"),
    ]
    spans = by_name(link_request(TRACE, rows, []))
    assert spans["b server"].start_ns == T0 + 10 * MS
    assert spans["b client"].start_ns == T0 + 20 * MS
    assert spans["c server"].start_ns == T0 + 30 * MS


def test_spans_of_one_process_are_never_shifted_apart():
    rows = [span(1, start=0, length=10), span(2, 1, start=-5, length=3)]
    assert [one.skew_ns for one in link_request(TRACE, rows, []).spans] == [0, 0]


def test_a_consumer_may_run_long_after_its_producer_but_not_before():
    later = [span(1, kind=PRODUCER, service="a"), span(2, 1, start=500, kind=CONSUMER)]
    early = [span(1, kind=PRODUCER, service="a"), span(2, 1, start=-500, kind=CONSUMER)]
    assert by_name(link_request(TRACE, later, []))["s2"].skew_ns == 0
    assert by_name(link_request(TRACE, early, []))["s2"].start_ns == T0


def test_self_time_subtracts_the_union_of_overlapping_children_within_the_span():
    rows = [
        span(1, start=0, length=100),
        span(2, 1, start=10, length=30),  # 10..40
        span(3, 1, start=20, length=10),  # inside the former
        span(4, 1, start=35, length=25),  # overlaps it: 40..60 is new
        span(5, 1, start=90, length=50),  # reaches beyond: 90..100
        span(6, 2, start=10, length=30),  # a grandchild counts for its parent alone
    ]
    spans = by_name(link_request(TRACE, rows, []))
    assert spans["s1"].self_ns == 40 * MS
    assert spans["s2"].self_ns == 0
    assert spans["s4"].self_ns == 25 * MS


def test_waiting_for_an_instrumented_service_is_not_charged_but_a_backend_is():
    rows = [
        span(1, start=0, length=100, kind=SERVER),
        span(2, 1, start=0, length=50, kind=CLIENT, name="http"),
        span(3, 1, start=50, length=30, kind=CLIENT, backend="redis", name="SADD", elements=7),
    ]
    request = link_request(TRACE, rows, [])
    spans = by_name(request)
    assert spans["http"].cost.busy_s == 0
    assert spans["SADD"].cost.busy_s == pytest.approx(0.03)
    assert request.cost.busy_s == pytest.approx(0.05)
    assert (request.cost.calls, request.cost.elements) == (1, 7)


def test_calls_are_servers_consumers_and_guards_and_a_rejection_is_no_error():
    rows = [
        span(1, kind=SERVER, status=2, status_message="boom"),
        span(2, 1, call="s2", name="s2", status=2, rejected="b-1"),
        span(3, 1, status=2),
    ]
    request = link_request(TRACE, rows, [])
    assert (request.cost.calls, request.cost.errors) == (2, 1)
    assert [one.status for one in request.spans] == ["error", "error", "error"]
    assert by_name(request)["s2"].rejected == "b-1"


def test_a_span_runs_for_its_nearest_ancestors_user_else_the_requests():
    rows = [span(1), span(2, 1, user="u-2"), span(3, 2), span(4, 1)]
    request = link_request(TRACE, rows, [], ("u-1", 0))
    users = {one.name: one.user for one in request.spans}
    assert users == {"s1": "u-1", "s2": "u-2", "s3": "u-2", "s4": "u-1"}
    assert (request.user, request.user_from) == ("u-1", "entry span")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([span(1, user="root"), span(2, 1, kind=SERVER, user="s")], ("root", "entry span")),
        ([span(1), span(3, 1, user="x"), span(2, 1, kind=SERVER, user="s")], ("s", "server span")),
        ([span(1), span(3, 1, start=2, user="b"), span(4, 1, start=1, user="a")], ("a", "span")),
        ([span(1)], (None, None)),
    ],
)
def test_without_a_stored_user_the_spans_are_asked_by_precedence(rows, expected):
    request = link_request(TRACE, rows, [])
    assert (request.user, request.user_from) == expected


def test_a_span_runs_under_the_call_it_names_or_its_processs_nearest():
    rows = [
        span(1, kind=SERVER, service="a", name="GET /"),
        span(2, 1, service="a"),
        span(3, 2, service="a", call="guard"),
        span(4, 3, service="a"),
        span(5, 2, service="b"),
    ]
    calls = {one.name: one.call for one in link_request(TRACE, rows, []).spans}
    assert calls == {"GET /": "GET /", "s2": "GET /", "s3": "guard", "s4": "guard", "s5": None}


def test_logs_are_by_time_with_names_of_severity_on_the_clock_of_their_span():
    spans = call(40, 60)
    logs = [log(45, 2, severity=17), log(1, severity_text="notice"), log(2, severity=0)]
    request = link_request(TRACE, spans, logs)
    assert [(one.severity, one.time_ns - T0) for one in request.logs] == [
        ("notice", 1 * MS), ("", 2 * MS), ("ERROR", 125 * MS),
    ]  # fmt: skip
    assert request.logs[0].span_id is None


def test_events_and_attributes_are_typed_and_events_move_with_their_span():
    events = json.dumps([{"time_ns": T0 + 50 * MS, "name": "retry", "attributes": {"n": 2}}])
    spans = call(40, 60)
    spans[1] |= {"events": events, "attribute_keys": "b:ok", "attribute_values": "true"}
    server = by_name(link_request(TRACE, spans, []))["server"]
    assert server.attributes == {"ok": True}
    assert [(one.name, one.time_ns - T0, one.attributes) for one in server.events] == [
        ("retry", 130 * MS, {"n": 2})
    ]


def test_the_request_lasts_from_its_first_start_to_its_last_end():
    rows = [span(1, start=10, length=5), span(2, 1, start=12, length=30)]
    request = link_request(TRACE, rows, [])
    assert (request.start_ns, request.duration_ms) == (T0 + 10 * MS, 32.0)


def test_a_request_of_logs_alone_is_shown():
    request = link_request(TRACE, [], [log(5), log(2)])
    assert (request.spans, request.services) == ([], ["shop"])
    assert (request.start_ns, request.duration_ms) == (T0 + 2 * MS, 3.0)


def test_services_are_in_the_order_the_request_came_to_them():
    rows = [
        span(1, start=0, service="z", length=50),
        span(2, 1, start=5, service="a", kind=SERVER, length=10),
    ]
    assert link_request(TRACE, rows, [log(service="m")]).services == ["z", "a", "m"]


def test_kinds_and_statuses_beyond_the_known_keep_their_number():
    request = link_request(TRACE, [span(1, kind=9, status=7)], [])
    assert (request.spans[0].kind, request.spans[0].status) == ("9", "7")


def test_an_empty_parameter_means_any_and_newest_requests_of_a_fast_clock_are_found():
    query = query_of(Search(user="", since_s=10.0, min_duration_ms=1.5), T0)
    assert (query.user, query.service) == (None, None)
    assert (query.since_ns, query.min_duration_ns) == (T0 - 10**10, 1_500_000)
    assert query.until_ns > T0


def test_looking_back_beyond_1970_begins_there():
    assert query_of(Search(since_s=1e12), T0).since_ns == 0
