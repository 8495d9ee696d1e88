"""What a span and a reported pair cost from when they are parsed until detection has them.

Spans: link and detect, in groups of 24 payloads of 512 spans, as 160 busy senders make them.
Reports: from a :class:`~heatshield.charge_report.ChargeReport` to detection, in batches of as many
reports as a fleet of 1,000 processes sends while the last batch was counted, each of 64 pairs whose
users follow Zipf's law over a million. Reading a report's JSON is told apart. Processor time of all
threads of this process, which other processes on the machine disturb least; medians.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import orjson

import figures
from figures import Report, Target, quantile
from heatshield.charge_report import (
    MAX_OPERATIONS,
    MAX_PAIRS,
    BackendDurationCount,
    BackendTime,
    ChargeReport,
    DurationCount,
    Operation,
    Pair,
    ProcessState,
)
from heatshield.clock import ManualClock
from heatshield_collector.control import Outlets
from heatshield_collector.core import Core
from heatshield_collector.decode import decode_traces
from heatshield_collector.settings import CollectorSettings
from payloads import Template, zipf_users

__all__ = ["run"]

GROUP_PAYLOADS: Final = 24
GROUPS: Final = 24
QUICK_GROUPS: Final = 6

PROCESSES: Final = 1_000
BATCH_REPORTS: Final = 100
"""Of 1,000 processes at five reports a second come as many in 20 ms, the least time of a batch."""
BATCHES: Final = 60
QUICK_BATCHES: Final = 15

CALLS: Final = ("POST /purchases", "GET /rooms/{id}/members", "GET /users/{user}/stickers")
SERVICES: Final = ("gateway", "talk", "capability", "shop")


class _Nothing:
    def write(self, *_: Any) -> None: ...
    def publish(self, *_: Any) -> None: ...
    def submit(self, *_: Any) -> None: ...
    def keep(self, *_: Any) -> None: ...


def _core(clock: ManualClock) -> Core:
    nothing = _Nothing()
    outlets = Outlets(journal=nothing, events=nothing, notifier=nothing)
    return Core(
        CollectorSettings(), (), epoch=1, outlets=outlets, clock=clock, seed=7, wake=lambda: None
    )


def _timed(step: Callable[[], Any], into: list[float]) -> Any:
    began_s = time.process_time()
    made = step()
    into.append(time.process_time() - began_s)
    return made


def _spans(report: Report, groups: int) -> None:
    users = zipf_users(seed=2)
    templates = [Template(number, users) for number in range(GROUP_PAYLOADS)]
    spans = sum(template.spans for template in templates)
    clock = ManualClock()
    core, taken_s = _core(clock), list[float]()
    for _ in range(groups):
        table = decode_traces([one.payload() for one in templates], clock.time_ns()).table
        _timed(lambda table=table: core.analysis.detect(table, clock.now()), taken_s)
        clock.advance(0.15)
    figure = quantile(taken_s, 0.5) / spans * 1e6
    report.add("a span: link + detect", figure, "µs/span", Target("at most", 2.0))


def _report(process: int, number: int, users: list[int], clock: ManualClock) -> ChargeReport:
    pairs = [
        Pair(
            f"user-{user}",
            CALLS[user % len(CALLS)],
            cpu_us=300 + user % 700,
            wait_us=user % 50,
            elements=user % 5,
            calls=1 + user % 2,
            traces=(f"{user:032x}",),
        )
        for user in dict.fromkeys(users)
    ]
    places = range(len(pairs))
    return ChargeReport(
        SERVICES[process % len(SERVICES)],
        f"i-{process}",
        number,
        clock.time_ns(),
        0.2,
        ProcessState(cpu_us=100_000, processors=2.0, workers=8, running=2),
        pairs,
        [BackendTime(at, "redis cart:6379", 200, 2) for at in places],
        [BackendDurationCount("redis cart:6379", bucket, 9) for bucket in range(28, 36) if pairs],
        [DurationCount(at, 36, pairs[at].calls) for at in places],
        [
            Operation(at % len(pairs), "redis cart:6379", 1_000 * at, 200)
            for at in range(MAX_OPERATIONS if pairs else 0)
        ],
    )


def _reports(report: Report, batches: int) -> None:
    draw = zipf_users(seed=3)
    clock = ManualClock()
    core, taken_s, read_s = _core(clock), list[float](), list[float]()
    pairs = size = made = 0
    for batch in range(batches):
        reports = [
            _report(
                (batch * BATCH_REPORTS + at) % PROCESSES,
                1 + (batch * BATCH_REPORTS + at) // PROCESSES,
                draw(MAX_PAIRS).tolist(),
                clock,
            )
            for at in range(BATCH_REPORTS)
        ]
        texts = [orjson.dumps(one.to_json()) for one in reports]
        read = _timed(
            lambda texts=texts: [ChargeReport.from_json(orjson.loads(one)) for one in texts],
            read_s,
        )
        _timed(lambda read=read: core.analysis.report(read, clock.now()), taken_s)
        pairs += sum(len(one.pairs) for one in reports)
        size += sum(map(len, texts))
        made += len(reports)
        clock.advance(0.02)
    each = pairs / batches
    figure = quantile(taken_s, 0.5) / each * 1e6
    report.add("a reported pair: link + detect", figure, "µs/pair", Target("at most", 1.0))
    report.add("a reported pair: reading JSON", quantile(read_s, 0.5) / each * 1e6, "µs/pair")
    report.notes.append(
        f"Reports of {pairs / made:.0f} pairs and {size / made / 1e3:.1f} kB, "
        f"{BATCH_REPORTS} at once."
    )


def _idle(report: Report, batches: int) -> None:
    """What a process costs that has nothing to report."""
    clock = ManualClock()
    core, taken_s = _core(clock), list[float]()
    for number in range(1, batches + 1):
        texts = [
            orjson.dumps(_report(process, number, [], clock).to_json())
            for process in range(BATCH_REPORTS)
        ]
        _timed(
            lambda texts=texts: core.analysis.report(
                [ChargeReport.from_json(orjson.loads(one)) for one in texts], clock.now()
            ),
            taken_s,
        )
        clock.advance(0.2)
    figure = quantile(taken_s, 0.5) / BATCH_REPORTS * 1e6
    report.add("a report of no pairs: all of it", figure, "µs/report")


def run(*, quick: bool = False) -> Report:
    """Measure both."""
    report = Report("detect", "Processor time of a span and of a reported pair")
    _spans(report, QUICK_GROUPS if quick else GROUPS)
    _reports(report, QUICK_BATCHES if quick else BATCHES)
    _idle(report, QUICK_BATCHES if quick else BATCHES)
    return report


if __name__ == "__main__":
    figures.main(run)
