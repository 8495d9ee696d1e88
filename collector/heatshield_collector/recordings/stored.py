"""Spans that the store keeps, as detection reads them."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heatshield import names
from heatshield_collector.decode.span_columns import (
    DETECTED,
    NUMBERS,
    RECORDED_USERS,
    named_values,
)
from heatshield_collector.model import DECODED_SPANS, SPANS, texts_of
from heatshield_collector.recordings.problems import RecordingError
from heatshield_collector.recordings.sorted_spans import SortedSpans
from heatshield_collector.store import StoreError, TelemetryStore

__all__ = ["read_store"]

_NOT_STORED: Final = tuple(name for name in DETECTED.names if name not in SPANS.names)
_SAYING: Final = frozenset(
    {
        *(names.REDIS_KEY_PATTERN, names.BATCH_SIZE, names.WAITED_US),
        *("server.address", "net.peer.name", "network.peer.address", "net.peer.ip"),
        *("server.port", "net.peer.port", "network.peer.port"),
        *("db.system.name", "db.system"),
        *RECORDED_USERS,
    }
)
"""Attributes that say what the store has no column for."""


def read_store(store: TelemetryStore, since_ns: int, until_ns: int, into: SortedSpans) -> None:
    """Read the spans that ended in a range of time.

    Args:
        store: where they are.
        since_ns: the earliest end, nanoseconds since the Unix epoch.
        until_ns: the latest.
        into: takes the spans.

    Raises:
        RecordingError: the store can't be read.
    """
    try:
        for spans in store.recorded_spans(since_ns, until_ns):
            into.add(_detected(spans))
    except StoreError as error:
        raise RecordingError(str(error)) from error


def _detected(spans: pa.Table) -> pa.Table:
    """``span_columns.DETECTED`` of stored spans: the attributes say what has no column."""
    users = spans.column("user").to_pylist()
    columns = {
        name: pa.nulls(spans.num_rows, DECODED_SPANS.field(name).type).to_pylist()
        for name in _NOT_STORED
    }
    columns["waited_us"] = [0] * spans.num_rows
    keys, values = spans.column("attribute_keys"), spans.column("attribute_values")
    for row in _rows_saying(keys):
        found: dict[str, str | int] = {}
        for name, text in texts_of(keys[row].as_py(), values[row].as_py()).items():
            if name in _SAYING:
                is_number = name in NUMBERS and text.lstrip("-").isdecimal()
                found[name] = int(text) if is_number else text
        said = named_values(found)._asdict()
        users[row] = users[row] or said["user"]
        for name in _NOT_STORED:
            columns[name][row] = said[name]
    return pa.table(
        [
            pa.array(users, pa.string())
            if field.name == "user"
            else pa.array(columns[field.name], field.type)
            if field.name in columns
            else spans.column(field.name)
            for field in DETECTED
        ],
        schema=DETECTED,
    )


def _rows_saying(keys: pa.ChunkedArray) -> list[int]:
    """Rows with one of the attributes; a shape of attributes is looked at once."""
    encoded = pc.dictionary_encode(keys.combine_chunks())
    says = np.array(
        [
            not _SAYING.isdisjoint(key[2:] for key in (text or "").split("\x1f"))
            for text in encoded.dictionary.to_pylist()
        ],
        dtype=bool,
    )
    if not says.any():
        return []
    index = encoded.indices.fill_null(0).to_numpy()
    found: list[int] = np.flatnonzero(says[index]).tolist()
    return found
