"""The embedded store answers what the simplest one answers, whatever it is asked."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_store import MemoryStore
from span_rows import MS, START_NS, span, table, trace_id
from store_rows import HARD_TEXT, S, joined, log, moment, put_logs, put_samples, series_row

from heatshield.clock import Instant
from heatshield_alerts.matchers import Matcher, MatchKind
from heatshield_collector.link import Linker
from heatshield_collector.store import (
    DuckDBStore,
    LogQuery,
    RequestQuery,
    SampleQuery,
    SeriesQuery,
)

names = st.sampled_from(["a", "b", "ab", HARD_TEXT])
attributes = st.dictionaries(names, st.sampled_from(["a", "b", "5", HARD_TEXT]) | st.just(5))
services = st.sampled_from(["shop", "talk"])
calls = st.sampled_from(["GET /a", "GET /b"])
users = st.sampled_from([None, "u-1", "unknown"])
moments = st.integers(0, 5).map(lambda second: START_NS + second * S)
wanted = st.dictionaries(names, st.sampled_from(["a", "b", "5", HARD_TEXT]), max_size=2)


@st.composite
def spans(draw):
    count = draw(st.integers(1, 8))
    return [
        span(
            number + 1,
            trace=draw(st.integers(1, 4)),
            service=draw(services),
            name=draw(calls),
            user=draw(users),
            status=draw(st.sampled_from([0, 2])),
            start_ns=draw(moments),
            duration_ns=draw(st.integers(0, 3)) * 10 * MS,
            **joined(**draw(attributes)),
        )
        for number in range(count)
    ]


requests = st.builds(
    RequestQuery,
    since_ns=moments,
    until_ns=moments,
    user=st.none() | st.sampled_from(["u-1", "unknown"]),
    service=st.none() | services,
    call=st.none() | calls,
    errors=st.none() | st.booleans(),
    min_duration_ns=st.sampled_from([0, 10 * MS]),
    max_duration_ns=st.none() | st.just(10 * MS),
    attributes=wanted,
    limit=st.integers(1, 5),
)

records = st.lists(
    st.builds(
        lambda number, service, severity, body, own: log(
            number, trace=number % 3, service=service, severity=severity, body=body, **joined(**own)
        ),
        st.integers(0, 5),
        services,
        st.sampled_from([5, 9, 17]),
        st.sampled_from(["One", "one two", "100%", HARD_TEXT]),
        attributes,
    ),
    max_size=8,
)

log_queries = st.builds(
    LogQuery,
    since_ns=st.integers(0, 5).map(lambda n: START_NS + n),
    until_ns=st.integers(0, 5).map(lambda n: START_NS + n),
    service=st.none() | services,
    min_severity=st.sampled_from([0, 9]),
    text=st.sampled_from(["", "ONE", "%", "a\x1fb"]),
    attributes=wanted,
    newest_first=st.booleans(),
    limit=st.integers(1, 5),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.tuples(spans(), records), min_size=1, max_size=3),
    st.lists(requests, min_size=1),
    st.lists(log_queries, min_size=1),
)
def test_both_stores_answer_alike(deliveries, queries, questions):
    with tempfile.TemporaryDirectory() as folder:
        embedded, memory = DuckDBStore(Path(folder)), MemoryStore()
        linker = Linker()
        for number, (some, records) in enumerate(deliveries):
            received_ns = START_NS + number * S
            batch = table([{**row, "received_ns": received_ns} for row in some])
            parts = linker.link(batch, Instant(1.0 + number, received_ns)).parts
            for store in (embedded, memory):
                store.append({"spans": batch, "request_parts": parts})
                put_logs(store, [{**row, "received_ns": received_ns} for row in records])
        for fold_after_s in (0, 61, 120):  # not yet, the first delivery, all of them
            embedded.expire(moment(START_NS + fold_after_s * S))
            for query in queries:
                assert embedded.requests(query) == memory.requests(query)
        for question in questions:
            assert embedded.logs(question) == memory.logs(question)
        for number in range(5):
            for ask in ("spans_of", "logs_of", "user_of"):
                assert getattr(embedded, ask)(trace_id(number)) == getattr(memory, ask)(
                    trace_id(number)
                )
        embedded.close()


labels = st.dictionaries(names, st.sampled_from(["", "a", "b", HARD_TEXT]) | st.just(5), max_size=2)
samples = st.lists(
    st.tuples(
        st.integers(1, 3), st.integers(0, 5), st.integers(0, 9).map(float), st.integers(0, 5)
    ),
    max_size=10,
)
label_names = st.sampled_from(["__name__", "service", "instance", "a", "ab", HARD_TEXT])
matchers = st.lists(
    st.builds(
        Matcher,
        label_names,
        st.sampled_from(MatchKind),
        st.sampled_from(["", "a", "m", "shop", "a|b", ".+", ".*"]),
    ),
    max_size=2,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["m", "a"]), services, labels), min_size=3, max_size=3),
    st.lists(samples, min_size=1, max_size=2),
    st.lists(st.tuples(moments, moments, matchers, st.integers(1, 3)), min_size=1),
    label_names,
)
def test_both_stores_answer_alike_about_metrics(some, deliveries, ranges, label):
    rows = [
        series_row(number, name, own, service=service)
        for number, (name, service, own) in enumerate(some, start=1)
    ]
    with tempfile.TemporaryDirectory() as folder:
        embedded, memory = DuckDBStore(Path(folder)), MemoryStore()
        for found in deliveries:
            for store in (embedded, memory):
                put_samples(store, rows, found)
        for since_ns, until_ns, tests, limit in ranges:
            asks = [
                ("series", SeriesQuery(since_ns, until_ns, tests, limit)),
                ("latest_samples", SampleQuery(since_ns, limit=limit)),
                ("latest_samples", SampleQuery(since_ns, name="m", service="shop")),
                ("label_names", since_ns, until_ns),
                ("label_values", label, since_ns, until_ns),
            ]
            for ask, *query in asks:
                assert getattr(embedded, ask)(*query) == getattr(memory, ask)(*query), ask
        embedded.close()
