"""Any number of spans by the time of their end, in bounded memory: an external merge sort.

Recordings are seldom ordered: exporters send late, traces stand whole, files overlap. What is added
is kept as *runs*, each sorted; once there is more than one run they lie in a folder of their own,
as Arrow files, and are read together, a few thousand rows of each at a time. A run whose first span
is later than all that is read is not opened yet, so a nearly ordered recording has few open.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa

__all__ = ["SortedSpans"]

RUN_SPANS: Final = 200_000
"""Spans of a run: some 50 MB, three times that while it is put in order."""

CHUNK_SPANS: Final = 8_192
"""Spans of a run that are read at once."""


class SortedSpans:
    """Takes in spans in any order and gives them back by their end; a context manager.

    Args:
        folder: where runs are written, in a folder that only this user may read and that goes at
            the end; ``None``: the system's folder for temporary files.
        run_spans: spans of a run.

    Attributes:
        spans: how many there are.
        first_ns: the earliest end, nanoseconds since the Unix epoch; 0 where there is none.
        last_ns: the latest.
    """

    def __init__(self, folder: Path | None = None, run_spans: int = RUN_SPANS) -> None:
        self._parent = folder
        self._run_spans = run_spans
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._open: list[pa.Table] = []
        self._open_spans = 0
        self._memory: pa.Table | None = None
        self._runs: list[tuple[int, Path]] = []
        self.spans = 0
        self.first_ns = self.last_ns = 0

    def __enter__(self) -> Self:
        """Nothing is opened before it is needed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was written."""
        self._stack.close()

    def add(self, spans: pa.Table) -> None:
        """Take in spans: a table with ``start_ns`` and ``duration_ns``."""
        if not spans.num_rows:
            return
        self._open.append(spans)
        self._open_spans += spans.num_rows
        self.spans += spans.num_rows
        if self._open_spans >= self._run_spans:
            self._spill(self._sorted())

    def chunks(self) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """All spans by their end, once; of the same files always in the same order.

        Returns:
            (int64[n], table) of each stretch: the ends, ascending, and the spans.
        """
        if not self._runs:
            if self._open:
                yield self._sorted()
            return
        if self._open:
            self._spill(self._sorted())
        yield from self._merged()

    def _sorted(self) -> tuple[np.ndarray, pa.Table]:
        ends, table = _by_end(self._open)
        self._open, self._open_spans = [], 0
        first, last = int(ends[0]), int(ends[-1])
        self.first_ns = min(first, self.first_ns or first)
        self.last_ns = max(last, self.last_ns)
        return ends, table

    def _spill(self, run: tuple[np.ndarray, pa.Table]) -> None:
        if self._folder is None:
            made = tempfile.TemporaryDirectory(prefix="heatshield-replay-", dir=self._parent)
            self._folder = Path(self._stack.enter_context(made))
        ends, table = run
        path = self._folder / f"{len(self._runs)}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=CHUNK_SPANS)
        self._runs.append((int(ends[0]), path))

    def _merged(self) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Give what no chunk that is still to be read can come before."""
        waiting = sorted(self._runs)
        heads: list[tuple[np.ndarray, pa.Table, Iterator[pa.Table]]] = []
        while waiting or heads:
            until = min((int(ends[-1]) for ends, _, _ in heads), default=None)
            while waiting and (until is None or waiting[0][0] <= until):
                opened = self._chunks_of(waiting.pop(0)[1])
                head = next(opened)
                ends = _ends(head)
                heads.append((ends, head, opened))
                until = int(ends[-1]) if until is None else min(until, int(ends[-1]))
            assert until is not None  # noqa: S101 - there is a head, as one was waiting
            taken, left = [], []
            for ends, table, following in heads:
                count = int(np.searchsorted(ends, until, side="right"))
                taken.append(table.slice(0, count))
                if count < len(ends):
                    left.append((ends[count:], table.slice(count), following))
                elif (more := next(following, None)) is not None:
                    left.append((_ends(more), more, following))
            heads = left
            yield _by_end([one for one in taken if one.num_rows])

    @staticmethod
    def _chunks_of(path: Path) -> Iterator[pa.Table]:
        """A run's spans, some at a time; it goes from the disk once all are read."""
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                yield pa.Table.from_batches([reader.get_batch(number)])
        path.unlink()


def _ends(table: pa.Table) -> np.ndarray:
    ends: np.ndarray = table.column("start_ns").to_numpy() + table.column("duration_ns").to_numpy()
    return ends


def _by_end(tables: list[pa.Table]) -> tuple[np.ndarray, pa.Table]:
    """One table by the end of its spans, each column in one piece."""
    table = pa.concat_tables(tables).combine_chunks()
    ends = _ends(table)
    if len(ends) > 1 and (np.diff(ends) < 0).any():
        order = np.argsort(ends, kind="stable")
        ends, table = ends[order], table.take(pa.array(order))
    return ends, table
