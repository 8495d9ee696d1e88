"""What a request costs to count, and what is counted."""

import threading

import pytest

from heatshield.metrics.distribution import REQUEST_BUCKETS_S, Distribution, Recent
from heatshield.metrics.red import OTHER, Red


def test_a_bound_is_inclusive_and_the_last_bucket_takes_the_rest():
    counted = Distribution((0.1, 1.0))
    for value in (0.1, 0.11, 1.0, 1.01):
        counted.add(value)
    assert counted.cumulative() == [("0.1", 1, None), ("1.0", 3, None), ("+Inf", 4, None)]
    assert counted.total == pytest.approx(2.22)


def test_each_bucket_remembers_its_last_request_that_had_a_trace():
    counted = Distribution((0.1, 1.0))
    counted.add(0.05, trace_id=7, at_ns=1)
    counted.add(0.06, trace_id=8, at_ns=2)
    counted.add(0.07)
    recent = [recent for _, _, recent in counted.cumulative()]
    assert recent == [Recent(8, 0.06, 2), None, None]


def test_requests_are_counted_by_call_and_outcome():
    red = Red()
    red.observe("GET /a", "ok", 0.02)
    red.observe("GET /a", "error", 0.03)
    red.observe("GET /b", "ok", 0.04)
    assert {one.call: one.outcomes for one in red.counts()} == {
        "GET /a": (1, 1, 0),
        "GET /b": (1, 0, 0),
    }


def test_a_rejected_call_does_not_look_fast():
    red = Red()
    red.observe("GET /a", "rejected", 0.0001)
    (counts,) = red.counts()
    assert counts.outcomes == (0, 0, 1)
    assert sum(counts.durations.counts) == 0


def test_calls_beyond_the_bound_are_counted_together():
    red = Red(max_calls=2)
    for call in "abcdab":
        red.observe(call, "ok", 0.1)
    assert {one.call: one.outcomes[0] for one in red.counts()} == {"a": 2, "b": 2, OTHER: 2}


def test_a_child_process_counts_from_nothing_and_never_ends_its_parents_requests():
    red = Red()
    red.begin()
    red.observe("a", "ok", 0.1)
    red.after_fork()
    red.end()
    assert (red.counts(), red.in_flight) == ([], 0)
    red.begin()
    red.begin()
    assert red.in_flight == 1


def test_threads_lose_no_request():
    red = Red()

    def work():
        for _ in range(2_000):
            red.begin()
            red.observe("a", "ok", 0.001)
            red.end()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (counts,) = red.counts()
    assert counts.outcomes[0] == sum(counts.durations.counts) == 8_000
    assert red.in_flight == 0


def test_a_destructor_may_count_in_the_middle_of_counting():
    """Else a span that ends in one would wait for ever for the lock its own thread holds."""
    red = Red()
    with red._lock:
        red.observe("a", "ok", 0.1)
    assert red.counts()[0].outcomes[0] == 1


def test_a_copy_does_not_change_any_more():
    red = Red()
    red.observe("a", "ok", 0.1)
    (before,) = red.counts()
    red.observe("a", "ok", 0.1)
    assert sum(before.durations.counts) == 1
    assert len(before.durations.counts) == len(REQUEST_BUCKETS_S) + 1
