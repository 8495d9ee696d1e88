"""Rows of numbers of the last seconds."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Recent"]

Floats = npt.NDArray[np.float64]


class Recent:
    """A table of the last seconds, as float64 columns; ids are whole numbers under 2**53.

    Args:
        columns: how many.
        rows_most: where more come than this, the oldest go.
    """

    def __init__(self, columns: int, rows_most: int = 200_000) -> None:
        self._columns = columns
        self._most = rows_most
        self._chunks: deque[tuple[float, Floats]] = deque()
        self._rows = 0

    def add(self, columns: Sequence[npt.ArrayLike], at_s: float) -> None:
        """Add rows that came at ``at_s``, monotonic seconds; a scalar stands for all rows."""
        rows = np.stack(np.broadcast_arrays(*columns), axis=-1).astype(np.float64)
        rows = rows.reshape(-1, self._columns)
        if not len(rows):
            return
        self._chunks.append((at_s, rows))
        self._rows += len(rows)
        while self._rows > self._most and len(self._chunks) > 1:
            self._rows -= len(self._chunks.popleft()[1])

    def since(self, from_s: float) -> list[Floats]:
        """The columns of what has come since ``from_s``; what came before is let go."""
        while self._chunks and self._chunks[0][0] < from_s:
            self._rows -= len(self._chunks.popleft()[1])
        chunks = [rows for _, rows in self._chunks]
        table = np.concatenate(chunks) if chunks else np.empty((0, self._columns))
        return list(table.T)

    def __len__(self) -> int:
        return self._rows
