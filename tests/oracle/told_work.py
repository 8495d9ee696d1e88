"""The same work as its process tells it: by spans when it has ended, or by reports while it runs.

A call computes, then waits for Redis, then has ended; so all its time is busy, and what spans and
reports say of it must come to the same.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from report_bodies import START_NS
from span_rows import CLIENT, MS, span

from heatshield.charge_report import BackendTime, ChargeReport, DurationCount, Pair, ProcessState

REPORT_MS: Final = 200
REDIS: Final = "redis cart:6379"


@dataclass(frozen=True)
class Call:
    """A call that computes for ``cpu_ms`` from ``start_ms`` on, then is in Redis for some time.

    Attributes:
        number: of its spans and its trace.
        elements: of Redis, once it has ended.
    """

    number: int
    user: str | None
    start_ms: int
    cpu_ms: int
    redis_ms: int = 0
    elements: int = 0
    name: str = "POST /p"

    @property
    def redis_at_ms(self) -> int:
        return self.start_ms + self.cpu_ms

    @property
    def end_ms(self) -> int:
        return self.redis_at_ms + self.redis_ms


def spans_of(call: Call, service: str = "shop", instance: str = "i-1") -> list[dict[str, Any]]:
    """The call's spans, which are there once it has ended."""
    common = {"service": service, "instance": instance, "call": call.name, "user": call.user}
    first = 2 * call.number + 1
    server = span(
        first, trace=call.number + 1, name=call.name, start_ns=START_NS + call.start_ms * MS,
        duration_ns=(call.end_ms - call.start_ms) * MS, **common,
    )  # fmt: skip
    if not call.redis_ms:
        return [server]
    client = span(
        first + 1, trace=call.number + 1, parent=first, name="SADD", kind=CLIENT,
        backend="redis", address="cart:6379", elements=call.elements,
        start_ns=START_NS + call.redis_at_ms * MS, duration_ns=call.redis_ms * MS, **common,
    )  # fmt: skip
    return [client, server]


def reports_of(
    calls: Sequence[Call], until_ms: int, service: str = "shop", instance: str = "i-1",
    begin_ms: int = 0, first: int = 1,
) -> Iterator[ChargeReport]:  # fmt: skip
    """What the process reports every 200 ms."""
    for number, at_ms in enumerate(range(begin_ms, until_ms, REPORT_MS), first):
        yield _report(calls, number, at_ms, at_ms + REPORT_MS, service, instance)


def _report(
    calls: Sequence[Call], number: int, begin_ms: int, end_ms: int, service: str, instance: str
) -> ChargeReport:
    def within(start_ms: int, stop_ms: int) -> int:
        return max(0, min(stop_ms, end_ms) - max(start_ms, begin_ms))

    costs: dict[tuple[str | None, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for call in calls:
        if call.start_ms >= end_ms or call.end_ms <= begin_ms:
            continue
        of = costs[call.user, call.name]
        of["cpu"] += within(call.start_ms, call.redis_at_ms) * 1_000
        of["redis"] += within(call.redis_at_ms, call.end_ms) * 1_000
        of["begun"] += begin_ms <= call.start_ms
        has_ended = call.end_ms <= end_ms
        of["ended"] += has_ended
        of["open"] += not has_ended
        of["elements"] += call.elements if has_ended else 0
    rows = list(enumerate(costs.items()))
    return ChargeReport(
        service,
        instance,
        number,
        START_NS + end_ms * MS,
        (end_ms - begin_ms) / 1e3,
        ProcessState(running=sum(of["open"] for of in costs.values())),
        [
            Pair(user, name, of["cpu"], elements=of["elements"], calls=of["begun"])
            for _, ((user, name), of) in rows
        ],
        [BackendTime(at, REDIS, of["redis"], of["ended"]) for at, (_, of) in rows if of["redis"]],
        durations=[
            DurationCount(at, 40, of[kind], open=kind == "open")
            for at, (_, of) in rows
            for kind in ("ended", "open")
            if of[kind]
        ],
    )


def truth(calls: Sequence[Call]) -> dict[tuple[str | None, str, str], float]:
    """What each (user, call, cost) comes to, in seconds and pieces; no zeros."""
    sums: dict[tuple[str | None, str, str], float] = defaultdict(float)
    for call in calls:
        sums[call.user, call.name, "busy"] += (call.end_ms - call.start_ms) / 1e3
        sums[call.user, call.name, "cpu"] += call.cpu_ms / 1e3
        sums[call.user, call.name, "backend"] += call.redis_ms / 1e3
        sums[call.user, call.name, "calls"] += 1
        sums[call.user, call.name, "elements"] += call.elements
    return {key: round(cost, 6) for key, cost in sums.items() if cost}
