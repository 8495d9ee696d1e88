"""OTLP's trace request with the fields alone that detection reads.

Protobuf skips what a message type does not name. Without events, links and the rest, spans become
columns in half the time. Numbers and types are those of opentelemetry-proto 1.x; members of arrays
and lists stay bytes, as ptars leaves those of a type that contains itself.
"""

from typing import Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

__all__ = ["DetectedRequest"]

_PACKAGE: Final = "heatshield.detected"

_TYPES: Final = {
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "fixed64": FieldDescriptorProto.TYPE_FIXED64,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "string": FieldDescriptorProto.TYPE_STRING,
}

_MESSAGES: Final = {
    "Request": (("resource_spans", 1, "*ResourceSpans"),),
    "ResourceSpans": (("resource", 1, "Resource"), ("scope_spans", 2, "*ScopeSpans")),
    "Resource": (("attributes", 1, "*KeyValue"),),
    "ScopeSpans": (("scope", 1, "Scope"), ("spans", 2, "*Span")),
    "Scope": (("name", 1, "string"),),
    "Span": (
        ("trace_id", 1, "bytes"),
        ("span_id", 2, "bytes"),
        ("parent_span_id", 4, "bytes"),
        ("name", 5, "string"),
        ("kind", 6, "int32"),
        ("start_time_unix_nano", 7, "fixed64"),
        ("end_time_unix_nano", 8, "fixed64"),
        ("attributes", 9, "*KeyValue"),
        ("status", 15, "Status"),
    ),
    "Status": (("code", 3, "int32"),),
    "KeyValue": (("key", 1, "string"), ("value", 2, "AnyValue")),
    "AnyValue": (
        ("string_value", 1, "string"),
        ("bool_value", 2, "bool"),
        ("int_value", 3, "int64"),
        ("double_value", 4, "double"),
        ("array_value", 5, "Members"),
        ("kvlist_value", 6, "Members"),
        ("bytes_value", 7, "bytes"),
    ),
    "Members": (("values", 1, "*bytes"),),
}
"""Messages by name: (field, number, type); ``*`` marks a repeated one."""


def _request() -> type[Message]:
    file = FileDescriptorProto(name="heatshield/detected.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name == "AnyValue":
            message.oneof_decl.add(name="value")
        for field, number, kind in fields:
            said = message.field.add(name=field, number=number)
            many, plain = kind.startswith("*"), kind.removeprefix("*")
            said.label = said.LABEL_REPEATED if many else said.LABEL_OPTIONAL
            if plain in _TYPES:
                said.type = _TYPES[plain]
            else:
                said.type, said.type_name = said.TYPE_MESSAGE, f".{_PACKAGE}.{plain}"
            if name == "AnyValue":
                said.oneof_index = 0
    pool = DescriptorPool()
    pool.Add(file)
    found: type[Message] = GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Request"))
    return found


DetectedRequest: Final = _request()
"""The message class; its messages are read from the bytes of ``ExportTraceServiceRequest``."""
