"""Multi-process mode: the workers of one service behind one ``/metrics``.

With ``PROMETHEUS_MULTIPROC_DIR`` set, ``prometheus_client`` keeps each value in a file of its
process, and a scrape adds up all files. Collectors like ours are not asked in that mode, so a
background thread writes our figures to the same files: they are at most a second old.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, cast

from prometheus_client import CollectorRegistry, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from heatshield import names
from heatshield.metrics.families import Families

__all__ = ["Mirror", "in_use", "over_processes", "sweep"]

FOLDER_KEY: Final = "PROMETHEUS_MULTIPROC_DIR"

SHARED_GAUGES: Final = frozenset({names.SERVICE_BREAKERS})
"""All workers hold the same, so the greatest is shown and not the sum."""

LEAST_FREE_BYTES: Final = 16 * 1024 * 1024
"""A process has a file of a mebibyte or more for each kind of value, and there are some workers."""


class _Value(Protocol):
    """A value of the library that is kept in a file."""

    def set(self, value: float) -> None:
        """Replace it."""
        ...


_Key = tuple[str | tuple[str, str], ...]
"""A sample's type, name and labels."""

_LIVE_FILE: Final = re.compile(r"gauge_live[a-z]+_(\d+)\.db")


def in_use() -> bool:
    """Whether the library keeps its values in files; it decided so when it was imported."""
    return bool(getattr(values.ValueClass, "_multiprocess", False))


class Mirror:
    """Writes families into this process's files, as values of the library's own would be.

    Args:
        families: what to write.
    """

    def __init__(self, families: Families) -> None:
        self._families = families
        self._values: dict[_Key, _Value] = {}
        self._written: dict[_Key, float] = {}
        self._pid = os.getpid()

    def write(self) -> None:
        """Write what has changed since the last time."""
        _check_space(Path(os.environ[FOLDER_KEY]))
        if self._pid != os.getpid():  # the files of a child process are others, and empty
            self._pid = os.getpid()
            self._written = {}
        for family in self._families.collect():
            for sample in _stored(family):
                key: _Key = (family.type, sample.name, *sample.labels.items())
                if self._written.get(key) != sample.value:
                    value = self._values.get(key)
                    if value is None:
                        value = self._values[key] = _value(family, sample)
                    value.set(sample.value)
                    self._written[key] = sample.value

    def retire(self) -> None:
        """Write once more, with gauges of 0: a process that ends holds nothing."""
        self.write()
        for key, value in self._values.items():
            if key[0] == "gauge":
                value.set(0.0)
                self._written.pop(key, None)


def _check_space(folder: Path) -> None:
    """Write nothing where the disk is nearly full.

    The files are mapped and sparse: a write that finds no block for its page ends the process with
    a bus error.

    Raises:
        OSError: if there is too little space.
    """
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, "too little space for the metrics of workers", str(folder))


def _value(family: Metric, sample: Sample) -> _Value:
    made = values.ValueClass(
        family.type,
        family.name,
        sample.name,
        tuple(sample.labels),
        tuple(sample.labels.values()),
        family.documentation,
        multiprocess_mode="livemax" if family.name in SHARED_GAUGES else "livesum",
    )
    return cast("_Value", made)


def _stored(family: Metric) -> Iterator[Sample]:
    """A family's samples as the files have them: buckets not added up, counts not at all."""
    if family.type != "histogram":
        yield from family.samples
        return
    below = 0.0
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            yield sample._replace(value=sample.value - below)
            below = 0.0 if sample.labels["le"] == "+Inf" else sample.value
        elif sample.name.endswith("_sum"):
            yield sample


class _OverProcesses(Collector):
    """All workers' values, with this one's own as they are now."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def collect(self) -> Iterable[Metric]:
        with suppress(OSError):  # then as they were, like those of the other workers
            self._mirror.write()
        folder = Path(os.environ[FOLDER_KEY])
        sweep(folder)
        # The library can't read a file that another worker has made and not yet filled.
        files = [str(file) for file in sorted(folder.glob("*.db")) if _size(file)]
        return MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call,no-any-return]


def over_processes(mirror: Mirror) -> CollectorRegistry:
    """A registry that shows the sum over all workers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_OverProcesses(mirror))
    return registry


def _size(file: Path) -> int:
    """Its length in bytes; 0 where another worker has just swept it away."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def sweep(folder: Path) -> None:
    """Delete the gauges of workers that live no more, however they ended."""
    files = (_LIVE_FILE.fullmatch(file.name) for file in folder.iterdir())
    for pid in {int(found[1]) for found in files if found}:
        if not _lives(pid):
            with suppress(FileNotFoundError):  # another worker sweeps, too
                mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _lives(pid: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is not harmless
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it lives, under another account
    return True
