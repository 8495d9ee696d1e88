"""What instances have shown to be busy with, by spans and by reports, whatever their clocks say."""

import pytest
from charge_rows import charge, charge_table
from report_bodies import report

from heatshield.charge_report import Pair, ProcessState
from heatshield_collector.link.shown_workers import GENERATION_S, ShownWorkers

S = 10**9


def spans(shown, *rows, now_s=0.0):
    shown.charges(charge_table(rows), now_s)


def row(end_s, busy_ms, instance="i-1", service="shop"):
    duration_ns = busy_ms * 10**6
    return charge(
        "u", busy_ms, instance=instance, service=service,
        start_ns=round(end_s * S) - duration_ns, duration_ns=duration_ns,
    )  # fmt: skip


def test_the_most_that_one_instance_was_busy_with_over_a_second_is_shown():
    shown = ShownWorkers()
    assert shown.of("shop") == 0.0
    spans(shown, row(100.2, 100), row(100.9, 500), row(101.2, 200), row(100.3, 900, "i-2"))
    assert shown.of("shop") == pytest.approx(0.9)
    spans(shown, row(100.6, 400))  # of the same second, in a later batch
    assert shown.of("shop") == pytest.approx(1.0)
    assert shown.of("talk") == 0.0


def test_five_seconds_that_are_sent_at_once_are_not_taken_for_one():
    shown = ShownWorkers()
    spans(shown, *(row(1_000 + at / 2, 400) for at in range(10)))
    assert shown.of("shop") == pytest.approx(0.8)


def test_a_call_that_took_a_minute_was_busy_with_one_worker():
    shown = ShownWorkers()
    spans(shown, row(1_000.5, 60_000), row(1_000.6, 60_000))
    assert shown.of("shop") == pytest.approx(2.0)


def test_senders_whose_clocks_are_years_apart_do_not_mix():
    shown = ShownWorkers()
    spans(shown, *(row(10.0 + at, 400, "i-1") for at in range(5)),
          *(row(3e9 + at, 300, "i-2") for at in range(5)))  # fmt: skip
    assert shown.of("shop") == pytest.approx(0.4)


def test_reports_show_processors_backends_and_requests_that_run():
    shown = ShownWorkers()
    for number in range(5):
        shown.report(
            report(
                Pair("u", "POST /p", cpu_us=150_000, calls=1),
                backend_us=[(0, "redis", 250_000)],
                at_ns=7 * S + number * S // 5,
            ),
            0.0,
        )
    assert shown.of("shop") == pytest.approx(2.0)
    busy = Pair("u", "POST /p")
    shown.report(report(busy, open_calls=[(0, 6)], process=ProcessState(running=5)), 0.0)
    assert shown.of("shop") == 5.0
    shown.report(report(busy, process=ProcessState(running=4_096)), 0.0)
    assert shown.of("shop") == 5.0


def test_what_was_shown_is_believed_for_hours_and_then_forgotten():
    shown = ShownWorkers()
    spans(shown, row(1.5, 900), now_s=0.0)
    spans(shown, row(2.5, 100), now_s=GENERATION_S)
    assert shown.of("shop") == pytest.approx(0.9)
    spans(shown, row(3.5, 100), now_s=2 * GENERATION_S)
    assert shown.of("shop") == pytest.approx(0.1)
