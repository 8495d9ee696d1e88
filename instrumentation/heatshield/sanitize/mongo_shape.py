"""What is left of a MongoDB command without its values, and how many documents it moved: pure.

``{"find": "stickers", "filter": {"owner": "ann", "price": {"$gt": 7}}}`` has the shape ``{find:
stickers, filter: {owner: ?, price: {$gt: ?}}}``. Lists of equal shapes are one. Names of fields
stay, but not digits or hexadecimal ids in them, as some name fields by users.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from heatshield.sanitize.sql_summary import folded

__all__ = ["collection_of", "documents_moved", "documents_sent", "shape_of"]

MAX_SHAPE: Final = 1_024
"""Characters of a shape."""

MAX_DEPTH: Final = 6
MAX_FIELDS: Final = 64
"""Fields of a document, or items of a list, that are looked at."""

_OF_THE_DRIVER: Final = frozenset(
    {"lsid", "$db", "$clusterTime", "$readPreference", "txnNumber", "startTransaction",
     "autocommit", "apiVersion", "apiStrict", "apiDeprecationErrors", "comment", "maxTimeMS",
     "readConcern", "writeConcern"}
)  # fmt: skip
"""What says nothing of the work."""

_SENT: Final = ("documents", "updates", "deletes", "ops")
"""Where writes have what they write."""

_FIELD: Final = re.compile(r"[\w.$@ -]{1,64}")
_ID: Final = re.compile(r"[0-9a-fA-F]{12,}|\d{3,}|(?<![^.])\d+(?![^.])")

_MOVED: Final[Mapping[str, tuple[str, ...]]] = {
    "insert": ("n",),
    "update": ("n",),
    "delete": ("n",),
    "bulkWrite": ("nInserted", "nUpserted", "nMatched", "nDeleted"),
}
"""Where answers to writes say how many documents they wrote."""


def shape_of(command: Mapping[str, object]) -> str:
    """The shape of a command, of bounded length whatever it holds."""
    parts: list[str] = []
    length = 0
    for part in _command(command):
        parts.append(part)
        length += len(part)
        if length > MAX_SHAPE:
            return "".join(parts)[: MAX_SHAPE - 4] + " ..."
    return "".join(parts)


def collection_of(command: Mapping[str, object], name: str) -> str:
    """The collection a command is about, with digits folded; empty if it is about none."""
    value = command.get("collection") if name == "getMore" else command.get(name)
    return folded(value) if isinstance(value, str) else ""


def documents_sent(command: Mapping[str, object]) -> int:
    """Documents, updates or deletes that a write sends; 0 for what does not write."""
    for field in _SENT:
        sent = command.get(field)
        if isinstance(sent, list | tuple):
            return len(sent)
    return 0


def documents_moved(name: str, reply: Mapping[str, object], sent: int) -> int:
    """Documents that came with an answer, or were written.

    Args:
        name: of the command.
        reply: the server's answer.
        sent: as many as were sent, for writes that are not acknowledged.
    """
    if name in _MOVED:
        told = (reply.get(field) for field in _MOVED[name])
        counts = [count for count in told if isinstance(count, int)]
        return sum(counts) if counts else sent
    if name == "findAndModify":
        return int(reply.get("value") is not None)
    if name == "distinct":
        found = reply.get("values")
        return len(found) if isinstance(found, Sequence) else 0
    cursor = reply.get("cursor")
    if not isinstance(cursor, Mapping):
        return 0
    batch = cursor.get("firstBatch")
    return _count(cursor.get("nextBatch") if batch is None else batch)


def _count(batch: object) -> int:
    """Documents of a batch; a raw one has them end to end, each beginning with its length."""
    if not isinstance(batch, Sequence):
        return 0
    if not batch or not isinstance(batch[0], bytes):
        return len(batch)
    count = 0
    for raw in batch:
        at = 0
        while at + 4 <= len(raw):
            length = int.from_bytes(raw[at : at + 4], "little")
            if length <= 4:  # noqa: PLR2004  # no document: not to go round forever
                break
            at += length
            count += 1
    return count


def _command(command: Mapping[str, object]) -> Iterator[str]:
    first = True
    for field, value in command.items():
        if field in _OF_THE_DRIVER:
            continue
        yield ("{" if first else ", ") + _name(field) + ": "
        if field == "collection" or (first and isinstance(value, str)):
            yield folded(value) if isinstance(value, str) else "?"
        elif field == "documents":
            yield "[?]"
        else:
            yield from _value(value, 1)
        first = False
    yield "}" if not first else "{}"


def _value(value: object, depth: int) -> Iterator[str]:
    if depth >= MAX_DEPTH:
        yield "?"
    elif isinstance(value, Mapping):
        yield "{"
        for index, (field, inner) in enumerate(value.items()):
            if index >= MAX_FIELDS:
                yield ", ..."
                break
            yield (", " if index else "") + _name(field) + ": "
            yield from _value(inner, depth + 1)
        yield "}"
    elif isinstance(value, list | tuple):
        shapes = dict.fromkeys("".join(_value(item, depth + 1)) for item in value[:MAX_FIELDS])
        yield f"[{', '.join(shapes)}]"
    else:
        yield "?"


def _name(field: object) -> str:
    text = str(field)
    return _ID.sub("?", text) if _FIELD.fullmatch(text) else "?"
