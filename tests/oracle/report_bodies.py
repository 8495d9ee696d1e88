"""Charge reports as processes send them."""

import json
from collections.abc import Sequence

from heatshield.charge_report import (
    BackendTime,
    ChargeReport,
    DurationCount,
    Pair,
    ProcessState,
    bucket_of,
)

START_NS = 1_700_000_000_000_000_000


def report(
    *pairs: Pair,
    number: int = 1,
    at_ns: int = START_NS,
    seconds: float = 0.2,
    backend_us: Sequence[tuple[int, str, int]] = (),
    open_calls: Sequence[tuple[int, int]] = (),
    process: ProcessState | None = None,
    service: str = "shop",
    instance: str = "i-1",
) -> ChargeReport:
    """A report.

    Args:
        backend_us: (place of the pair, backend, microseconds).
        open_calls: (place of the pair, calls that still run).
    """
    ended = [
        DurationCount(at, bucket_of(pair.cpu_us), pair.calls)
        for at, pair in enumerate(pairs)
        if pair.calls
    ]
    return ChargeReport(
        service,
        instance,
        number,
        at_ns,
        seconds,
        process or ProcessState(),
        list(pairs),
        [BackendTime(at, backend, us, 1) for at, backend, us in backend_us],
        backend_durations=[],
        durations=[*ended, *(DurationCount(at, 40, calls, open=True) for at, calls in open_calls)],
        operations=[],
    )


def body(one: ChargeReport) -> bytes:
    """As it travels."""
    return json.dumps(one.to_json()).encode()
