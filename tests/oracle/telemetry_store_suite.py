"""What every telemetry store fulfils, whatever it is made of.

A test class derives from the suite and has a fixture ``store`` that yields an empty store.
"""

import pytest
from span_rows import CLIENT, MS, START_NS, span, table, trace_id
from store_rows import (
    HARD_TEXT,
    SINCE_NS,
    UNTIL_NS,
    S,
    at_once,
    joined,
    log,
    moment,
    put,
    put_logs,
    put_parts,
    put_resource,
    put_samples,
    series_row,
)

from heatshield_alerts.matchers import Matcher, MatchKind
from heatshield_collector.link import Linker
from heatshield_collector.model import SEPARATOR, SPANS
from heatshield_collector.store import (
    LogQuery,
    Operation,
    RequestQuery,
    SampleQuery,
    SeriesQuery,
    StoreError,
)


def requests(store, **query):
    rows = store.requests(RequestQuery(SINCE_NS, UNTIL_NS, **query))
    return [int.from_bytes(row["trace_id"], "big") for row in rows]


def bodies(store, **query):
    return [row["body"] for row in store.logs(LogQuery(SINCE_NS, UNTIL_NS, **query))]


class TelemetryStoreSuite:
    """``heatshield_collector.store.TelemetryStore``."""

    def test_an_empty_store_answers_every_question_with_nothing(self, store):
        assert store.requests(RequestQuery(SINCE_NS, UNTIL_NS)) == []
        assert store.spans_of(trace_id(1)) == []
        assert store.logs_of(trace_id(1)) == []
        assert store.user_of(trace_id(1)) == (None, None)
        assert store.logs(LogQuery(SINCE_NS, UNTIL_NS)) == []
        assert store.series(SeriesQuery(SINCE_NS, UNTIL_NS)) == []
        assert store.services(SINCE_NS, UNTIL_NS) == []
        assert store.operations("shop", SINCE_NS, UNTIL_NS) == []
        assert store.label_names(SINCE_NS, UNTIL_NS) == []
        assert store.label_values("service", SINCE_NS, UNTIL_NS) == []

    def test_nothing_is_written_to_a_table_that_there_is_not(self, store):
        with pytest.raises(StoreError, match="no table"):
            store.append({"spans": table([span(1)]), "nonsense": table([span(2)])})
        assert store.spans_of(trace_id(1)) == []

    def test_spans_that_come_twice_are_read_once_by_their_start(self, store):
        linker = Linker()
        rows = [span(2, parent=1, kind=CLIENT, start_ns=START_NS + MS), span(1)]
        put(store, rows, START_NS, linker)
        put(store, rows, START_NS + S, linker)
        assert [row["span_id"][-1] for row in store.spans_of(trace_id(1))] == [1, 2]

    def test_the_newest_spans_are_those_that_were_written_last(self, store):
        assert store.newest_spans(2).num_rows == 0
        for number, received_ns in ((1, START_NS + 9 * S), (2, START_NS), (3, START_NS + S)):
            put(store, [span(number, service="talk")], received_ns)
        newest = store.newest_spans(2)
        assert newest.num_rows == 2
        linker = Linker()
        linker.charged_before(newest)
        rows = table([span(number, service="talk") for number in (1, 2, 3)])
        assert linker.link(rows, moment(START_NS)).opens.tolist() == [True, False, False]

    def test_recorded_spans_are_those_that_ended_in_a_range_both_ends_included(self, store):
        assert list(store.recorded_spans(SINCE_NS, UNTIL_NS)) == []
        for number, late_ms in ((1, 0), (2, 1), (3, 2)):
            start_ns = START_NS + late_ms * MS
            put(store, [span(number, start_ns=start_ns, duration_ns=10 * MS, user=f"u-{number}")])
        first_ns = START_NS + 11 * MS
        tables = list(store.recorded_spans(first_ns, first_ns + MS))
        assert all(one.schema.equals(SPANS) for one in tables)
        rows = [row for one in tables for row in one.to_pylist()]
        assert sorted(row["user"] for row in rows) == ["u-2", "u-3"]
        assert list(store.recorded_spans(first_ns + MS + 1, UNTIL_NS)) == []

    def test_spans_that_begin_together_are_in_one_order(self, store):
        put(store, [span(3), span(1), span(2, duration_ns=20 * MS)])
        assert [row["span_id"][-1] for row in store.spans_of(trace_id(1))] == [2, 1, 3]

    def test_requests_come_newest_first_and_by_trace_id_where_they_begin_together(self, store):
        for number, late_s in ((3, 0), (1, 5), (2, 0)):
            put(store, [span(number, trace=number, start_ns=START_NS + late_s * S)])
        assert requests(store) == [1, 2, 3]
        assert requests(store, limit=2) == [1, 2]

    def test_requests_are_found_by_the_time_they_begin_both_ends_included(self, store):
        for number in (1, 2, 3, 4):
            put(store, [span(number, trace=number, start_ns=START_NS + number)])
        rows = store.requests(RequestQuery(START_NS + 2, START_NS + 3))
        assert [row["trace_id"] for row in rows] == [trace_id(3), trace_id(2)]

    def test_requests_are_found_by_user_service_and_errors(self, store):
        put(store, [span(1, user="u-1"), span(2, parent=1, service="talk", status=2)])
        put(store, [span(3, trace=2, user="u-2")])
        assert requests(store, user="u-2") == requests(store, errors=False) == [2]
        assert requests(store, user="u-1") == requests(store, errors=True) == [1]
        assert requests(store, service="talk") == [1]
        assert requests(store, user="u") == requests(store, service="none") == []
        (row,) = store.requests(RequestQuery(SINCE_NS, UNTIL_NS, user="u-1"))
        assert (row["services"], row["spans"], row["errors"]) == (["shop", "talk"], 2, 1)

    def test_requests_that_began_in_a_service_are_left_out(self, store):
        put(store, [span(1, service="gateway"), span(2, parent=1, service="shop")])
        put(store, [span(3, trace=2, service="shop")])
        put(store, [span(4, trace=3, parent=9, service="shop")])  # its root has not come
        assert requests(store, leave_out="shop") == [1, 3]
        assert requests(store, leave_out="shop", service="shop") == [1, 3]
        assert requests(store, leave_out="gateway") == [2, 3]

    def test_a_request_begins_with_its_first_part(self, store):
        put_parts(store, ("u-1", 1, "shop", "a", -10), ("u-1", 1, None, None, 5))
        assert requests(store) == []
        (row,) = store.requests(RequestQuery(START_NS - 10 * S, START_NS))
        assert (row["spans"], row["duration_ns"]) == (2, 15 * S + MS)

    def test_users_are_found_by_how_they_are_written(self, store):
        assert store.users_like("ann", 3) == []
        for number, user in enumerate(("ann-1", "bob-7", None, "zoë@example.com"), start=1):
            put(store, [span(number, trace=number, user=user)])
        assert store.users_like("ann", 1) == ["ann-1"]
        assert store.users_like("zoe@example.com", 1) == ["zoë@example.com"]
        assert len(store.users_like("x", 9)) == 3

    def test_a_page_is_filled_from_requests_that_are_far_apart(self, store):
        for number, hours in ((1, 0), (2, 5), (3, 5), (4, 300)):
            put(
                store, [span(number, trace=number, user="u", start_ns=START_NS - hours * 3_600 * S)]
            )
        for more in ({}, {"user": "u"}, {"service": "shop"}, {"user": "u", "service": "shop"}):
            rows = store.requests(RequestQuery(0, UNTIL_NS, **more))
            assert [row["trace_id"][-1] for row in rows] == [1, 2, 3, 4]
            assert len(store.requests(RequestQuery(0, UNTIL_NS, limit=2, **more))) == 2

    def test_a_long_request_is_summed_up_whole_wherever_it_is_looked_at(self, store):
        """Its root came last and lasted for hours, longer than what is looked at."""
        linker = Linker()
        root = span(1, duration_ns=3 * 3_600 * 1_000 * MS)
        children = [
            span(number, parent=1, kind=1, start_ns=START_NS + number * 1_800 * S, duration_ns=MS)
            for number in (2, 3, 4, 5)
        ]
        for row in (*children, root):
            put(store, [row], row["start_ns"] + row["duration_ns"], linker)
        (row,) = store.requests(RequestQuery(START_NS - S, START_NS + S))
        assert (row["spans"], row["start_ns"]) == (5, START_NS)
        assert store.requests(RequestQuery(START_NS + 3_600 * S, START_NS + 7_200 * S)) == []

    @pytest.mark.parametrize("turn", [1, -1])
    def test_whose_request_it_is_does_not_depend_on_what_came_first(self, store, turn):
        parts = [
            ("zoe", 1, "talk", "b"),
            ("ann", 2, None, None),
            ("amy", 1, "shop", "z"),
            (None, 0, "shop", "y"),
        ]
        put_parts(store, *parts[::turn])
        (row,) = store.requests(RequestQuery(SINCE_NS, UNTIL_NS))
        assert (row["user"], row["service"], row["call"]) == ("amy", "shop", "y")
        assert store.user_of(trace_id(1)) == ("amy", 1)
        assert requests(store, user="amy") == [1]
        assert requests(store, user="zoe") == requests(store, user="ann") == []

    def test_requests_are_found_by_duration_between_two_bounds(self, store):
        for number in (1, 2, 3):
            put(store, [span(number, trace=number, duration_ns=number * 10 * MS)])
        assert requests(store, min_duration_ns=20 * MS) == [2, 3]
        assert requests(store, max_duration_ns=20 * MS) == [1, 2]
        assert requests(store, min_duration_ns=15 * MS, max_duration_ns=25 * MS) == [2]

    def test_requests_are_found_by_attributes_of_one_span(self, store):
        put(store, [span(1, **joined(color="red", size=5))])
        put(store, [span(2, trace=2, **joined(color="red")), span(3, trace=2, **joined(size=5))])
        assert requests(store, attributes={"color": "red"}) == [1, 2]
        assert requests(store, attributes={"color": "red", "size": "5"}) == [1]
        assert requests(store, attributes={"color": "re"}) == []
        assert requests(store, attributes={"colo": "red"}) == []
        assert requests(store, attributes={"size": "color"}) == []

    def test_requests_are_found_by_the_operation_that_has_the_attribute(self, store):
        put(store, [span(1, name="GET /a", **joined(color="red")), span(2, name="GET /b")])
        assert requests(store, call="GET /a", attributes={"color": "red"}) == [1]
        assert requests(store, call="GET /b", attributes={"color": "red"}) == []

    def test_requests_are_found_by_attributes_of_the_resource(self, store):
        put_resource(store, 8, **{"host.name": "h-1"})
        put(store, [span(1, resource_id=8)])
        put(store, [span(2, trace=2)])
        assert requests(store, attributes={"host.name": "h-1"}) == [1]

    def test_names_and_values_may_hold_any_character(self, store):
        put(store, [span(1, **joined(**{HARD_TEXT: HARD_TEXT, "x": "y"}))])
        assert requests(store, attributes={HARD_TEXT: HARD_TEXT}) == [1]
        assert requests(store, attributes={HARD_TEXT: "y"}) == []
        assert requests(store, attributes={"a": "a"}) == []

    def test_a_span_without_attributes_has_none_without_a_name(self, store):
        put(store, [span(1), span(2, trace=2, **joined(**{"": ""}))])
        assert requests(store, attributes={"": ""}) == [2]

    def test_of_a_name_used_twice_the_last_value_stands(self, store):
        put(
            store,
            [span(1, attribute_keys=f"s:a{SEPARATOR}s:a", attribute_values=f"1{SEPARATOR}2")],
        )
        assert requests(store, attributes={"a": "2"}) == [1]
        assert requests(store, attributes={"a": "1"}) == []

    def test_logs_are_found_by_what_is_asked(self, store):
        put_logs(
            store,
            [
                log(1, body="Payment refused", severity=17, **joined(order=7)),
                log(2, body="payment taken", trace=2, user="u-1"),
                log(3, body="100% sure_", service="talk", trace=0),
            ],
        )
        assert bodies(store) == ["100% sure_", "payment taken", "Payment refused"]
        assert bodies(store, newest_first=False, limit=2) == ["Payment refused", "payment taken"]
        assert bodies(store, text="PAYMENT") == ["payment taken", "Payment refused"]
        assert bodies(store, text="0% s") == ["100% sure_"]
        assert bodies(store, text="sure.") == []
        assert bodies(store, min_severity=10) == ["Payment refused"]
        assert bodies(store, service="talk") == ["100% sure_"]
        assert bodies(store, user="u-1") == ["payment taken"]
        assert bodies(store, trace_id=trace_id(2)) == ["payment taken"]
        assert bodies(store, attributes={"order": "7"}) == ["Payment refused"]
        later = LogQuery(START_NS + 2, START_NS + 3)
        assert [row["body"] for row in store.logs(later)] == ["100% sure_", "payment taken"]

    def test_logs_that_come_twice_are_read_once(self, store):
        put_logs(store, [log(1), log(1, received_ns=START_NS + S)])
        assert bodies(store) == ["line 1"]
        assert len(store.logs_of(trace_id(1))) == 1

    def test_of_a_log_record_that_came_twice_the_first_delivery_stands(self, store):
        put_logs(store, [log(1, received_ns=START_NS + S), log(1)])
        (row,) = store.logs(LogQuery(SINCE_NS, UNTIL_NS))
        assert row["received_ns"] == START_NS

    def test_log_records_that_differ_in_anything_are_told_apart(self, store):
        rows = [
            log(1), log(1, trace=2), log(1, instance="i-2"), log(1, user="u-1"), log(1, severity=5),
            log(1, **joined(a="x")), log(1, **joined(b="x")), log(1, resource_id=8),
        ]  # fmt: skip
        put_logs(store, rows)
        put_logs(store, list(reversed(rows)))
        found = store.logs(LogQuery(SINCE_NS, UNTIL_NS))
        assert len(found) == len(rows)
        assert [row for row in found if row["trace_id"] == trace_id(1)] == store.logs_of(
            trace_id(1)
        )
        limited = store.logs(LogQuery(SINCE_NS, UNTIL_NS, limit=3))
        assert limited == found[:3]

    def test_services_and_operations_are_those_of_the_time(self, store):
        put(store, [span(1), span(2, parent=1, kind=CLIENT, name="GET"), span(3, service="talk")])
        put(store, [span(4, trace=2, service="late", start_ns=UNTIL_NS + 1)])
        assert store.services(SINCE_NS, UNTIL_NS) == ["shop", "talk"]
        assert store.operations("shop", SINCE_NS, UNTIL_NS) == [
            Operation("GET", CLIENT),
            Operation("POST /p", 2),
        ]

    def test_series_have_their_samples_of_the_range_once_each_by_time(self, store):
        put_samples(
            store,
            [series_row(1), series_row(2, "n")],
            [(1, 20, 2.0), (1, 10, 1.0), (1, 10, 9.0, 30), (1, 7_200, 3.0), (2, 7_200, 4.0)],
        )
        (found,) = store.series(SeriesQuery(SINCE_NS, UNTIL_NS))
        assert found["name"] == "m"
        assert [(row["time_ns"] - START_NS, row["value"]) for row in found["samples"]] == [
            (10 * S, 1.0),
            (20 * S, 2.0),
        ]

    def test_of_two_samples_of_one_moment_the_first_delivery_stands(self, store):
        put_samples(store, [series_row(1)], [(1, 10, 9.0, 30), (1, 10, 1.0, 10), (1, 10, 5.0, 10)])
        (ranged,) = store.series(SeriesQuery(SINCE_NS, UNTIL_NS))
        (latest,) = store.latest_samples(SampleQuery(SINCE_NS))
        assert [row["value"] for row in ranged["samples"]] == [latest["value"]] == [1.0]

    def test_the_newest_sample_of_each_series_comes_with_its_exemplars(self, store):
        some = [series_row(1, "b"), series_row(2, "a"), series_row(3, "a", service="talk")]
        samples = [(1, 5, 1.0), (1, 20, 2.0), (1, 10, 3.0), (2, 0, 4.0), (3, 30, 5.0)]
        put_samples(store, some, samples)

        def latest(since_s=-1, **query):
            rows = store.latest_samples(SampleQuery(START_NS + since_s * S, **query))
            return [(row["series_id"], row["value"]) for row in rows]

        assert latest() == [(2, 4.0), (3, 5.0), (1, 2.0)]
        assert latest(limit=2) == [(2, 4.0), (3, 5.0)]
        assert latest(name="a", service="talk") == latest(since_s=21) == [(3, 5.0)]
        assert latest(name="none") == []
        row = store.latest_samples(SampleQuery(START_NS + 10 * S, name="b"))[0]
        assert [one["value"] for one in row["exemplars"]] == [2.0, 3.0]
        assert "received_ns" not in row

    def test_labels_are_the_texts_that_attributes_are_found_by(self, store):
        keys = SEPARATOR.join(("j:list", "n:none", "b:yes", "d:half", "x:raw", "i:five"))
        values = SEPARATOR.join(('["é",1]', "", "true", "0.5", "c0ff", "5"))
        row = series_row(1, attribute_keys=keys, attribute_values=values)
        put_samples(store, [row], [(1, 0, 1.0)])
        put(store, [span(1, attribute_keys=keys, attribute_values=values)])
        labels = {
            name: store.label_values(name, SINCE_NS, UNTIL_NS)
            for name in ("list", "none", "yes", "half", "raw", "five")
        }
        assert labels == {
            "list": ['["é",1]'], "none": [], "yes": ["true"], "half": ["0.5"], "raw": ["c0ff"],
            "five": ["5"],
        }  # fmt: skip
        assert "none" not in store.label_names(SINCE_NS, UNTIL_NS)
        for name, texts in labels.items():
            assert requests(store, attributes={name: texts[0] if texts else ""}) == [1]

    @pytest.mark.parametrize(
        ("matchers", "expected"),
        [
            ([("__name__", "=", "a")], [1, 2]),
            ([("__name__", "=~", "a|b"), ("service", "=", "talk")], [2]),
            ([("color", "=", "red")], [1, 3]),
            ([("color", "!=", "red")], [2]),
            ([("color", "=", "")], [2]),
            ([("size", "=~", "1.")], [3]),
            ([("instance", "!~", "i-.*")], []),
        ],
    )
    def test_series_are_found_by_matchers(self, store, matchers, expected):
        some = [
            series_row(1, "a", {"color": "red"}),
            series_row(2, "a", service="talk"),
            series_row(3, "b", {"color": "red", "size": 12}),
        ]
        put_samples(store, some, [(number, 0, 1.0) for number in (1, 2, 3)])
        tests = [Matcher(name, MatchKind(kind), value) for name, kind, value in matchers]
        found = store.series(SeriesQuery(SINCE_NS, UNTIL_NS, tests))
        assert [row["series_id"] for row in found] == expected
        assert len(store.series(SeriesQuery(SINCE_NS, UNTIL_NS, tests, limit=1))) == min(
            1, len(expected)
        )

    def test_labels_are_those_of_series_in_the_range(self, store):
        put_samples(store, [series_row(1, "a", {"color": "red"})], [(1, 0, 1.0)])
        put_samples(store, [series_row(2, "b", {"shape": "round"})], [(2, 7_200, 1.0)])
        assert store.label_names(SINCE_NS, UNTIL_NS) == ["__name__", "color", "instance", "service"]
        assert store.label_values("__name__", SINCE_NS, UNTIL_NS) == ["a"]
        assert store.label_values("color", SINCE_NS, UNTIL_NS) == ["red"]
        assert store.label_values("shape", SINCE_NS, UNTIL_NS) == []

    def test_threads_write_and_read_at_once_and_see_whole_commits(self, store):
        def work(number):
            for turn in range(5):
                put(store, [span(1, trace=10 * number + turn + 1), span(2, parent=1, trace=99)])
                rows = store.requests(RequestQuery(SINCE_NS, UNTIL_NS))
                assert all(row["spans"] == 1 for row in rows if row["trace_id"] != trace_id(99))
                assert (99).to_bytes(16, "big") in {row["trace_id"] for row in rows}

        at_once(work)
        rows = store.requests(RequestQuery(SINCE_NS, UNTIL_NS))
        assert len(rows) == 21
        assert sum(row["spans"] for row in rows) == 40
