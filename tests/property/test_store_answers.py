"""The embedded store answers what the simplest one answers, whatever it is asked."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_store import MemoryStore
from span_rows import MS, START_NS, span, table
from store_rows import S, log, put_logs
from store_suites import HARD_TEXT, joined

from heatshield.clock import Instant
from heatshield_collector.link import Linker
from heatshield_collector.store import DuckDBStore, LogQuery, RequestQuery

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
@given(spans(), records, st.lists(requests, min_size=1), st.lists(log_queries, min_size=1))
def test_both_stores_answer_alike(rows, logs, queries, questions):
    with tempfile.TemporaryDirectory() as folder:
        embedded, memory = DuckDBStore(Path(folder)), MemoryStore()
        batch = table(rows)
        parts = Linker().link(batch, Instant(1.0, START_NS)).parts
        for store in (embedded, memory):
            store.append({"spans": batch, "request_parts": parts})
            put_logs(store, logs)
        for query in queries:
            assert embedded.requests(query) == memory.requests(query)
        for question in questions:
            found = [[_seen(row) for row in store.logs(question)] for store in (embedded, memory)]
            assert found[0] == found[1]
        embedded.close()


def _seen(row):
    """What tells records apart; of two that are alike in it, either may be shown."""
    return tuple(
        row[name] for name in ("time_ns", "span_id", "service", "body", "attribute_values")
    )
