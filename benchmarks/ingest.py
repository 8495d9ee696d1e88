"""Spans per second that are durable, from raw OTLP over real HTTP, and what a span costs.

A real collector and the load generator run at the same time on the same processors; a span counts
once its payload was answered 200, which the collector does only after the transaction that holds
it is on the disk. Afterwards the collector is stopped and the rows of its store are counted: they
must be exactly what was acknowledged. The run is long enough for the store to fold its write-ahead
log into its file (a checkpoint) several times, each about a second in which no sender is answered.

Two figures are given, because the generator takes processor time from what it measures:

- *beside the generator*: acknowledged spans / wall time. What a sender on this machine sees.
- *generator's CPU outside*: acknowledged spans / (wall - stolen / processors), where ``stolen`` is
  the generator's CPU time less the time the machine was idle: generator time that fitted into
  idle time kept no sender waiting, so it is not taken off. With an idle machine both are the same;
  with a full one the generator's whole time is taken off. This is the one the target is about.
"""

import threading
from pathlib import Path
from typing import Final, Self

import psutil

import figures
import stations
from collector_process import RealCollector, clean_environment
from figures import Report, Target, quantile
from generator import Generator, Sent

__all__ = ["run"]

TARGET: Final = Target("at least", 80_000)

SECONDS: Final = 40.0
"""Some millions of spans; a checkpoint comes with every half a million."""
QUICK_SECONDS: Final = 4.0

CONNECTIONS: Final = 160
"""Instances that send, each with one payload under way: 500 spans/s each make 80,000."""

_SAMPLE_S: Final = 0.1
_MIB: Final = 2**20


class _Watcher(threading.Thread):
    """Looks at the collector while it works: memory and checkpoints."""

    def __init__(self, collector: RealCollector) -> None:
        super().__init__(daemon=True)
        self._process = collector.process
        self._log = Path(f"{collector.store}.wal")
        self._ended = threading.Event()
        self.before_mib = self._process.memory_info().rss / _MIB
        self.most_mib = self.before_mib
        self.checkpoints = 0

    def run(self) -> None:
        size = 0
        while not self._ended.wait(_SAMPLE_S):
            self.most_mib = max(self.most_mib, self._process.memory_info().rss / _MIB)
            now = self._log.stat().st_size if self._log.exists() else 0
            self.checkpoints += now < size
            size = now

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


def run(*, quick: bool = False) -> Report:
    """Measure."""
    report = Report("ingest", "spans durable from raw OTLP over HTTP")
    with RealCollector() as collector:
        with Generator(collector.url, CONNECTIONS, clean_environment()) as generator:
            warm = generator.send(1.0)  # imports, the first row groups, the store's buffers
            idle_s, cpu_s = psutil.cpu_times().idle, collector.cpu_s()
            with _Watcher(collector) as seen:
                sent = generator.send(QUICK_SECONDS if quick else SECONDS)
            cpu_s, idle_s = collector.cpu_s() - cpu_s, psutil.cpu_times().idle - idle_s
        if not sent.spans:
            raise RuntimeError(f"nothing was acknowledged:\n{collector.log_tail()}")
        after_mib = collector.process.memory_info().rss / _MIB
        collector.end()
        stored = collector.stored_spans()
        _throughput(report, sent, cpu_s, idle_s)
        missing = warm.spans + sent.spans - stored
        report.add("acknowledged and not in the store", missing, "spans", Target("at most", 0))
        _memory(report, seen, after_mib)
        report.add("store on disk", collector.store.stat().st_size / stored, "bytes/span")
    stations.measure(report, quick=quick)
    return report


def _throughput(report: Report, sent: Sent, cpu_s: float, idle_s: float) -> None:
    processors = psutil.cpu_count() or 1
    stolen_s = min(sent.cpu_s, max(0.0, sent.cpu_s - idle_s))
    others_s = processors * sent.wall_s - idle_s - cpu_s - sent.cpu_s
    alone = sent.spans / (sent.wall_s - stolen_s / processors)
    report.add("generator's CPU outside", alone, "spans/s", TARGET)
    report.add("beside the generator", sent.spans / sent.wall_s, "spans/s")
    report.add("collector's CPU", cpu_s / sent.spans * 1e6, "µs/span")
    report.add("processors the collector kept busy", cpu_s / sent.wall_s, "")
    report.add("generator's CPU", sent.cpu_s / sent.spans * 1e6, "µs/span")
    report.add("payload until durable, p50", quantile(sent.answers_ms, 0.5), "ms")
    report.add("payload until durable, p99", quantile(sent.answers_ms, 0.99), "ms")
    report.add("payload until durable, max", max(sent.answers_ms), "ms")
    report.notes.append(
        f"{sent.spans:,} spans of {sent.bytes / sent.spans:.0f} bytes in {sent.wall_s:.1f} s over "
        f"{CONNECTIONS} connections, 512 spans a payload; {sent.refused} payloads refused. "
        f"Idle {idle_s:.1f} s, other processes {max(0.0, others_s):.1f} s of "
        f"{processors * sent.wall_s:.1f} processor seconds."
    )


def _memory(report: Report, seen: _Watcher, after_mib: float) -> None:
    report.add("collector's RSS before", seen.before_mib, "MiB")
    report.add("collector's RSS, most", seen.most_mib, "MiB")
    report.add("collector's RSS after", after_mib, "MiB")
    report.add("checkpoints of the store", seen.checkpoints, "")


if __name__ == "__main__":
    figures.main(run)
