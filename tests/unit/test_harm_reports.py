"""What the harm rule keeps of charge reports: who ran what where, and what runs now."""

from dataclasses import replace

import pytest
from report_bodies import START_NS, report

from heatshield.charge_report import (
    BackendDurationCount,
    BackendTime,
    DurationCount,
    Operation,
    Pair,
    ProcessState,
    bucket_us,
)
from heatshield.clock import Instant
from heatshield_collector.detect.harm.work import Work
from heatshield_collector.link.reported import Reported

NOW = Instant(100.0, START_NS)
REDIS = "redis cart:6379"


def taken(*reports) -> Work:
    work = Work()
    work.take_reports(Reported([(one, False) for one in reports]), NOW)
    return work


def rows(table) -> list[dict]:
    return [
        dict(zip(table._fields, row, strict=True))
        for row in zip(*(column.tolist() for column in table), strict=True)
    ]


def full(instance="i-1", at_ns=START_NS):
    one = report(
        Pair("ann", "POST /p", cpu_us=900, elements=7, calls=2),
        Pair("", "POST /p", cpu_us=0, calls=5),
        Pair(None, "GET /", cpu_us=50),
        instance=instance,
        at_ns=at_ns,
        process=ProcessState(
            cpu_us=100_000, processors=2.0, workers=2, queued=3, loop_lag_us=20_000
        ),
    )
    return replace(
        one,
        backend_us=[BackendTime(0, REDIS, 90_000, 4), BackendTime(1, REDIS, 500, 9)],
        backend_durations=[BackendDurationCount(REDIS, 30, 13)],
        durations=[DurationCount(0, 40, 2), DurationCount(1, 20, 5), DurationCount(0, 60, 1, True)],
        operations=[
            Operation(0, REDIS, 95_000, 80_000),
            Operation(0, REDIS, 10_000, 5_000),
            Operation(0, REDIS, 4_000, None),
        ],
    )


def test_calls_that_ended_are_kept_with_whose_they_are():
    work = taken(full(), full("i-2"))
    ended = [row for row in rows(work.requests(NOW.monotonic_s, 1.0)) if row["judged"] == 0]
    numbers = work.numbers
    ann, post = numbers.users.of("ann"), numbers.calls.of("shop\x1fPOST /p")
    assert {(row["user"], row["call"], row["process"], row["calls"]) for row in ended} >= {
        (ann, post, numbers.processes.of("shop\x1fi-1"), 2),
        (-2, post, numbers.processes.of("shop\x1fi-1"), 5),
        (ann, post, numbers.processes.of("shop\x1fi-2"), 2),
    }
    assert {row["us"] for row in ended} == {bucket_us(40), bucket_us(20), bucket_us(60)}
    assert work.key(ann, post).text == "default\x1fshop\x1fPOST /p\x1fann"


def test_what_runs_is_kept_by_process_until_its_next_report():
    work = taken(full(), full("i-2"))
    process = work.numbers.processes.of("shop\x1fi-1")
    state = work.states[process]
    assert (state.busy, state.processors, state.queued) == (pytest.approx(0.5), 2.0, 3)
    (call,), (operation,) = state.open, state.running
    assert call[2:] == (process, pytest.approx(bucket_us(60)), 1)
    assert operation[0] == pytest.approx(NOW.monotonic_s - 0.004)
    work.take_reports(Reported([(report(instance="i-1"), False)]), NOW)
    assert (work.states[process].open, work.states[process].running) == ([], [])


def test_processor_time_is_that_of_the_report_s_stretch():
    work = taken(full())
    first, second = rows(work.computing(NOW.monotonic_s, 1.0))
    assert (first["start_s"], first["end_s"]) == (pytest.approx(99.8), 100.0)
    assert (first["us"], first["began"], first["open"], first["is_cpu"]) == (900, 2, 1, 1)
    assert (second["us"], second["user"]) == (50, -1)
    ann, post = work.numbers.users.of("ann"), work.numbers.calls.of("shop\x1fPOST /p")
    assert work.elements_per_call(ann, post) == (3.5, 0.0)


def test_operations_are_kept_when_they_ran_and_those_that_are_not_listed_by_number():
    work = taken(full(), full("i-2"))
    found = [row for row in rows(work.operations(NOW.monotonic_s, 1.0)) if not row["running"]]
    redis, ann = work.numbers.backends.of(REDIS), work.numbers.users.of("ann")
    assert {row["backend"] for row in found} == {redis}
    listed = [row for row in found if row["end_s"] > row["start_s"]]
    times = sorted((round(100 - row["start_s"], 6), round(100 - row["end_s"], 6)) for row in listed)
    assert times == [(0.01, 0.005), (0.01, 0.005), (0.095, 0.015), (0.095, 0.015)]
    assert len({row["request"] for row in listed}) == 4
    rest = sorted((row["user"], row["operations"]) for row in found if row not in listed)
    assert rest == [(-2, 9), (-2, 9), (ann, 2), (ann, 2)]


def test_an_event_loop_is_late_where_it_is_far_later_than_its_usual():
    work = Work()

    def tell(second, lag_us, instance="i-1"):
        for part in range(5):
            at_s = 100.0 + second + part / 5
            said = report(
                instance=instance,
                number=second * 5 + part + 1,
                at_ns=START_NS + round((at_s - 100.0) * 1e9),
                process=ProcessState(loop_lag_us=lag_us),
            )
            instant = Instant(at_s, START_NS + round((at_s - 100.0) * 1e9))
            work.take_reports(Reported([(said, False)]), instant)
        return at_s

    for second in range(20):
        now_s = tell(second, 1_000)
        tell(second, 1_000, "i-2")
    one, two = (work.numbers.processes.of(f"shop\x1fi-{at}") for at in (1, 2))
    assert work.late([one, two], now_s, 1.0) == 0.0
    now_s = tell(20, 8_000)
    assert work.late([one], now_s, 1.0) == 0.0, "ten milliseconds more harm nobody"
    now_s = tell(21, 60_000)
    assert work.late([one], now_s, 1.0) == pytest.approx(1.0)
    assert work.late([one, two], now_s, 1.0) == pytest.approx(0.5)
    now_s = tell(22, 1_000)
    assert work.late([one], now_s, 1.0) == 0.0
