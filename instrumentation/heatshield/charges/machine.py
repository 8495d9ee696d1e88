"""What this process may use of the machine, and what it uses."""

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from heatshield.charge_report import ProcessState
from heatshield.charges.meter import Meter

__all__ = ["ProcessReadings", "processors"]

_CGROUP_2: Final = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_1: Final = (
    Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


@cache
def processors() -> float:
    """Processors that this process may use at once: its affinity, and its control group's limit."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0)
    count = count or float(os.cpu_count() or 1)
    limit = _cgroup_limit()
    return min(count, limit) if limit else count


def _cgroup_limit() -> float:
    """Of the control group that the process is in, as containers see it; 0: none."""
    try:
        if _CGROUP_2.exists():
            quota, period = _CGROUP_2.read_text(encoding="ascii").split()
        else:
            quota, period = (path.read_text(encoding="ascii").strip() for path in _CGROUP_1)
        return int(quota) / int(period) if quota.isdigit() else 0.0
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0


class ProcessReadings:
    """Reads how this process is, for each report.

    Args:
        meter: knows which requests are open.
        workers: requests that the process can run at once.
        lag_s: the longest that an event loop was late since this was asked last, seconds.
        queued: requests that wait for a thread now.
    """

    def __init__(
        self, meter: Meter, workers: int, lag_s: Callable[[], float], queued: Callable[[], int]
    ) -> None:
        self._meter, self._workers = meter, workers
        self._lag_s, self._queued = lag_s, queued
        self._seen_ns = time.process_time_ns()

    def read(self) -> ProcessState:
        """The state now; processor time and lag since the last one."""
        now_ns = time.process_time_ns()
        spent_ns, self._seen_ns = now_ns - self._seen_ns, now_ns
        return ProcessState(
            cpu_us=max(0, spent_ns) // 1_000,  # a child process begins with less
            processors=processors(),
            workers=self._workers,
            running=sum(not one.call for one in list(self._meter.calls.values())),
            queued=self._queued(),
            loop_lag_us=int(self._lag_s() * 1e6),
        )
