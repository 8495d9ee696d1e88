"""The tables that work is kept in: columns of float64, one entry a row."""

from typing import Final, NamedTuple, TypeVar

import numpy as np

from heatshield_collector.detect.harm.recent import Floats

__all__ = ["Computing", "Costs", "Lags", "Operations", "Requests", "joined", "select", "slow_of"]

SLOW_TIMES: Final = 2.0
SLOW_MORE_US: Final = 10_000.0
"""Slow is what takes more than twice the usual 95th percentile, and ten milliseconds more than it.
What is merely measurable harms nobody: without the second a batch that cost others a millisecond
was harm."""


class Requests(NamedTuple):
    """Calls that ended, and those that still run; columns of float64."""

    at_s: Floats
    user: Floats
    call: Floats
    process: Floats
    us: Floats  # how long it took, or has taken by now
    calls: Floats  # that the row stands for
    slow: Floats  # 1: slower than is usual for its call
    judged: Floats  # 1: it is known what is usual
    failed: Floats  # how many of the calls


class Operations(NamedTuple):
    """Operations on backends, on the collector's monotonic time; columns of float64."""

    start_s: Floats
    end_s: Floats  # now, where it still runs
    user: Floats
    call: Floats
    backend: Floats
    request: Floats  # those of one request share a number
    operations: Floats  # that the row stands for
    slow: Floats
    judged: Floats
    running: Floats


class Computing(NamedTuple):
    """Processor time, or, of senders that don't tell, time at work outside of backends."""

    start_s: Floats
    end_s: Floats
    user: Floats
    call: Floats
    process: Floats
    us: Floats
    request: Floats  # those of one request share a number; of a report the number is the pair's
    began: Floats  # requests that began in this stretch
    open: Floats  # requests that are open at its end
    is_cpu: Floats  # 1: measured by the processor's clock; 0: what a span covers by itself


class Costs(NamedTuple):
    """What calls were about; columns of float64."""

    user: Floats
    call: Floats
    elements: Floats
    calls: Floats


class Lags(NamedTuple):
    """How late event loops were, a row a report; columns of float64."""

    at_s: Floats
    process: Floats
    seconds: Floats  # that the report is about
    slow: Floats  # 1: far later than is usual for the process


Table = TypeVar("Table", Requests, Operations, Computing, Lags)


def select(rows: Table, which: np.ndarray) -> Table:
    """The rows at ``which``, bool[n]."""
    return type(rows)(*(column[which] for column in rows))


def joined(first: Table, second: Table) -> Table:
    """The rows of both."""
    return type(first)(*map(np.concatenate, zip(first, second, strict=True)))


def slow_of(p95_us: Floats, numbers: Floats, us: Floats) -> tuple[Floats, Floats]:
    """Which durations are slow, and of which it is known what is usual; 0 or 1 each.

    Args:
        p95_us: usual 95th percentiles by number, microseconds; infinite where not known.
        numbers: of what each duration is.
        us: the durations.
    """
    at = numbers.astype(np.int64)
    usual = np.where(at < len(p95_us), p95_us[np.minimum(at, len(p95_us) - 1)], np.inf)
    limit = np.maximum(SLOW_TIMES * usual, usual + SLOW_MORE_US)
    return (us > limit).astype(np.float64), np.isfinite(usual).astype(np.float64)
