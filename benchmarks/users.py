"""Memory does not grow with the number of users.

Linker and detector are fed in a process of their own with requests of 10,000 users, then with
requests of 1 million different users, then of 3 million, and its resident memory is read after
each. The traffic is the same throughout (a server span and a Redis span a request, 10,000 requests
a second by the clock that they are handed in with), so what grows between the phases grows with
the users. The first phase is long enough for every window, generation and filter to be as full as
it gets.
"""

import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

import figures
from figures import Report, Target
from heatshield.clock import Instant
from heatshield_collector.detect import Detection
from heatshield_collector.link import Linker
from heatshield_collector.model import SPANS

__all__ = ["run"]

REQUESTS_PER_S: Final = 10_000
BATCH: Final = 10_000
CAPACITY: Final = 100.0
USUAL_USERS: Final = 10_000
USUAL_REQUESTS: Final = 3_200_000
"""320 s of traffic: five minutes of windows, and the horizon of what was seen."""

PHASES: Final = (1_000_000, 3_000_000)
QUICK_FACTOR: Final = 10

FLAT: Final = Target("at most", 10)
"""Growth in percent that counts as flat: 10,000 users fill fewer slots of the short windows'
sketches than a million do, and the allocator has its moods. After that nothing should grow."""

_MIB: Final = 2**20
_NS: Final = 10**9


class _Traffic:
    """Batches of requests, with the time going on as they come.

    Args:
        requests_per_s: by the clock that the requests are handed in with.
    """

    def __init__(self, requests_per_s: float) -> None:
        self._random = np.random.default_rng(3)
        self._linker = Linker()
        self._detection = Detection(lambda _: CAPACITY)
        self._batch_s = BATCH / requests_per_s
        self._now_s = 1_000.0
        self._same = _same_for_all()

    def feed(self, first_user: int, users: int, requests: int) -> None:
        """Send requests of ``users`` different users in turn."""
        for start in range(0, requests, BATCH):
            numbers = first_user + np.arange(start, start + BATCH) % users
            self._now_s += self._batch_s
            now_ns = round(self._now_s * _NS) + 1_700_000_000 * _NS
            instant = Instant(self._now_s, now_ns)
            linked = self._linker.link(self._spans(numbers, now_ns), instant)
            self._detection.observe(linked, instant)
            self._detection.evaluate(instant)

    def _spans(self, numbers: Any, now_ns: int) -> pa.Table:
        """``model.SPANS``: for each user number a Redis span, then the server span around it."""
        both = np.repeat(np.arange(BATCH), 2)
        traces = pa.py_buffer(self._random.bytes(BATCH * 16))
        ids = pa.Array.from_buffers(pa.binary(16), BATCH, [None, traces]).cast(pa.binary())
        texts = pa.array(numbers).cast(pa.string())
        users = pc.binary_join_element_wise(pa.scalar("user"), texts, pa.scalar("-"))
        made = {
            "trace_id": ids.take(pa.array(both)),
            "user": users.take(pa.array(both)),
            "start_ns": pa.array(now_ns - self._same["duration_ns"].to_numpy()),
            "received_ns": pa.array(np.full(2 * BATCH, now_ns)),
        }
        columns = self._same | made
        return pa.table([columns[name] for name in SPANS.names], schema=SPANS)


def _same_for_all() -> dict[str, pa.Array]:
    """The columns of a batch that are the same for every batch."""
    columns: dict[str, list[Any]] = {
        "span_id": [b"redis-id", b"serverid"],
        "parent_span_id": [b"serverid", b""],
        "service": ["shop", "shop"],
        "instance": ["instance-1", "instance-1"],
        "name": ["SADD", "POST /purchases"],
        "kind": [3, 2],
        "duration_ns": [300_000, 900_000],
        "call": ["POST /purchases", "POST /purchases"],
        "backend": ["redis", None],
    }
    nothing = {field.name: 0 if pa.types.is_integer(field.type) else None for field in SPANS}
    return {
        field.name: pa.array(columns.get(field.name, [nothing[field.name]] * 2) * BATCH, field.type)
        for field in SPANS
    }


def _rss_mib() -> float:
    gc.collect()
    pa.default_memory_pool().release_unused()
    return float(psutil.Process().memory_info().rss) / _MIB


def _measure(quick: bool) -> dict[str, Any]:  # noqa: FBT001 - from the command line
    """In the child: memory at the start and after each phase, by its number of users."""
    less = QUICK_FACTOR if quick else 1
    traffic = _Traffic(REQUESTS_PER_S / less)
    found: dict[str, Any] = {"started": _rss_mib()}
    traffic.feed(0, USUAL_USERS, USUAL_REQUESTS // less)
    rss = {USUAL_USERS: _rss_mib()}
    first = USUAL_USERS
    for users in (phase // less for phase in PHASES):
        traffic.feed(first, users, users)
        rss[users] = _rss_mib()
        first += users
    found["rss"] = rss
    found["cpu_s"] = time.process_time()
    return found


def run(*, quick: bool = False) -> Report:
    """Measure in a fresh process, whose memory no other code has touched."""
    command = [sys.executable, str(Path(__file__)), "--child", *(["--quick"] if quick else [])]
    child = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(child.stdout)
    report = Report("users", "memory of linker and detector against the number of users")
    report.add("RSS at the start", found["started"], "MiB")
    rss = {int(users): mib for users, mib in found["rss"].items()}
    usual, *further = rss.items()
    report.add(f"RSS after {usual[0]:,} users", usual[1], "MiB")
    for users, mib in further:
        report.add(f"RSS after {users:,} further users", mib, "MiB")
    report.add(
        f"growth with {further[0][0]:,} users", (further[0][1] / usual[1] - 1) * 100, "%", FLAT
    )
    per_user = (further[-1][1] - further[0][1]) * _MIB / further[-1][0]
    report.add("growth after that, a user", per_user, "bytes")
    report.notes.append(
        f"{USUAL_REQUESTS // (QUICK_FACTOR if quick else 1):,} requests of the usual users first; "
        f"then one request of each further user. {found['cpu_s']:.0f} s of processor time in all."
    )
    return report


if __name__ == "__main__":
    if "--child" in sys.argv:
        print(json.dumps(_measure("--quick" in sys.argv)))
    else:
        figures.main(run)
