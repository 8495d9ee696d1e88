"""Charges of spans as columns of numbers, on the collector's time."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from heatshield.call_key import SEPARATOR
from heatshield.clock import Instant
from heatshield_collector.detect.harm.ids import NOBODY, Ids, Numbers
from heatshield_collector.detect.harm.recent import Floats
from heatshield_collector.detect.harm.sender_clocks import SenderClocks

__all__ = ["SpanColumns"]

BLOCKING: Final = frozenset(
    {
        "BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP",
        "XREAD", "XREADGROUP", "WAIT", "WAITAOF", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
        "MONITOR",
    }
)  # fmt: skip
"""Commands that wait in a backend and use nothing of it."""


class SpanColumns:
    """The columns of ``link.CHARGES`` as numbers."""

    def __init__(
        self, numbers: Numbers, charges: pa.Table, instant: Instant, clocks: SenderClocks
    ) -> None:
        self.user = _numbers(charges.column("user"), numbers.users)
        self.call = _numbers(_joined(charges, "service", "call"), numbers.calls)
        self.process = _numbers(_joined(charges, "service", "instance"), numbers.processes)
        backend = charges.column("backend")
        named = _joined(charges, "backend", "address", " ")
        self.backend = _numbers(pc.if_else(backend.is_valid(), named, None), numbers.backends)
        self.blocking = _blocking(charges.column("operation"), self.backend >= 0)
        start_ns = charges.column("start_ns").to_numpy() - clocks.base_ns(instant)
        duration_ns = charges.column("duration_ns").to_numpy()
        offsets = _offsets(self.process, start_ns + duration_ns, instant, clocks)
        self.start_s = start_ns / 1e9 + offsets
        self.end_s = self.start_s + duration_ns / 1e9
        self.us = duration_ns / 1e3
        # Of the 64 bits 53 are left, which tell the requests of a second apart well enough.
        self.request = charges.column("trace").to_numpy().astype(np.float64)
        self.busy_us, self.calls, self.errors, self.elements = (
            charges.column(name).to_numpy().astype(np.float64)
            for name in ("busy_us", "calls", "errors", "elements")
        )


def _joined(charges: pa.Table, first: str, second: str, joint: str = SEPARATOR) -> pa.ChunkedArray:
    empty = pa.scalar("", pa.string())
    return pc.binary_join_element_wise(
        pc.fill_null(charges.column(first), empty),
        pc.fill_null(charges.column(second), empty),
        pa.scalar(joint, pa.string()),
    )


def _numbers(texts: pa.ChunkedArray, ids: Ids) -> Floats:
    """The number of each text; :data:`NOBODY` for null."""
    encoded = texts.combine_chunks().dictionary_encode()
    numbers = np.array([ids.of(text) for text in encoded.dictionary.to_pylist()] + [NOBODY])
    found: Floats = numbers[encoded.indices.fill_null(-1).to_numpy()].astype(np.float64)
    return found


def _blocking(operations: pa.ChunkedArray, there: np.ndarray) -> npt.NDArray[np.bool_]:
    if not there.any():
        return there
    encoded = operations.combine_chunks().dictionary_encode()
    waits = [text.partition(" ")[0].upper() in BLOCKING for text in encoded.dictionary.to_pylist()]
    found: npt.NDArray[np.bool_] = np.array(waits)[encoded.indices.to_numpy()] & there
    return found


def _offsets(
    process: Floats, end_ns: npt.NDArray[np.int64], instant: Instant, clocks: SenderClocks
) -> Floats:
    numbers, of_row = np.unique(process, return_inverse=True)
    latest = np.full(len(numbers), -np.inf)
    np.maximum.at(latest, of_row, end_ns / 1e9)
    offsets: Sequence[float] = [
        clocks.offset_s(int(number), last, instant.monotonic_s)
        for number, last in zip(numbers.tolist(), latest.tolist(), strict=True)
    ]
    found: Floats = np.array(offsets)[of_row]
    return found
