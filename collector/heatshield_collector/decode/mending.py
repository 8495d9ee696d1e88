"""Saves what is good of a payload that protobuf's parser refuses: the rest of a batch is innocent.

One byte that is no UTF-8 makes protobuf refuse a whole request, and its sender never sends it
again. So the request is read once more with two differences, both of which the wire format can't
tell: its texts are declared as bytes, and its records as bytes that are not looked into. Each
record is then parsed by itself: a good one stays as it came, in one with bad texts what is no UTF-8
becomes U+FFFD, and one that is damaged otherwise is left out. What comes out is parsed as any
payload is, by protobuf first, so nothing reaches ptars that protobuf has not accepted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from heatshield.names import TEXT_MENDED

__all__ = ["MAX_MENDED", "Mended", "mended"]

MAX_MENDED: Final = 10_000
"""Most records of a payload that are mended or left out: each takes some 50 µs of Python. With more
the payload is refused, as it was no accident."""

_LENGTH_DELIMITED: Final = 2
"""Protobuf's wire type of messages."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What could be saved of a payload.

    Attributes:
        body: the serialized request without the damaged records.
        left_out: how many records are not in it.
        mended: how many records, resources and scopes in it have texts that were mended.
    """

    body: bytes
    left_out: int
    mended: int


def mended(request: type[Message], lists: tuple[str, str, str], payload: bytes) -> Mended:
    """Mend what can be mended, and leave out what can't.

    Args:
        request: protobuf's class of the export request.
        lists: the repeated fields from the request to its records, from the outside in.
        payload: what ``request`` refuses to parse.

    Raises:
        google.protobuf.message.DecodeError: when what stands around the records is damaged,
            all records are, or more than :data:`MAX_MENDED`.
    """
    twin = _twin(request, lists)  # type: ignore[arg-type]  # generated classes do have a hash
    envelope = twin.envelope.FromString(payload)
    outer, inner, records = lists
    left_out = touched = found = 0
    for resource in getattr(envelope, outer):
        touched += _mend(resource, twin.texts)
        for scope in getattr(resource, inner):
            kept, gone, changed = _mended_records(twin, getattr(scope, records), left_out + touched)
            if gone or changed:
                scope.ClearField(records)
                getattr(scope, records).extend(kept)
            found += len(kept)
            left_out += gone
            touched += changed
    if left_out and not found:
        raise ProtobufError("no record is valid")
    return Mended(envelope.SerializeToString(), left_out, touched)


@dataclass(frozen=True, slots=True)
class _Twin:
    """Classes that read the same bytes as a request's.

    Attributes:
        request: the request as it is.
        tags: of the fields around a record, from the inside out.
        envelope: the request; its records are bytes, as are its texts.
        record: the record with its texts as bytes.
        texts: full names of the fields that are texts in truth.
    """

    request: type[Message]
    tags: tuple[bytes, ...]
    envelope: type[Message]
    record: type[Message]
    texts: frozenset[str]

    def check(self, record: bytes) -> None:
        """Parse a request of nothing but this record: how deep it may nest depends on where it is.

        Raises:
            google.protobuf.message.DecodeError: when it is not valid.
        """
        for tag in self.tags:
            record = b"".join((tag, _varint(len(record)), record))
        self.request.FromString(record)


def _mended_records(
    twin: _Twin, records: Iterator[bytes], damaged: int
) -> tuple[list[bytes], int, int]:
    """The records that are kept, how many are not, and how many had texts that were mended."""
    kept: list[bytes] = []
    left_out = changed = 0
    for record in records:
        try:
            twin.check(record)
        except ProtobufError:
            if damaged + left_out + changed >= MAX_MENDED:
                raise ProtobufError(f"more than {MAX_MENDED} records are damaged") from None
            saved = _saved(twin, record)
            if saved is None:
                left_out += 1
                continue
            changed += 1
            kept.append(saved)
        else:
            kept.append(record)
    return kept, left_out, changed


def _saved(twin: _Twin, record: bytes) -> bytes | None:
    try:
        message = twin.record.FromString(record)
        _mend(message, twin.texts)
        body: bytes = message.SerializeToString()
        twin.check(body)
    except ProtobufError:
        return None
    return body


def _mend(message: Any, texts: frozenset[str]) -> bool:
    """Mend the texts in a message and all below it; what has attributes gets a mark."""
    touched = False
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            members = value if field.is_repeated else (value,)
            for member in members:
                touched |= _mend(member, texts)
        elif field.full_name in texts:
            touched |= _mend_text(message, field, value)
    attributes = message.DESCRIPTOR.fields_by_name.get("attributes")
    if touched and attributes is not None:
        mark = message.attributes.add(key=TEXT_MENDED.encode())
        mark.value.bool_value = True
    return touched


def _mend_text(message: Any, field: FieldDescriptor, value: Any) -> bool:
    if field.is_repeated:
        sound = [_utf8(one) for one in value]
        if sound == list(value):
            return False
        message.ClearField(field.name)
        getattr(message, field.name).extend(sound)
        return True
    sound_value = _utf8(value)
    if sound_value == value:
        return False
    setattr(message, field.name, sound_value)
    return True


def _utf8(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").encode()


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:  # noqa: PLR2004 - seven bits a byte
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)


@lru_cache
def _twin(request: type[Message], lists: tuple[str, str, str]) -> _Twin:
    """Made once for each kind of request."""
    message: Descriptor = request.DESCRIPTOR
    fields = []
    for name in lists:
        fields.append(message.fields_by_name[name])
        message = fields[-1].message_type
    texts: set[str] = set()
    pool = DescriptorPool()
    _add_file(pool, request.DESCRIPTOR.file, fields[-1].full_name, texts, set())
    return _Twin(
        request=request,
        tags=tuple(_varint(field.number << 3 | _LENGTH_DELIMITED) for field in reversed(fields)),
        envelope=GetMessageClass(pool.FindMessageTypeByName(request.DESCRIPTOR.full_name)),
        record=GetMessageClass(pool.FindMessageTypeByName(message.full_name)),
        texts=frozenset(texts),
    )


def _add_file(
    pool: DescriptorPool, file: FileDescriptor, opaque: str, texts: set[str], added: set[str]
) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for dependency in file.dependencies:
        _add_file(pool, dependency, opaque, texts, added)
    copy = FileDescriptorProto()
    file.CopyToProto(copy)
    for message in copy.message_type:
        _declare_bytes(message, f"{copy.package}.{message.name}", opaque, texts)
    pool.Add(copy)


def _declare_bytes(message: DescriptorProto, name: str, opaque: str, texts: set[str]) -> None:
    for field in message.field:
        full_name = f"{name}.{field.name}"
        if field.type == FieldDescriptorProto.TYPE_STRING:
            texts.add(full_name)
            field.type = FieldDescriptorProto.TYPE_BYTES
        elif full_name == opaque:
            field.ClearField("type_name")
            field.type = FieldDescriptorProto.TYPE_BYTES
    for nested in message.nested_type:
        _declare_bytes(nested, f"{name}.{nested.name}", opaque, texts)
