"""What this machine does beside the demo, and how hard the hot user must buy on it. No clock here.

Latencies tell the story only where the demo has the machine to itself, and a purchase of 20,000
stickers takes a slow machine several times as long as a quick one. So one run measures first.
"""

import math
import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from heatshield_stickershop.demo.report import HARM, Run, percentile

__all__ = ["NOISY_SHARE", "Processors", "connections_for"]

NOISY_SHARE: Final = 0.15
"""Share of the processors that other work may take before latencies are no verdict any more."""

MARGIN: Final = 2.0
"""The hot user is made to harm others this many times as much as is expected of the run: latencies
differ from one run to the next."""

FEWEST_CONNECTIONS: Final = 4
MOST_CONNECTIONS: Final = 32

_STAT: Final = Path("/proc/stat")
_IDLE_FIELDS: Final = (3, 4)
"""Idle, and idle while waiting for a disk, of the fields of ``cpu`` (proc(5))."""
_COUNTED_TWICE: Final = 8
"""Fields from here on are guests' time, which is in those before, too."""


def connections_for(measured: Run) -> int:
    """How many connections the hot user needs to harm others as much as the story tells.

    On each of them a purchase follows the last one, and they wait for each other in the shop, so
    others wait about as long as that many purchases take.

    Args:
        measured: a run in which the hot user bought on one connection.
    """
    calm_ms = percentile((sent.latency_ms for sent in measured.before), 0.99)
    bought = [sent.latency_ms for sent in measured.sent if sent.hot and not sent.failed]
    purchase_ms = percentile(bought, 0.5)
    if not calm_ms or not purchase_ms:
        return FEWEST_CONNECTIONS
    wanted = math.ceil(MARGIN * HARM * calm_ms / purchase_ms)
    return max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, wanted))


@dataclass(frozen=True, slots=True)
class Processors:
    """Processor seconds so far: of the whole machine, other guests included, and of this demo.

    Attributes:
        all_s: that there were.
        spent_s: not idle.
        ours_s: of this process and of its children that have ended.
    """

    all_s: float
    spent_s: float
    ours_s: float

    @classmethod
    def now(cls) -> Self | None:
        """Read them; ``None`` where the system does not tell."""
        try:
            line = _STAT.read_text(encoding="ascii").splitlines()[0]
        except OSError:
            return None
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        ours_s = sum(one.ru_utime + one.ru_stime for one in used)
        return cls.of(map(int, line.split()[1:]), os.sysconf("SC_CLK_TCK"), ours_s)

    @classmethod
    def of(cls, ticks: Iterable[int], ticks_per_s: int, ours_s: float) -> Self:
        """From the fields of ``cpu`` in ``/proc/stat``."""
        fields = list(ticks)[:_COUNTED_TWICE]
        idle = sum(fields[place] for place in _IDLE_FIELDS)
        return cls(sum(fields) / ticks_per_s, (sum(fields) - idle) / ticks_per_s, ours_s)

    def share_of_others(self, before: Self) -> float:
        """The share of all processor time since then that neither this demo nor idling took."""
        all_s = self.all_s - before.all_s
        others_s = self.spent_s - before.spent_s - (self.ours_s - before.ours_s)
        return max(0.0, others_s / all_s) if all_s > 0 else 0.0
