"""Reads what all signals share: resource -> scope -> record, three nested lists taken flat."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message

from heatshield.names import SERVICE_INSTANCE_ID, SERVICE_NAME
from heatshield_collector.decode.attributes import flatten
from heatshield_collector.decode.bounds import MAX_MEMBERS, check_repeated, has_too_many
from heatshield_collector.decode.errors import DecodeError
from heatshield_collector.decode.mending import mended
from heatshield_collector.model import ESCAPE, RESOURCES

__all__ = [
    "MAX_RESOURCES",
    "UNKNOWN_SERVICE",
    "Decoded",
    "Records",
    "int64",
    "parents",
    "read",
    "text_ids",
    "valid_ids",
    "within",
]

MAX_RESOURCES: Final = 10_000
"""Most resources of one payload, and most scopes in all of them. A sender has one resource, a relay
a few hundred; millions of empty ones, two bytes each, would hold up all others for seconds."""

UNKNOWN_SERVICE: Final = "unknown_service"
"""OpenTelemetry's default where a sender names no service."""

_JOINT: Final = pa.scalar(ESCAPE * 2, pa.string())
"""Between a resource's keys and values: two escapes stand in neither, so the boundary is sure."""

_EMPTY: Final = pa.scalar("", pa.string())

NO_ID: Final = pa.scalar(b"", pa.binary())

_LISTS: Final = {
    "spans": ("resource_spans", "scope_spans"),
    "log_records": ("resource_logs", "scope_logs"),
    "metrics": ("resource_metrics", "scope_metrics"),
}
"""What the lists around each signal's records are called, from the outside in."""

INT64_MAX: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of payloads said.

    Attributes:
        table: one row a record, with the schema of ``model.DECODED_SPANS``, ``LOGS`` or
            ``SAMPLES``.
        resources: one row a distinct resource of the batch, ``model.RESOURCES``.
        rejected: for each payload, how many of its records were left out as invalid.
        mended: for each payload, how many of its records have texts that were mended.
        series: one row a distinct series of the batch, ``model.SERIES``; of metrics alone.
    """

    table: pa.Table
    resources: pa.Table
    rejected: list[int]
    mended: list[int]
    series: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a batch, flat, with what their resource and scope say.

    Attributes:
        fields: the records themselves, a struct array of n.
        payload: int64[n], which payload each came in.
        service, instance, scope: string[n].
        resource_id: int64[n].
        resources: ``model.RESOURCES``.
        left_out, mended: for each payload, how many of its records are damaged and not among these,
            and how many have texts that were mended.
    """

    fields: pa.StructArray
    payload: np.ndarray
    service: pa.Array
    instance: pa.Array
    scope: pa.Array
    resource_id: pa.Array
    resources: pa.Table
    left_out: np.ndarray
    mended: list[int]


def read(request: type[Message], payloads: Sequence[bytes], signal: str) -> Records:
    """Parse payloads jointly and take their three nested lists flat.

    Args:
        request: protobuf's class of the export request.
        payloads: serialized requests.
        signal: ``spans``, ``log_records`` or ``metrics``, as the innermost list is called.

    Raises:
        DecodeError: when any payload is not such a request.
    """
    outer, inner = _LISTS[signal]
    payloads, left_out, touched = _checked(request, payloads, (outer, inner, signal))
    batch = _parse(request, payloads)
    by_payload = batch.column(outer)
    by_resource = by_payload.values.field(inner)
    by_scope = by_resource.values.field(signal)
    scope_of_record = parents(by_scope)
    resource_of_record = parents(by_resource)[scope_of_record]
    service, instance, resource_id, resources = _resources(by_payload.values.field("resource"))
    scope = _child(by_resource.values.field("scope"), "name", "")
    check_repeated(resource_of_record, (service, instance))
    check_repeated(scope_of_record, (scope,))
    of_record = pa.array(resource_of_record)
    return Records(
        fields=by_scope.values,
        payload=parents(by_payload)[resource_of_record],
        service=service.take(of_record),
        instance=instance.take(of_record),
        scope=scope.take(pa.array(scope_of_record)),
        resource_id=resource_id.take(of_record),
        resources=resources,
        left_out=np.array(left_out, dtype=np.int64),
        mended=touched,
    )


def _checked(
    request: type[Message], payloads: Sequence[bytes], lists: tuple[str, str, str]
) -> tuple[list[bytes], list[int], list[int]]:
    """The payloads once protobuf's own parser has accepted each of them, mended if need be.

    ptars parses groups, which OTLP doesn't have, by recursion without a limit: 400 kB of nested
    ones, 2 kB compressed, overflow its stack and end the process. Protobuf stops at 100 levels,
    and 0.4 µs a span is little for that and for one notion of what a valid payload is.
    """
    outer, inner, _ = lists
    sound, bad = list(payloads), {}
    left_out, touched = [0] * len(sound), [0] * len(sound)
    for index, payload in enumerate(payloads):
        if has_too_many(request.DESCRIPTOR, payload):
            bad[index] = f"more than {MAX_MEMBERS} records, attributes and other members"
            continue
        try:
            try:
                message = request.FromString(payload)
            except ProtobufError:
                saved = mended(request, lists, payload)
                message = request.FromString(saved.body)
                sound[index] = saved.body
                left_out[index], touched[index] = saved.left_out, saved.mended
        except ProtobufError as error:
            bad[index] = str(error)
        else:
            if _has_too_many_resources(getattr(message, outer), inner):
                bad[index] = f"more than {MAX_RESOURCES} resources or scopes in one request"
    if bad:
        raise DecodeError(next(iter(bad.values())), bad)
    return sound, left_out, touched


def _parse(request: type[Message], payloads: list[bytes]) -> pa.RecordBatch:
    """One row a payload."""
    try:
        return _handler(request.DESCRIPTOR).list_to_record_batch(payloads)
    except ValueError as error:
        raise DecodeError(str(error)) from error


def _has_too_many_resources(resources: Sequence[Message], inner: str) -> bool:
    if len(resources) > MAX_RESOURCES:
        return True
    return sum(len(getattr(resource, inner)) for resource in resources) > MAX_RESOURCES


@cache
def _handler(request: Descriptor) -> Any:
    return ptars.HandlerPool([request.file], ptars.PtarsConfig()).get_for_message(request)


def parents(lists: pa.ListArray) -> np.ndarray:
    """int64[n]: for each member of all lists, the index of the list it is in."""
    return np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))


def _child(parent: pa.StructArray, name: str, default: Any) -> pa.Array:
    """A field of a message that may be unset: its default where it is."""
    child = parent.field(name)
    if parent.null_count:
        child = pc.if_else(parent.is_valid(), child, pa.scalar(default, child.type))
    return child


def _resources(resource: pa.StructArray) -> tuple[pa.Array, pa.Array, pa.Array, pa.Table]:
    attributes = flatten(resource.field("attributes"))
    keys, values = attributes.keys_column(), attributes.values_column()
    if resource.null_count:
        keys = pc.if_else(resource.is_valid(), keys, _EMPTY)
        values = pc.if_else(resource.is_valid(), values, _EMPTY)
    distinct = pc.binary_join_element_wise(keys, values, _JOINT).dictionary_encode()
    ids = text_ids(distinct.dictionary)
    _, first = np.unique(distinct.indices.to_numpy(), return_index=True)
    table = pa.table([ids, keys.take(first), values.take(first)], schema=RESOURCES)
    service = pc.fill_null(attributes.texts_of(SERVICE_NAME), UNKNOWN_SERVICE)
    instance = pc.fill_null(attributes.texts_of(SERVICE_INSTANCE_ID), "")
    return service, instance, ids.take(distinct.indices), table


def text_ids(texts: pa.Array) -> pa.Array:
    """int64[n]: a hash of each text, the same in every process and release."""
    return pa.array(
        [
            int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
            for text in texts.to_pylist()
        ],
        pa.int64(),
    )


def valid_ids(ids: pa.Array, size: int) -> np.ndarray:
    """bool[n]: which of these byte strings have ``size`` bytes that are not all zero."""
    right = np.asarray(pc.equal(pc.binary_length(ids), pa.scalar(size, pa.int32())))
    valid: np.ndarray = right & np.asarray(pc.not_equal(ids, pa.scalar(bytes(size), ids.type)))
    return valid


def int64(values: pa.Array) -> np.ndarray:
    """Unsigned 64-bit numbers as int64[n], clamped at its maximum."""
    clamped: np.ndarray = np.minimum(values.to_numpy(), np.uint64(INT64_MAX))
    return clamped.astype(np.int64)


def within(values: pa.Array, highest: int) -> pa.Array:
    """An enumeration as int8[n]; what is outside 0..highest becomes 0, unspecified."""
    numbers = values.to_numpy()
    return pa.array(np.where((numbers >= 0) & (numbers <= highest), numbers, 0).astype(np.int8))
