"""Reads files into :class:`~.sorted_spans.SortedSpans`, on all processors where there is much."""

import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from heatshield_collector.recordings.compression import Source, open_recording
from heatshield_collector.recordings.decoding import Chunk, Read, decode
from heatshield_collector.recordings.framing import FramingError
from heatshield_collector.recordings.problems import Problem, RecordingError
from heatshield_collector.recordings.sniff import sniff
from heatshield_collector.recordings.sorted_spans import SortedSpans

__all__ = ["little_garbage", "read_recordings"]

GARBAGE_EVERY: Final = 200_000
"""Objects made between two collections of garbage. Documents and tables make few cycles, and at
Python's 700 to 2,000 half of the time goes into looking for them."""

CHUNK_BYTES: Final = 2 << 20
"""Bytes of pieces that are decoded at once: some 5,000 spans."""

PARALLEL_BYTES: Final = 48 << 20
"""Bytes of files from which on processes are started to decode: each takes a second to begin."""

_MOST_PROCESSES: Final = 8

Told = Callable[[Problem], None]
Progress = Callable[[int, int], None]


@contextmanager
def little_garbage() -> Iterator[None]:
    """Have garbage collected seldom: around reading and playing, in a process that does no more."""
    before = gc.get_threshold()
    gc.set_threshold(GARBAGE_EVERY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def read_recordings(
    files: Sequence[Path],
    into: SortedSpans,
    told: Told,
    progress: Progress = lambda _read, _spans: None,
) -> None:
    """Read all of the files.

    Args:
        files: of any format and compression, each told by its content.
        into: takes the spans.
        told: of each part that is left out.
        progress: told of (bytes read of the files, spans so far), now and then.

    Raises:
        RecordingError: a file can't be opened, or is of no known format.
    """
    size = sum(path.stat().st_size for path in files if path.is_file())
    done = 0

    def take(read: Read) -> None:
        into.add(read.table)
        for problem in read.problems:
            told(problem)

    for path in files:
        source = open_recording(path)
        try:
            chunks = _chunks(source, told)
            for read in _decoded(chunks, parallel=size >= PARALLEL_BYTES):
                take(read)
                progress(done + source.read_bytes, into.spans)
        except BrokenProcessPool as error:
            raise RecordingError(f"{path}: a process that decodes it was ended: {error}") from error
        finally:
            done += source.read_bytes
            source.close()


def _chunks(source: Source, told: Told) -> Iterator[Chunk]:
    found = sniff(source)
    if found is None:
        if source.damage:
            told(Problem(source.name, "its beginning", source.damage))
        return
    pieces: list[tuple[int, bytes]] = []
    held, last = 0, 0
    try:
        for number, piece in found.cut(source.read):
            pieces.append((number, piece))
            held, last = held + len(piece), number
            if held >= CHUNK_BYTES:
                yield Chunk(source.name, found.content, found.piece, pieces)
                pieces, held = [], 0
    except FramingError as error:
        if not source.damage:
            told(Problem(source.name, f"{found.piece} {error.at}", str(error)))
    if pieces:
        yield Chunk(source.name, found.content, found.piece, pieces)
    if source.damage:
        told(Problem(source.name, f"after {found.piece} {last}", source.damage))


def _decoded(chunks: Iterable[Chunk], *, parallel: bool) -> Iterator[Read]:
    processes = min(os.cpu_count() or 1, _MOST_PROCESSES)
    if not parallel or processes == 1:
        yield from map(decode, chunks)
        return
    context = multiprocessing.get_context("spawn")
    # Documents have no cycles, and looking for some takes longer than parsing.
    with ProcessPoolExecutor(processes, mp_context=context, initializer=gc.disable) as pool:
        waiting: deque[Future[Read]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(decode, chunk))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
