"""What instrumentation adds to a FastAPI request: heatshield beside others, in one run.

Five processes of the same service (``variant.py``): bare, with ``heatshield.instrument``, with
stock OpenTelemetry (FastAPI and Redis instrumentations, batch processor, OTLP/HTTP), with Sentry's
SDK (tracing at 100 %) and with Logfire, each as its documentation has it. All export what they
make, to one real collector or, for Sentry, to a sink; Redis is a real server. Rounds of requests
are interleaved, one process at a time, so that what the machine does besides hits all alike. Added
time is the variant's quantile less the bare one's. CPU time is that of the whole process, so what
background threads do to encode and send is in it; all flush after each round.

heatshield's variant does more than the stock one: it names the user from a header, puts user and
call on every span, counts Redis elements, exports the log record, keeps RED metrics and asks the
breaker table. The stock one makes two more spans a request, for the messages that are sent.

Beside that: what a span costs the export thread, what ``import heatshield`` takes, and what the
breaker check costs a request.
"""

import json
import subprocess
import sys
import threading
import timeit
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

import redis

import figures
from collector_process import HOST, RealCollector, clean_environment
from figures import Report, Target, quantile
from heatshield.breakers.gate import Gate
from heatshield.breakers.lease_table import BreakerTable
from heatshield.clock import SystemClock
from heatshield.contract import (
    BreakerEntry,
    DeclaredLimit,
    PlatformMode,
    Snapshot,
    StateVersion,
)
from heatshield.declared_limit import LimitPer, LimitUnit
from heatshield_stickershop.processes import free_port
from heatshield_stickershop.redis_server import redis_server_path
from variant import KEY, OWNED, PATHS, VARIANTS, Round

__all__ = ["Sink", "Variant", "interleave", "run", "start_redis"]

ALLOW: Final = Target("at most", 1.0)
LIMITED: Final = Target("at most", 5.0)
"""Where limits are declared, each call is counted under a lock."""

ROUNDS: Final = 40
QUICK_ROUNDS: Final = 5
WARM_ROUNDS: Final = 2
REQUESTS: Final = 200
"""Requests a round: their spans fit into every queue, so nothing is dropped."""

SHARE: Final = 0.4
"""Of what stock OpenTelemetry adds, heatshield may add so much at the median."""

RECORDS: Final = 3
"""A whole request's records: a server span, a Redis span, a log record."""

EXPORT: Final = Target("at most", 10.0)
IMPORT: Final = Target("at most", 150.0)

IMPORTS: Final = 9
CHECKS: Final = 100_000
ENTRIES: Final = 100
"""As many as the collector may grant."""


@dataclass(slots=True)
class Variant:
    """One process, with what its rounds took by path."""

    name: str
    child: subprocess.Popen[str]
    rounds: dict[str, list[Round]] = field(default_factory=dict)

    @classmethod
    def start(cls, name: str, collector: str, sink: str, redis_url: str) -> Self:
        """Start the process."""
        program = str(Path(__file__).with_name("variant.py"))
        child = subprocess.Popen(
            [sys.executable, program, name, collector, sink, redis_url],
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return cls(name, child)

    def round(self, path: str) -> Round:
        """Have it send itself requests."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(f"{path} {REQUESTS}\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise ChildProcessError(f"the variant {self.name} ended")
        return Round(**json.loads(line))

    def latency_us(self, kind: str, q: float) -> float:
        """A quantile over all requests of a path."""
        return quantile([us for one in self.rounds[kind] for us in one.latencies_us], q)

    def of_rounds(self, kind: str, figure: str) -> float:
        """The median over rounds of a figure of :class:`Round`."""
        return quantile([getattr(one, figure) for one in self.rounds[kind]], 0.5)


def run(*, quick: bool = False) -> Report:
    """Measure."""
    report = Report("instrumentation", "what instrumentation adds to a FastAPI request")
    with RealCollector() as collector, Sink() as sink:
        redis_url = start_redis(collector)
        variants = [Variant.start(name, collector.url, sink.url, redis_url) for name in VARIANTS]
        try:
            interleave(variants, QUICK_ROUNDS if quick else ROUNDS)
        finally:
            for variant in variants:
                variant.child.kill()
                variant.child.communicate()
    for kind in PATHS:
        _added(report, kind, variants)
    _import_times(report)
    _breaker_check(report)
    _limit_check(report)
    report.notes.append(
        f"{QUICK_ROUNDS if quick else ROUNDS} rounds of {REQUESTS} requests for each variant and "
        f"path; plain: a route that does nothing; whole: one Redis command and one log record."
    )
    return report


def interleave(variants: list[Variant], rounds: int) -> None:
    """Have the variants take turns."""
    for number in range(WARM_ROUNDS + rounds):
        first = number % len(variants)
        for variant in variants[first:] + variants[:first]:
            for kind, path in PATHS.items():
                found = variant.round(path)
                if number >= WARM_ROUNDS:
                    variant.rounds.setdefault(kind, []).append(found)


def _added(report: Report, kind: str, variants: list[Variant]) -> None:
    bare, ours, stock = variants[:3]
    report.add(f"{kind}: a bare request, p50", bare.latency_us(kind, 0.5), "µs")
    for label, q in (("p50", 0.5), ("p99", 0.99)):
        for one in variants[1:]:
            added = one.latency_us(kind, q) - bare.latency_us(kind, q)
            target = None
            if one is ours and q == 0.5:
                allowed = SHARE * (stock.latency_us(kind, q) - bare.latency_us(kind, q))
                target = Target("at most", allowed)
            report.add(f"{kind}: {one.name} adds, {label}", added, "µs", target)
    for one in variants:
        seconds = one.of_rounds(kind, "cpu_us") * 100_000 / 1e6
        report.add(f"{kind}: {one.name}, CPU of 100,000 requests with export", seconds, "s")
    for one in variants:
        report.add(f"{kind}: {one.name}, memory", one.of_rounds(kind, "rss_mib"), "MiB")
    if kind == "whole":
        export = (ours.of_rounds(kind, "export_cpu_us")) / RECORDS
        report.add("heatshield's export, CPU a record", export, "µs", EXPORT)


class Sink:
    """Answers 200 to whatever is posted: where Sentry's envelopes go."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def start_redis(collector: RealCollector) -> str:
    """Start a real Redis with what the service asks for; its address."""
    port = free_port()
    command = [redis_server_path(), "--port", str(port), "--bind", HOST, "--save", ""]
    child = collector.processes.start("redis", command, clean_environment())
    url = f"redis://{HOST}:{port}/0"

    def ready() -> bool:
        try:
            with redis.Redis.from_url(url) as client:
                client.sadd(KEY, *range(OWNED))
                return True
        except redis.exceptions.RedisError:
            return False

    collector.processes.wait_ready(child, ready)
    return url


def _import_times(report: Report) -> None:
    for what, statement in (
        ("import heatshield", "import heatshield"),
        ("import and instrument()", "import heatshield; heatshield.instrument(service='s')"),
        ("import fastapi, to compare", "import fastapi"),
    ):
        program = (
            f"import time; began = time.perf_counter(); {statement}; "
            "print(time.perf_counter() - began)"
        )
        seconds = [_printed(program) for _ in range(IMPORTS)]
        target = IMPORT if what == "import heatshield" else None
        report.add(what, quantile(seconds, 0.5) * 1e3, "ms", target)


def _printed(program: str) -> float:
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(found.stdout)


def _breaker_check(report: Report) -> None:
    """The question that every request asks, when nothing is tripped for its user."""
    table = BreakerTable("shop", "default", enforce=True)
    now = SystemClock().monotonic()
    for label, entries in (
        ("nothing is tripped", 0),
        (f"{ENTRIES} others are tripped", ENTRIES),
    ):
        granted = tuple(
            BreakerEntry(
                f"b-{at}", f"hot-{at}", "shop", "POST /purchases", issuer="rule:HarmfulUser"
            )
            for at in range(entries)
        )
        table.apply(Snapshot(StateVersion(1, 1 + entries), PlatformMode.PROTECT, granted), now)
        gate = Gate()
        gate.install(table, SystemClock())
        decide = _us(partial(table.decide, "u-1", "POST /purchases", now))
        report.add(f"breaker table decides, {label}", decide, "µs", ALLOW)
        whole = _us(partial(gate.refusal, "POST /purchases", "u-1"))
        report.add(f"whole breaker check, {label}", whole, "µs", ALLOW)


def _limit_check(report: Report) -> None:
    """The same question where limits are declared: three are about the call, seven are not."""
    limits = [
        DeclaredLimit("per-user", LimitPer.USER, LimitUnit.REQUESTS, 1e9),
        DeclaredLimit("per-call", LimitPer.CALL, LimitUnit.REQUESTS, 1e9, service="shop"),
        DeclaredLimit("busy", LimitPer.USER_CALL, LimitUnit.BUSY, 1e9, call="POST /purchases"),
        *(
            DeclaredLimit(f"other-{at}", LimitPer.USER, LimitUnit.REQUESTS, 1e9, call=f"GET /{at}")
            for at in range(7)
        ),
    ]
    for label, declared in (("one limit counts it", limits[:1]), ("three of ten do", limits)):
        table = BreakerTable("shop")
        now = SystemClock().monotonic()
        at = StateVersion(1, 1)
        table.apply(Snapshot(at, PlatformMode.PROTECT, (), tuple(declared)), now)
        gate = Gate()
        gate.install(table, SystemClock())
        decide = _us(partial(table.decide, "u-1", "POST /purchases", now))
        report.add(f"breaker table decides, {label}", decide, "µs", LIMITED)
        whole = _us(partial(gate.refusal, "POST /purchases", "u-1"))
        report.add(f"whole breaker check, {label}", whole, "µs", LIMITED)


def _us(question: Any) -> float:
    """Microseconds a call, of the best of some tries: others' noise only ever adds."""
    return min(timeit.repeat(question, number=CHECKS, repeat=5)) / CHECKS * 1e6


if __name__ == "__main__":
    figures.main(run)
