"""What a span costs at each station of the collector, measured in this process on one thread.

The stations are called one after the other on the same batches, as the commit loop calls them:
decode (of which ptars' parsing, and protobuf's own before it, which guards ptars), link, observe
(the user loads), rates and durations, and the store's transaction. Figures are processor time of
all threads of this process, which other processes on the machine disturb least; for the store the
wall time is given, too, because it waits for the disk. In the collector decoding and storing run on
two threads that now and then wait for each other; that is in what ``ingest`` measures.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import figures
from figures import Report, quantile
from heatshield.clock import Instant
from heatshield_collector.decode import decode_traces, records
from heatshield_collector.detect import Detection, Durations
from heatshield_collector.link import Linked, Linker
from heatshield_collector.red import CallMetrics, groups_of
from heatshield_collector.store import DuckDBStore
from payloads import SPANS_PER_REQUEST, Template, zipf_users

__all__ = ["measure", "run"]

GROUP_PAYLOADS: Final = 24
"""Payloads of 512 spans in a group of the commit loop, which is usual with 160 senders."""
GROUPS: Final = 24
QUICK_GROUPS: Final = 6

SMALL_REQUESTS: Final = 1
"""An idle platform's batch: the eight spans of one request."""
SMALL_GROUPS: Final = 100

CAPACITY: Final = 8.0
"""Workers of each service of the load."""


class _Stations:
    """The stations of one collector.

    Attributes:
        cpu_s: processor seconds that each has taken for each batch.
        wall_s: seconds of wall time.
    """

    def __init__(self, folder: Path) -> None:
        self.cpu_s: dict[str, list[float]] = {}
        self.wall_s: dict[str, list[float]] = {}
        self._linker = Linker()
        self._detection = Detection(lambda _: CAPACITY)
        self._calls = CallMetrics()
        self._durations = Durations()
        self._store = DuckDBStore(folder)

    def take(self, payloads: list[bytes]) -> None:
        """Put a batch through all stations."""
        instant = Instant(time.monotonic(), time.time_ns())
        request = ExportTraceServiceRequest
        self._time("protobuf", lambda: [request.FromString(one) for one in payloads])
        handler = records._handler(request.DESCRIPTOR)
        self._time("ptars", lambda: handler.list_to_record_batch(payloads))
        decoded = self._time("decode", lambda: decode_traces(payloads, instant.epoch_ns))
        spans = decoded.table
        linked = self._time("link", lambda: self._linked(spans, instant))
        self._time("observe", lambda: self._detection.observe(linked, instant))
        groups = self._time("red", lambda: groups_of(spans, linked.opens, linked.errors))
        self._time("totals", lambda: self._calls.observe_calls(groups))
        opened = np.flatnonzero(linked.opens)
        self._time("durations", lambda: self._durations.observe(spans, opened, instant))
        tables = {"spans": spans, "request_parts": linked.parts, "resources": decoded.resources}
        self._time("store", lambda: self._store.append(tables))

    def _linked(self, spans: pa.Table, instant: Instant) -> Linked:
        """Link a batch, with the rows that are stored of it."""
        linked = self._linker.link(spans, instant)
        assert linked.parts.num_rows
        return linked

    def _time(self, name: str, step: Callable[[], Any]) -> Any:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        made = step()
        self.cpu_s.setdefault(name, []).append(time.process_time() - cpu_s)
        self.wall_s.setdefault(name, []).append(time.perf_counter() - wall_s)
        return made

    def median_s(self, *names: str) -> float:
        """Median processor seconds a batch took at these stations together."""
        return sum(quantile(self.cpu_s[name], 0.5) for name in names)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


_REST: Final = ("red", "totals", "durations")


def measure(report: Report, *, quick: bool) -> None:
    """Add the stations' figures to a report."""
    users = zipf_users(seed=2)
    templates = [Template(number, users) for number in range(GROUP_PAYLOADS)]
    spans = sum(template.spans for template in templates)
    groups = QUICK_GROUPS if quick else GROUPS
    large = _put_through(templates, groups)
    _per_span(report, large, spans)
    small = _put_through([Template(0, users, SMALL_REQUESTS)], SMALL_GROUPS)
    _per_batch(report, small)
    report.notes.append(
        f"Stations: medians of {groups} batches of {spans:,} spans, one after the other, and of "
        f"{SMALL_GROUPS} batches of {SPANS_PER_REQUEST}; processor time of all threads."
    )


def _per_span(report: Report, large: _Stations, spans: int) -> None:
    parsing_s = large.median_s("protobuf", "ptars")
    figures_s = {
        "decode: protobuf's check": large.median_s("protobuf"),
        "decode: ptars' parsing": large.median_s("ptars"),
        "decode: flattening": large.median_s("decode") - parsing_s,
        "link": large.median_s("link"),
        "observe": large.median_s("observe"),
        "rates and durations": large.median_s(*_REST),
        "store": large.median_s("store"),
        "all": large.median_s("decode", "link", "observe", "store", *_REST),
        "store, wall time": quantile(large.wall_s["store"], 0.5),
    }
    for name, seconds in figures_s.items():
        report.add(f"station {name}", seconds / spans * 1e6, "µs/span")


def _per_batch(report: Report, small: _Stations) -> None:
    for name in ("decode", "link", "observe", "store"):
        report.add(f"a batch of {SPANS_PER_REQUEST}: {name}", small.median_s(name) * 1e3, "ms")
    rest_s = small.median_s(*_REST)
    report.add(f"a batch of {SPANS_PER_REQUEST}: rates and durations", rest_s * 1e3, "ms")
    whole_s = small.median_s("decode", "link", "observe", "store", *_REST)
    report.add(f"a batch of {SPANS_PER_REQUEST}: all", whole_s * 1e3, "ms")


def _put_through(templates: list[Template], groups: int) -> _Stations:
    with tempfile.TemporaryDirectory(prefix="heatshield-bench-") as folder:
        stations = _Stations(Path(folder))
        for _ in range(groups):
            stations.take([template.payload() for template in templates])
        stations.close()
    return stations


def run(*, quick: bool = False) -> Report:
    """Measure the stations alone."""
    report = Report("stations", "µs a span at each station of the collector")
    measure(report, quick=quick)
    return report


if __name__ == "__main__":
    figures.main(run)
