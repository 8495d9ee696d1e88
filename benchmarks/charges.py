"""What charge reports cost a service: a request, the thread that reports, and the network.

A request: the FastAPI service of the instrumentation benchmark (``variant.py``) with and without
charge reports, rounds interleaved, a real collector and a real Redis.

The thread: a meter that notes 50 and 250 requests a second of 500 users, each with an operation on
Redis, and a thread that reports them to a real collector; its processor time over the time that
went by. The same while nothing happens, and what then goes over the network.
"""

import json
import time
from typing import Final

from opentelemetry.trace import SpanKind

import instrumentation
from collector_process import RealCollector
from figures import Report, Target
from heatshield.charge_report import REPORT_S
from heatshield.charges.machine import ProcessReadings
from heatshield.charges.meter import Meter
from heatshield.charges.reporter import IDLE_S, Reporter
from heatshield.clock import SystemClock
from heatshield.context.request import Request
from heatshield.names import CHARGES_PATH
from heatshield.tracing.span import Span
from heatshield.tracing.span_records import Scope
from variant import PATHS, WITHOUT_CHARGES

__all__ = ["run"]

OF_A_CORE: Final = Target("at most", 0.5)
IDLE: Final = Target("at most", 4.0)

ROUNDS: Final = 40
QUICK_ROUNDS: Final = 5

RATES: Final = (50, 250)
USERS: Final = 500
SECONDS: Final = 20.0
QUICK_SECONDS: Final = 4.0
TICK_S: Final = 0.02
"""Requests come in bursts of five."""

HEAD_BYTES: Final = 260
"""Headers of a report and of its answer, and TCP's and IP's, roughly."""

SCOPE: Final = Scope("heatshield.benchmark")

_REDIS: Final = {"db.system": "redis", "server.address": "cart", "server.port": 6_379}


def run(*, quick: bool = False) -> Report:
    """Measure."""
    report = Report("charges", "what charge reports cost a service")
    with RealCollector() as collector, instrumentation.Sink() as sink:
        redis_url = instrumentation.start_redis(collector)
        _of_requests(report, collector.url, sink.url, redis_url, quick=quick)
        seconds = QUICK_SECONDS if quick else SECONDS
        _of_the_thread(report, collector.url, seconds)
    return report


def _of_requests(report: Report, collector: str, sink: str, redis_url: str, *, quick: bool) -> None:
    names = ("heatshield", WITHOUT_CHARGES)
    variants = [instrumentation.Variant.start(name, collector, sink, redis_url) for name in names]
    try:
        instrumentation.interleave(variants, QUICK_ROUNDS if quick else ROUNDS)
    finally:
        for variant in variants:
            variant.child.kill()
            variant.child.communicate()
    with_them, without = variants
    for kind in PATHS:
        for q in (0.5, 0.95):
            added = with_them.latency_us(kind, q) - without.latency_us(kind, q)
            report.add(f"{kind}: added to a request, p{q * 100:.0f}", added, "µs")
        added = with_them.of_rounds(kind, "cpu_us") - without.of_rounds(kind, "cpu_us")
        report.add(f"{kind}: added processor time a request", added, "µs")


def _of_the_thread(report: Report, collector: str, seconds: float) -> None:
    meter = Meter()
    reporter = Reporter(
        collector,
        meter,
        SystemClock(),
        service="shop",
        instance=lambda: "benchmark",
        perf_ns=time.perf_counter_ns,
        state=ProcessReadings(meter, 1, float, int).read,
    )
    reporter.start()
    try:
        idle = _share(meter, seconds, rate=0)
        report.add("thread that reports, idle", idle, "% of a core", OF_A_CORE)
        for rate in RATES:
            busy = _share(meter, seconds, rate=rate)
            report.add(f"thread that reports, {rate} requests/s", busy, "% of a core", OF_A_CORE)
    finally:
        reporter.stop(2.0)
    report.add("sent while idle", _kilobytes(reporter) / IDLE_S, "kB/s", IDLE)
    meter.is_on = True
    for number in range(round(RATES[-1] * REPORT_S)):
        _serve(meter, number)
    report.add(f"sent at {RATES[-1]} requests/s", _kilobytes(reporter) / REPORT_S, "kB/s")
    report.notes.append(
        f"{USERS} users in turn, one operation on Redis a request; POST {CHARGES_PATH}, bodies and "
        f"some {HEAD_BYTES} bytes of headers each."
    )


def _kilobytes(reporter: Reporter) -> float:
    """Of the next report."""
    body = json.dumps(reporter.gather(REPORT_S).to_json(), separators=(",", ":"))
    return (len(body) + HEAD_BYTES) / 1e3


def _share(meter: Meter, seconds: float, rate: int) -> float:
    """Per cent of a core that other threads than this one use, which are the one that reports."""
    number = 0
    began_s, began_cpu_s = time.monotonic(), time.process_time() - time.thread_time()
    while (gone_s := time.monotonic() - began_s) < seconds:
        while number < rate * gone_s:
            number += 1
            _serve(meter, number)
        time.sleep(TICK_S)
    return 100 * (time.process_time() - time.thread_time() - began_cpu_s) / seconds


def _serve(meter: Meter, number: int) -> None:
    request = Request(user=f"u-{number % USERS}", entered=True)
    server = Span("GET /", number, 0, SpanKind.SERVER, {}, SCOPE, request, "", meter.end)
    meter.begin(server)
    operation = Span("GET", number, 1, SpanKind.CLIENT, dict(_REDIS), SCOPE, request, "", meter.end)
    meter.begin(operation)
    operation.end()
    server.end()
