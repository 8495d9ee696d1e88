"""Bounds what a payload may become before anything is made of it.

A record, an attribute or an event may be two bytes on the wire and some 300 in memory, and 64 kB of
gzip hold 33 million of them. So members are counted on the bytes as they are. Most payloads are too
short to hold too many, and of nearly all others one pass over the bytes shows that they don't; only
then are they walked, in Python, up to the bound.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from heatshield_collector.decode.errors import DecodeError

__all__ = ["MAX_MEMBERS", "MAX_REPEATED_BYTES", "check_repeated", "has_too_many", "most_members"]

MAX_MEMBERS: Final = 1_000_000
"""Most messages in one payload: records, attributes and their values, events, links, points. Some
40,000 spans have so many, where senders batch 512 to 8,192; at worst they take 300 MB."""

MAX_REPEATED_BYTES: Final = 256 * 2**20
"""Most bytes that the names of services, scopes and metrics take when they stand in each row. Once
said, they cost a sender nothing, and could be megabytes."""

_LEAST_BYTES: Final = 2
"""Of a member: its tag, and its length of zero."""

_PACKED_BYTES: Final = 8
"""Numbers of a byte each that count as one member: eight of them take as much in memory."""

_VARINT: Final = 0
_BYTES: Final = 2
_SIZES: Final = {1: 8, 5: 4}
"""Protobuf's wire types: of numbers, of what has a length, and the bytes of numbers of one size."""

_WIRE_TYPE_BITS: Final = 3
_MALFORMED: Final = -1

_Table = dict[int, Any]
"""By field number: the table of a message's fields, or :data:`_LEAF`, or :data:`_PACKED`."""

_LEAF: Final[_Table] = {}
_PACKED: Final = "packed"


def has_too_many(request: Descriptor, payload: bytes) -> bool:
    """Whether a payload holds more than :data:`MAX_MEMBERS`."""
    if len(payload) <= MAX_MEMBERS * _LEAST_BYTES or most_members(payload) <= MAX_MEMBERS:
        return False
    return _exceeds(_table(request), payload)


def most_members(payload: bytes) -> int:
    """A number that the payload's members are no more than, found without parsing it."""
    if len(payload) <= _PACKED_BYTES:
        return len(payload)
    # The first byte of each member has the wire type of messages, also in a tag with idle bytes.
    octets = np.frombuffer(payload, dtype=np.uint8)
    tags = np.count_nonzero((octets & 7) == _BYTES)
    return int(tags) + len(payload) // _PACKED_BYTES


def check_repeated(rows: np.ndarray, texts: Iterable[pa.Array]) -> None:
    """Refuse texts that would take too much once they stand in each row.

    Args:
        rows: int64[n], the index into ``texts`` of each row.
        texts: columns of texts, each of the same length.

    Raises:
        DecodeError: when it would be more than :data:`MAX_REPEATED_BYTES`.
    """
    lengths = [pc.fill_null(pc.binary_length(column), 0).to_numpy() for column in texts]
    if not len(rows) or not lengths:
        return
    each = np.stack(lengths).sum(axis=0, dtype=np.int64).reshape(-1)
    if int(each.max(initial=0)) * len(rows) <= MAX_REPEATED_BYTES:
        return
    if int((each * np.bincount(rows, minlength=len(each))).sum()) > MAX_REPEATED_BYTES:
        raise DecodeError(f"names take more than {MAX_REPEATED_BYTES} bytes in the rows")


def _exceeds(table: _Table, payload: bytes) -> bool:
    """Walk the messages; what is malformed is left for protobuf to refuse."""
    members, at, end = 0, 0, len(payload)
    enclosing: list[tuple[int, _Table]] = []
    while members <= MAX_MEMBERS:
        while at >= end:
            if not enclosing:
                return False
            end, table = enclosing.pop()
        tag, at = _varint(payload, at, end)
        if tag & 7 != _BYTES:
            at = _after_number(payload, at, end, tag & 7)
            if at == _MALFORMED:
                return False
            continue
        length, at = _varint(payload, at, end)
        if at == _MALFORMED or at + length > end:
            return False
        inner = table.get(tag >> _WIRE_TYPE_BITS)
        if inner is not None:
            members += length // _PACKED_BYTES if inner is _PACKED else 1
        if inner and inner is not _PACKED:
            enclosing.append((end, table))
            end, table = at + length, inner
        else:
            at += length
    return True


def _after_number(payload: bytes, at: int, end: int, wire_type: int) -> int:
    """Where the next field begins; a group's fields count as those of the message around it."""
    if wire_type == _VARINT:
        return _varint(payload, at, end)[1]
    return at + _SIZES.get(wire_type, 0) if at != _MALFORMED else at


def _varint(payload: bytes, at: int, end: int) -> tuple[int, int]:
    """A number, and where the next one begins; :data:`_MALFORMED` where there is none."""
    if 0 <= at < end and payload[at] < 128:  # noqa: PLR2004 - most have one byte
        return payload[at], at + 1
    number = shift = 0
    while 0 <= at < end and shift < 64:  # noqa: PLR2004 - bits that a number has
        octet = payload[at]
        at += 1
        number |= (octet & 127) << shift
        if octet < 128:  # noqa: PLR2004 - the highest bit says that more follow
            return number, at
        shift += 7
    return 0, _MALFORMED


@lru_cache
def _table(request: Descriptor) -> _Table:
    made: dict[str, _Table] = {}

    def table_of(message: Descriptor) -> _Table:
        if message.full_name not in made:
            table = made[message.full_name] = {}
            for field in message.fields:
                entry = entry_of(field)
                if entry is not None:
                    table[field.number] = entry
        return made[message.full_name]

    def entry_of(field: FieldDescriptor) -> Any:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            return table_of(field.message_type)
        if not field.is_repeated:
            return None
        texts = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
        return _LEAF if field.type in texts else _PACKED

    return table_of(request)
