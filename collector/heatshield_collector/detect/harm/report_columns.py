"""Charge reports as numbers: their pairs, durations and operations, of all that came together."""

from collections.abc import Sequence
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt

from heatshield.call_key import SEPARATOR
from heatshield.charge_report import MAX_BUCKET, bucket_us
from heatshield.clock import Instant
from heatshield.json_columns import transposed
from heatshield_collector.detect.harm.ids import NOBODY, REST_USERS, Ids, Numbers
from heatshield_collector.detect.harm.recent import Floats
from heatshield_collector.detect.harm.sender_clocks import SenderClocks
from heatshield_collector.link.reported import Reported, Rows

__all__ = ["ReportColumns"]

Integers = npt.NDArray[np.int64]

BUCKETS_US: Final = np.array([bucket_us(bucket) for bucket in range(MAX_BUCKET + 1)])

LEAST_S: Final = 1e-3
"""Of a report's length: some are sent at once after another."""


class ReportColumns:
    """The columns of charge reports that came together.

    Attributes:
        process, at_s, seconds: of each report: the number of its process, when it was made on the
            collector's monotonic time, and how long a time it is about.
        report: int64[n], the place of each pair's report.
        user, call: numbers of each pair.
    """

    def __init__(
        self, numbers: Numbers, reported: Reported, instant: Instant, clocks: SenderClocks
    ) -> None:
        self._backends = numbers.backends
        self._reported = reported
        self.process = [
            numbers.processes.of(f"{report.service}{SEPARATOR}{report.instance}")
            for report, _ in reported.reports
        ]
        told_s = [(report.at_ns - clocks.base_ns(instant)) / 1e9 for report, _ in reported.reports]
        now_s = instant.monotonic_s
        self.at_s = np.array(
            [
                min(now_s, at_s + clocks.offset_s(process, at_s, now_s))
                for process, at_s in zip(self.process, told_s, strict=True)
            ]
        )
        self.seconds = np.array([max(one.seconds, LEAST_S) for one, _ in reported.reports])
        counts = [len(report.pairs) for report, _ in reported.reports]
        self.report = np.repeat(np.arange(len(counts)), counts)
        of_user = numbers.users.of
        self.user = np.array(
            [
                NOBODY if user is None else of_user(user) if user else REST_USERS
                for user in reported.named
            ],
            dtype=np.float64,
        )
        # A call's key is the tenant, the service and the call.
        calls = [numbers.calls.of(key.partition(SEPARATOR)[2]) for key in reported.heads]
        self.call = np.array(calls, dtype=np.float64)[reported.head]

    def durations(self) -> tuple[Integers, Floats, Floats, npt.NDArray[np.bool_]]:
        """Of rows of calls by duration: pair, microseconds, calls, and whether they run."""
        rows = self._reported.durations
        us = BUCKETS_US[_integers(rows, 1)]
        return rows.pair, us, _floats(rows, 2), np.array(rows.column(3), dtype=bool)

    def operations(self) -> tuple[Integers, Integers, Floats, Floats, npt.NDArray[np.bool_]]:
        """Of operations: pair, number of the backend, start, end, and whether they run."""
        rows = self._reported.rows("operations")
        durations = rows.column(3)
        runs = np.array([one is None for one in durations], dtype=bool)
        took_s = np.array([one or 0 for one in durations], dtype=np.float64) / 1e6
        start = self.at_s[self.report[rows.pair]] - _floats(rows, 2) / 1e6
        return rows.pair, self._numbers_of(rows.column(1)), start, start + took_s, runs

    def backends(self) -> tuple[Integers, Integers, Floats]:
        """Of times in backends: pair, number of the backend, operations that ended."""
        rows = self._reported.spent
        return rows.pair, self._numbers_of(rows.column(1)), _floats(rows, 3)

    def backend_durations(self) -> tuple[Integers, Integers, Integers]:
        """Of operations of all users by duration: number of the backend, bucket, operations."""
        tables = [transposed(one.backend_durations, 3) for one, _ in self._reported.reports]
        names, buckets, counts = (
            list(chain.from_iterable([table[at] for table in tables])) for at in range(3)
        )
        return (
            self._numbers_of(names),
            np.array(buckets, dtype=np.int64),
            np.array(counts, dtype=np.int64),
        )

    def _numbers_of(self, names: Sequence[str]) -> Integers:
        return _numbers(names, self._backends)


def _numbers(names: Sequence[str], ids: Ids) -> Integers:
    known = {name: ids.of(name) for name in dict.fromkeys(names)}
    return np.fromiter(map(known.__getitem__, names), np.int64, len(names))


def _integers(rows: Rows, column: int) -> Integers:
    return np.array(rows.column(column), dtype=np.int64)


def _floats(rows: Rows, column: int) -> Floats:
    return np.array(rows.column(column), dtype=np.float64)
