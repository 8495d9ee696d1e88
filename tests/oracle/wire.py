"""Protobuf's wire format by hand, for what protobuf's own classes never write.

Source: the encoding page of Protocol Buffers' documentation.
"""

TRACE_ID = b"t" * 16
SPAN_ID = b"s" * 8


def varint(number: int) -> bytes:
    out = bytearray()
    while True:
        rest = number >> 7
        out.append(number & 0x7F | (0x80 if rest else 0))
        if not rest:
            return bytes(out)
        number = rest


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def fixed64(field: int, value: int) -> bytes:
    return varint(field << 3 | 1) + value.to_bytes(8, "little")


def nested(field: int, *parts: bytes) -> bytes:
    """A length-delimited field: text, bytes or a message."""
    body = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(body)) + body


def groups(depth: int, field: int = 1000) -> bytes:
    """Groups within groups, a wire type that OTLP doesn't use."""
    return varint(field << 3 | 3) * depth + varint(field << 3 | 4) * depth


def one_span(*fields: bytes, resource: bytes = b"", scope: bytes = b"") -> bytes:
    """A trace request with one span; ``fields`` follow its ids."""
    span = nested(2, nested(1, TRACE_ID), nested(2, SPAN_ID), *fields)
    return nested(1, resource, nested(2, scope, span))


def attribute(key: bytes, *values: bytes) -> bytes:
    """A span's attribute, its value written as often as values are given."""
    return nested(9, nested(1, key), *[nested(2, value) for value in values])


def text(value: bytes) -> bytes:
    return nested(1, value)


def integer(value: int) -> bytes:
    return number(3, value)


def array(*values: bytes) -> bytes:
    return nested(5, *[nested(1, value) for value in values])


def kvlist(*keys: bytes) -> bytes:
    return nested(6, *[nested(1, nested(1, key)) for key in keys])


def arrays_within(depth: int) -> bytes:
    value = integer(1)
    for _ in range(depth):
        value = array(value)
    return value
