"""Rows of ``link.CHARGES``, and the simulated traffic of a skewed population."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from heatshield_collector.link import CHARGES, Linked


def charge(user: str | None, busy_ms: float, trace: int = 1, **columns: Any) -> dict[str, Any]:
    """One charge of a whole call."""
    row = {
        "trace": trace,
        "user": user,
        "service": "shop",
        "call": "POST /p",
        "backend": None,
        "operation": "POST /p",
        "busy_us": round(busy_ms * 1_000),
        "elements": 0,
        "calls": 1,
        "errors": 0,
        "rows": 0,
        "bytes": 0,
        "key_pattern": None,
        "size": None,
        "eligible": True,
        "transferred": False,
        "trace_id": trace.to_bytes(16, "big"),
        "instance": "i-1",
        "address": None,
        "start_ns": 0,
        "duration_ns": round(busy_ms * 1_000_000),
    }
    return row | columns


def charge_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows], schema=CHARGES)


def linked(rows: Sequence[Mapping[str, Any]]) -> Linked:
    """These charges as detection gets them."""
    return Linked.of_charges(charge_table(rows))


@dataclass
class Traffic:
    """Requests of users whose popularity follows Zipf's law, with a heavy tail of costs.

    Attributes:
        exponent: Zipf's; the greater, the larger the share of the top user.
        users: how many there are.
        rate: requests a second.
        load: busy seconds per second of all of them, in workers.
        spread: sigma of the lognormal costs.
    """

    exponent: float
    seed: int
    users: int = 5_000
    rate: float = 2_000.0
    load: float = 4.8
    spread: float = 1.5
    _traces: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        weights = np.arange(1, self.users + 1, dtype=float) ** -self.exponent
        self._popularity = weights / weights.sum()
        self._names = np.array([f"user-{number}" for number in range(self.users)])

    def during(self, seconds: float, surge: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """(users, busy microseconds) of the requests of a stretch; ``surge`` times the rate."""
        count = self._random.poisson(self.rate * seconds * surge)
        users = self._random.choice(self.users, size=count, p=self._popularity)
        mean_us = self.load / self.rate * 1e6
        location = np.log(mean_us) - self.spread**2 / 2
        return users, self._random.lognormal(location, self.spread, count).astype(np.int64)

    def requests(self, seconds: float, surge: float = 1.0) -> pa.Table:
        """``link.CHARGES``, one row a request."""
        return self._table(*self.during(seconds, surge))

    def past(self, seconds: float) -> Iterator[pa.Table]:
        """``link.CHARGES`` of ten seconds each, summed up by user: enough for a baseline."""
        for _ in range(round(seconds / 10)):
            users, busy_us = self.during(10.0)
            sums = np.bincount(users, weights=busy_us, minlength=self.users).astype(np.int64)
            active = np.flatnonzero(sums)
            yield self._table(active, sums[active])

    def _table(self, users: np.ndarray, busy_us: np.ndarray) -> pa.Table:
        count = len(users)
        traces = np.arange(self._traces, self._traces + count, dtype=np.uint64)
        self._traces += count
        ids = traces.astype(">u8").tobytes()
        return pa.table(
            [
                pa.array(traces),
                pa.array(self._names[users]),
                *(pa.repeat(pa.scalar(text), count) for text in ("shop", "POST /p")),
                pa.nulls(count, pa.string()),
                pa.repeat(pa.scalar("POST /p"), count),
                pa.array(busy_us),
                *(pa.repeat(pa.scalar(number, pa.int64()), count) for number in (0, 1, 0, 0, 0)),
                pa.nulls(count, pa.string()),
                pa.nulls(count, pa.int64()),
                pa.repeat(pa.scalar(True, pa.bool_()), count),
                pa.repeat(pa.scalar(False, pa.bool_()), count),
                pa.array([bytes(8) + ids[at : at + 8] for at in range(0, len(ids), 8)]),
                pa.repeat(pa.scalar("i-1"), count),
                pa.nulls(count, pa.string()),
                pa.repeat(pa.scalar(0, pa.int64()), count),
                pa.array(busy_us * 1_000),
            ],
            schema=CHARGES,
        )
