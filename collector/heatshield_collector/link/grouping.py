"""Rows of a batch by what they have in common."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["pairs_of"]


def pairs_of(
    first: pa.ChunkedArray, second: pa.ChunkedArray
) -> tuple[npt.NDArray[np.int64], list[tuple[str, str]]]:
    """Group rows by two columns of text: each row's group, and the pair of each group.

    Groups come in the order in which their texts were first seen. A batch is small mostly, and for
    that this is several times as quick as Arrow's own grouping.
    """
    one, other = (column.combine_chunks().dictionary_encode() for column in (first, second))
    ones, others = one.dictionary.to_pylist(), other.dictionary.to_pylist()
    if len(ones) == len(others) == 1:  # a batch of one sender
        return np.zeros(len(first), dtype=np.int64), [(ones[0], others[0])]
    keys = one.indices.to_numpy().astype(np.int64) * len(others) + other.indices.to_numpy()
    distinct, group = np.unique(keys, return_inverse=True)
    return group, [(ones[key // len(others)], others[key % len(others)]) for key in distinct]
