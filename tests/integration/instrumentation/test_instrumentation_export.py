"""What leaves a process, when, and what it costs when nobody listens."""

import time

import pytest

from heatshield import runtime
from heatshield.counters import COUNTERS
from heatshield.settings import ServiceSettings


@pytest.fixture
def begin(collector):
    def start(**settings):
        given = {"endpoint": collector.endpoint, "service": "shop", **settings}
        runtime.begin(ServiceSettings(**given))
        found = runtime._RUNNING.get()
        found.watch.stop()
        return found

    yield start
    runtime.end()


def tracer():
    from opentelemetry.trace import get_tracer

    return get_tracer("test")


def test_a_batch_leaves_after_its_interval_on_one_connection(begin, collector, until):
    begin(flush_interval_s=0.1)
    for name in ("a", "b", "c"):
        with tracer().start_as_current_span(name):
            pass
    until(lambda: len(collector.spans) == 3)
    assert len(collector.payloads) == 1
    assert collector.payloads[0][3]["content-type"] == "application/x-protobuf"


def test_a_full_batch_does_not_wait(begin, collector, until):
    begin(flush_interval_s=30.0, batch_records=8)
    for _ in range(8):
        tracer().start_span("a").end()
    until(lambda: len(collector.spans) == 8)


def test_the_thread_outlives_a_round_that_fails(begin, collector, until, monkeypatch):
    running = begin(flush_interval_s=0.01)
    failures = COUNTERS.errors.get("export", 0)
    with monkeypatch.context() as broken:
        broken.setattr("heatshield.export.records.encode", None)
        tracer().start_span("lost").end()
        until(lambda: COUNTERS.errors.get("export", 0) > failures)
    assert running.exporter.force_flush(2_000)
    tracer().start_span("sent").end()
    until(lambda: [span.name for _, span in collector.spans] == ["sent"])


def test_an_urgent_span_does_not_wait(begin, collector, until):
    import heatshield

    begin(flush_interval_s=30.0)
    with tracer().start_as_current_span("SADD"):
        heatshield.cost(elements=20_000)
    until(lambda: collector.spans)


def test_overload_is_retried_and_nothing_is_lost(begin, collector, until):
    begin(flush_interval_s=0.01)
    collector.statuses = [(503, {"retry-after": "0"}), (429, {})]
    tracer().start_span("a").end()
    until(lambda: collector.spans)
    assert [status for *_, status in collector.payloads] == [503, 429, 200]


def test_a_final_refusal_is_counted_and_not_repeated(begin, collector, until):
    running = begin(flush_interval_s=0.01)
    before = COUNTERS.dropped.get("refused", 0)
    collector.statuses = [(400, {})]
    tracer().start_span("a").end()
    until(lambda: COUNTERS.dropped.get("refused", 0) == before + 1)
    running.exporter.drain()
    assert len(collector.payloads) == 1


def test_a_dead_collector_costs_a_counter_and_no_time(begin):
    """Nothing listens on the port; the queue is bounded and the oldest records go."""
    running = begin(endpoint="http://127.0.0.1:9", queue_records=100)
    before = COUNTERS.dropped.get("queue_full", 0)
    slowest = 0.0
    for _ in range(2_000):
        started = time.perf_counter()
        tracer().start_span("a").end()
        slowest = max(slowest, time.perf_counter() - started)
    assert COUNTERS.dropped.get("queue_full", 0) - before >= 1_000
    assert running.exporter.queued()["spans"] <= 100
    assert slowest < 0.5
    started = time.perf_counter()
    runtime.end()
    assert time.perf_counter() - started < 4.5, "two seconds to send and two to stop, at most"


def test_its_own_calls_are_not_traced(begin, collector, until):
    begin(flush_interval_s=0.01)
    tracer().start_span("a").end()
    until(lambda: collector.spans)
    time.sleep(0.1)
    assert [span.name for _, span in collector.spans] == ["a"]


def test_what_is_queued_leaves_at_exit(run_python, collector):
    done = run_python(
        "import heatshield\n"
        "heatshield.instrument(service='job', flush_interval_s=60.0)\n"
        "with heatshield.guard('work'):\n"
        "    heatshield.user('u-1')\n"
    )
    assert done.returncode == 0, done.stderr
    ((resource, span),) = collector.spans
    assert (resource["service.name"], span.name) == ("job", "work")


def test_a_forked_child_is_another_instance_with_queues_of_its_own(run_python, collector):
    done = run_python(
        "import os, heatshield\n"
        "heatshield.instrument(service='job', flush_interval_s=60.0)\n"
        "with heatshield.guard('before'): pass\n"
        "child = os.fork()\n"
        "with heatshield.guard('child' if child == 0 else 'parent'): pass\n"
        "assert heatshield.flush()\n"
        "if child == 0: os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    assert done.returncode == 0, done.stderr
    sent = sorted(
        (span.name, resource["service.instance.id"]) for resource, span in collector.spans
    )
    assert [name for name, _ in sent] == ["before", "child", "parent"]
    by_name = dict(sent)
    assert by_name["before"] == by_name["parent"] != by_name["child"]


def test_counters_stand_in_the_services_registry(begin):
    from prometheus_client import generate_latest

    begin()
    COUNTERS.drop("for the test", 3)
    text = generate_latest().decode()
    assert 'heatshield_telemetry_dropped_total{cause="for the test"} 3.0' in text
