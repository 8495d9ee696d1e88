"""Saves what is good of OTLP JSON that can't be converted as a whole, as protobuf does of its own.

Bytes that are no UTF-8 and lone surrogates become U+FFFD, nulls in lists are left out, and a record
that still can't be converted is left out alone. See also ``decode/mending.py``.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from heatshield.names import TEXT_MENDED
from heatshield_collector.decode.mending import MAX_MENDED
from heatshield_collector.intake.payload import MalformedError

__all__ = ["Level", "Saved", "parse_leniently", "save"]

_REASON_CHARS: Final = 300
"""Of a parser's complaint this much goes back to the sender; it can quote the input."""

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_MARK: Final = {"key": TEXT_MENDED, "value": {"boolValue": True}}

_NUMBERS: Final = frozenset({"bucketCounts", "bucket_counts", "explicitBounds", "explicit_bounds"})
"""Lists in which a place means something: without one the others would be of another bucket."""

_VALUES: Final = "values"
"""Members of an array value: null is a value there, the empty one."""

Rewrite = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Level:
    """One of the lists around records, or that of the records.

    Attributes:
        json_names: what JSON may call it.
        field: what protobuf calls it.
    """

    json_names: tuple[str, ...]
    field: str


@dataclass(slots=True)
class Saved:
    """What could be saved of a request.

    Attributes:
        request: the message, without the records that are left out.
        kept: how many records are in it.
        left_out: how many are not.
        mended: how many records, resources and scopes in it were mended.
        reason: why one is not in it.
    """

    request: Message
    kept: int = 0
    left_out: int = 0
    mended: int = 0
    reason: str = "null stands where a record should"


def parse_leniently(text: bytes) -> Any:
    """JSON whose texts may be no Unicode: what is not is a lone surrogate in what is returned.

    Raises:
        MalformedError: no JSON.
    """
    try:
        return json.loads(text.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not JSON: {error}"[:_REASON_CHARS]) from error


def save(document: Any, request: Message, levels: tuple[Level, ...], rewrite: Rewrite) -> Saved:
    """Convert record by record.

    Args:
        document: parsed JSON; it is changed.
        request: an empty request, to be filled.
        levels: the lists from the request to its records, from the outside in.
        rewrite: makes of a record in OTLP's JSON one in protobuf's; raises :class:`MalformedError`.

    Raises:
        MalformedError: when no record could be converted, or more than :data:`MAX_MENDED` had to be
            mended or left out.
    """
    saved = Saved(request)
    try:
        _save(document, request, levels, rewrite, saved)
    except RecursionError as error:
        raise MalformedError("values are nested too deeply") from error
    if saved.left_out and not saved.kept:
        raise MalformedError(saved.reason[:_REASON_CHARS])
    return saved


def _save(
    document: dict[str, Any],
    message: Any,
    levels: tuple[Level, ...],
    rewrite: Rewrite,
    saved: Saved,
) -> None:
    """Convert what stands in ``document`` beside the list, then each of the list's members."""
    level, *below = levels
    members = [member for name in level.json_names for member in _popped(document, name)]
    if not _parsed(document, message, saved):
        saved.left_out += max(1, _count(members, tuple(below)))
        return
    children = getattr(message, level.field)
    for member in members:
        if not isinstance(member, dict):
            saved.left_out += 1
        elif below:
            _save(member, children.add(), tuple(below), rewrite, saved)
        else:
            child = children.add()
            if _record_parsed(member, child, rewrite, saved):
                saved.kept += 1
            else:
                del children[-1]
                saved.left_out += 1


def _record_parsed(
    record: dict[str, Any], message: Message, rewrite: Rewrite, saved: Saved
) -> bool:
    try:
        rewrite(record)
    except MalformedError as error:
        saved.reason = str(error)
        return False
    return _parsed(record, message, saved)


def _popped(document: dict[str, Any], name: str) -> list[Any]:
    if isinstance(document.get(name), list):
        members: list[Any] = document.pop(name)
        return members
    return []


def _count(members: list[Any], below: tuple[Level, ...]) -> int:
    if not below:
        return len(members)
    return sum(
        _count(member[name], below[1:])
        for member in members
        if isinstance(member, dict)
        for name in below[0].json_names
        if isinstance(member.get(name), list)
    )


def _parsed(document: dict[str, Any], message: Any, saved: Saved) -> bool:
    """Whether ``document`` could be converted into ``message``, mended if need be."""
    if saved.mended + saved.left_out > MAX_MENDED:
        raise MalformedError(f"more than {MAX_MENDED} records are damaged")
    sound, touched = _mended(document, "")
    if touched and "attributes" in message.DESCRIPTOR.fields_by_name:
        attributes = sound.setdefault("attributes", [])
        if isinstance(attributes, list) and _MARK not in attributes:
            attributes.append(_MARK)
    try:
        json_format.ParseDict(sound, message, ignore_unknown_fields=True)
    except (json_format.ParseError, ArithmeticError, TypeError, ValueError) as error:
        saved.reason = f"not OTLP JSON: {error}"
        message.Clear()
        return False
    saved.mended += touched
    return True


def _mended(value: Any, name: str) -> tuple[Any, bool]:
    """The value without what JSON's mapping refuses, and whether anything was changed.

    Args:
        value: anything that JSON can say.
        name: of the field whose value it is.
    """
    if isinstance(value, str):
        sound = _SURROGATES.sub("\ufffd", value)
        return sound, sound is not value and sound != value
    if isinstance(value, list):
        return _mended_list(value, name)
    if not isinstance(value, dict):
        return value, False
    touched = False
    members = {}
    for key, member in value.items():
        sound_key, key_touched = _mended(key, "")
        members[sound_key], member_touched = _mended(member, key)
        touched |= key_touched or member_touched
    if touched and isinstance(members.get("attributes"), list):
        members["attributes"].append(_MARK)
    return members, touched


def _mended_list(values: list[Any], name: str) -> tuple[list[Any], bool]:
    touched = False
    members: list[Any] = []
    for value in values:
        if value is None and name not in _NUMBERS:
            touched = True
            if name == _VALUES:
                members.append({})
        else:
            member, changed = _mended(value, name)
            members.append(member)
            touched |= changed
    return members, touched
