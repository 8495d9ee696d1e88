"""What this process may use of the machine, and what it uses."""

import os
import time
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["ProcessorClock", "processors"]

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


class ProcessorClock:
    """Processor time of this process between two looks."""

    def __init__(self) -> None:
        self._seen_ns = time.process_time_ns()

    def since_us(self) -> int:
        """Microseconds since the last look."""
        now_ns = time.process_time_ns()
        spent, self._seen_ns = (now_ns - self._seen_ns) // 1_000, now_ns
        return max(0, spent)
