"""The messages of ``envoy.service.ratelimit.v3`` that are used here, and of them what is used.

They are described here field by field, because Envoy's protocol files import a hundred others.
Fields that are not described are skipped, as protobuf does with those of later versions. They live
in a pool of their own, beside the real ones where a process has them.
"""

from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.duration_pb2 import DESCRIPTOR as DURATION
from google.protobuf.message_factory import GetMessageClass

__all__ = ["OK", "OVER_LIMIT", "RATE_LIMIT_SERVICE", "RateLimitRequest", "RateLimitResponse"]

_PACKAGE: Final = "envoy.service.ratelimit.v3"
RATE_LIMIT_SERVICE: Final = f"{_PACKAGE}.RateLimitService"

OK: Final = 1
OVER_LIMIT: Final = 2
"""Of ``RateLimitResponse.Code``; 0 is unknown."""

_STRING: Final = FieldDescriptorProto.TYPE_STRING
_BYTES: Final = FieldDescriptorProto.TYPE_BYTES

_MESSAGES: Final[dict[str, dict[str, tuple[int, int | str]]]] = {
    "RateLimitRequest": {"domain": (1, _STRING), "descriptors": (2, "*RateLimitDescriptor")},
    "RateLimitDescriptor": {"entries": (1, "*Entry")},
    "Entry": {"key": (1, _STRING), "value": (2, _STRING)},
    "RateLimitResponse": {
        "overall_code": (1, FieldDescriptorProto.TYPE_INT32),
        "statuses": (2, "*DescriptorStatus"),
        "response_headers_to_add": (3, "*HeaderValue"),
        "raw_body": (5, _BYTES),
    },
    "DescriptorStatus": {
        "code": (1, FieldDescriptorProto.TYPE_INT32),
        "duration_until_reset": (4, ".google.protobuf.Duration"),
    },
    "HeaderValue": {"key": (1, _STRING), "value": (2, _STRING)},
}
"""Field: (number, type); a text is another message, with ``*`` repeated. On the wire an enum is an
int32, and the names of messages don't stand there."""


def _pool() -> DescriptorPool:
    file = FileDescriptorProto(name="ratelimit.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(DURATION.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number)
            added.label = FieldDescriptorProto.LABEL_OPTIONAL
            if isinstance(kind, int):
                added.type = FieldDescriptorProto.Type.ValueType(kind)
                continue
            added.type = FieldDescriptorProto.TYPE_MESSAGE
            if kind.startswith("*"):
                added.label = FieldDescriptorProto.LABEL_REPEATED
            bare = kind.removeprefix("*")
            added.type_name = bare if bare.startswith(".") else f".{_PACKAGE}.{bare}"
    pool = DescriptorPool()
    pool.AddSerializedFile(DURATION.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL: Final = _pool()

RateLimitRequest: Final[Any] = GetMessageClass(
    _POOL.FindMessageTypeByName(f"{_PACKAGE}.RateLimitRequest")
)
RateLimitResponse: Final[Any] = GetMessageClass(
    _POOL.FindMessageTypeByName(f"{_PACKAGE}.RateLimitResponse")
)
