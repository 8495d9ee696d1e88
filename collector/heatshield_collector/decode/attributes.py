"""Turns attribute lists, as protobuf's Arrow form has them, into two texts a row.

The form comes from ``list<struct<key, value: struct<string_value, bool_value, ...>>>``: flat arrays
with offsets, one entry an attribute, so every step here is one pass over a whole batch. What each
text means is told in ``model.py``.

Most rows share few *shapes* (their keys and kinds in order), so the key text is made once a shape:
each (key, kind) has a 64-bit weight, a row's shape is the sum of its weights multiplied by their
positions, and rows with the same sum share the text. Two different shapes have the same sum with a
chance of 2^-64, and but for that no weight shows in what is decoded.

The weights are a keyed hash of key and kind, and the hash's key is drawn once a process. With a
fixed one a sender could compute weights, and choose attribute keys whose sum is that of a shape of
other senders: rows of theirs in the same batch would be stored under the sender's keys.
"""

import json
import math
import secrets
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from heatshield_collector.decode.errors import DecodeError
from heatshield_collector.model import ESCAPE, SEPARATOR

__all__ = ["Attributes", "any_value_texts", "escaped", "flatten", "json_value", "plain_value"]

_KINDS: Final = {
    "string_value": "s",
    "int_value": "i",
    "double_value": "d",
    "bool_value": "b",
    "bytes_value": "x",
    "array_value": "j",
    "kvlist_value": "j",
}
_LETTERS: Final = "nsidbxj"
_MASKS: Final = {kinds: np.array([letter in kinds for letter in _LETTERS]) for kinds in ("s", "si")}
"""By kinds that are asked for, bool[7]: which of the letters are among them."""
_JOINT: Final = pa.scalar(SEPARATOR, pa.string())
_TRUE: Final = pa.scalar("true", pa.string())
_FALSE: Final = pa.scalar("false", pa.string())
"""Typed once: to guess the type of a Python value, pyarrow goes looking for modules each time."""
SHAPE_KEY: Final = secrets.token_bytes(32)
"""Of the hash that weights are made with."""

WEIGHTS_KEPT: Final = 4_096
"""Attribute keys whose weights are remembered; a platform has some hundred."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of ``rows`` rows, flat.

    Attributes:
        rows: how many rows they belong to.
        row: int64[n], the row of each attribute, ascending.
        key: int32[n], index into ``names`` of each attribute's key.
        names: the distinct keys of the batch.
        kind: uint8[n], index into ``nsidbxj`` of each value's kind.
        text: string[n], each value as text, separators escaped.
        offsets: int64[rows + 1], where each row's attributes start.
    """

    rows: int
    row: np.ndarray
    key: np.ndarray
    names: list[str]
    kind: np.ndarray
    text: pa.Array
    offsets: np.ndarray

    def keys_column(self, shape_key: bytes = SHAPE_KEY) -> pa.Array:
        """``attribute_keys``: string[rows].

        Args:
            shape_key: of the hash that tells shapes; senders must not know it.
        """
        if not len(self.key):
            return pa.repeat(pa.scalar("", pa.string()), self.rows)
        letters = len(_LETTERS)
        code = self.key.astype(np.int64) * letters + self.kind
        weights = np.frombuffer(
            b"".join(_weights(name, shape_key) for name in self.names), dtype="<u8"
        )
        position = np.arange(len(code), dtype=np.uint64) - self.offsets[self.row].astype(np.uint64)
        shapes = np.zeros(self.rows, dtype=np.uint64)
        filled = np.flatnonzero(np.diff(self.offsets))
        weighted = weights[code] * (2 * position + np.uint64(1))
        shapes[filled] = np.add.reduceat(weighted, self.offsets[filled])
        _, first, of_row = np.unique(shapes, return_index=True, return_inverse=True)
        texts = [self._shape_text(code[self.offsets[i] : self.offsets[i + 1]]) for i in first]
        return pa.array(texts, pa.string()).take(pa.array(of_row.reshape(-1)))

    def values_column(self) -> pa.Array:
        """``attribute_values``: string[rows]."""
        lists = pa.ListArray.from_arrays(pa.array(self.offsets, pa.int32()), self.text)
        return pc.binary_join(lists, _JOINT)

    def by_name(self) -> "Attributes":
        """The same, sorted by key in each row: equal sets have one text, whatever their order."""
        if not len(self.key):
            return self
        rank = np.empty(len(self.names), dtype=np.int64)
        rank[sorted(range(len(self.names)), key=self.names.__getitem__)] = np.arange(len(rank))
        order = np.lexsort((rank[self.key], self.row))
        return replace(
            self,
            key=self.key[order],
            kind=self.kind[order],
            text=self.text.take(pa.array(order)),
        )

    def first_of(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Where a key first stands in each row that has it.

        Returns:
            (rows, attributes): int64 arrays of the rows and of the attributes' indices.
        """
        try:
            wanted = self.names.index(name)
        except ValueError:
            empty = np.empty(0, dtype=np.int64)
            return empty, empty
        found = np.flatnonzero(self.key == wanted)
        rows = self.row[found]
        first = np.ones(len(rows), dtype=bool)
        first[1:] = rows[1:] != rows[:-1]
        return rows[first], found[first]

    def texts_of(self, name: str, kinds: str = "s") -> pa.Array:
        """The values of one attribute: string[rows], null where a row has none of these kinds."""
        rows, at = self.first_of(name)
        index = np.full(self.rows, -1, dtype=np.int64)
        wanted = _MASKS[kinds][self.kind[at]]
        index[rows[wanted]] = at[wanted]
        taken = self.text.take(pa.array(index, mask=index < 0))
        return _unescaped(taken) if len(rows) else taken

    def integers_of(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The values of one integer attribute.

        Returns:
            (values, present): int64[rows] with 0 where there is none, bool[rows].
        """
        values = np.zeros(self.rows, dtype=np.int64)
        present = np.zeros(self.rows, dtype=bool)
        rows, at = self.first_of(name)
        integer = self.kind[at] == _LETTERS.index("i")
        rows, at = rows[integer], at[integer]
        values[rows] = self.text.take(pa.array(at)).cast(pa.int64()).to_numpy()
        present[rows] = True
        return values, present

    def _shape_text(self, codes: np.ndarray) -> str:
        letters = len(_LETTERS)
        return SEPARATOR.join(
            f"{_LETTERS[code % letters]}:{_escape(self.names[code // letters])}"
            for code in codes.tolist()
        )


@lru_cache(WEIGHTS_KEPT)
def _weights(name: str, key: bytes) -> bytes:
    """Weights of an attribute key with each kind of value, 64 bits each in the order of kinds."""
    return blake2b(name.encode(), key=key, digest_size=8 * len(_LETTERS)).digest()


def flatten(lists: pa.ListArray) -> Attributes:
    """Take a column of attribute lists apart.

    Args:
        lists: ``list<struct<key, value>>`` as ptars makes it; one list a row, not sliced.
    """
    offsets = lists.offsets.to_numpy().astype(np.int64)
    entries = lists.values
    if entries.type.get_field_index("key") < 0:
        raise TypeError(f"not an attribute list: {entries.type}")
    keys = entries.field("key").dictionary_encode()
    text, kind = any_value_texts(entries.field("value"))
    return Attributes(
        rows=len(lists),
        row=np.repeat(np.arange(len(lists)), np.diff(offsets)),
        key=keys.indices.to_numpy(),
        names=keys.dictionary.to_pylist(),
        kind=kind,
        text=escaped(text),
        offsets=offsets,
    )


def any_value_texts(values: pa.StructArray) -> tuple[pa.Array, np.ndarray]:
    """The text and kind of each ``AnyValue``.

    Returns:
        string[n] without nulls and not yet escaped, and uint8[n], index into ``nsidbxj``.
    """
    kind = np.zeros(len(values), dtype=np.uint8)
    kind[_present(values, "string_value")] = _LETTERS.index("s")
    # Texts of all kinds one after the other, then each row takes its own: one pass for all of
    # them, where a replacement under a mask costs one for each kind.
    parts, total = [values.field("string_value")], len(values)
    taken = np.arange(total)
    for name, cast in (
        ("int_value", _integer_text),
        ("double_value", _double_text),
        ("bool_value", _bool_text),
        ("bytes_value", _bytes_text),
        ("array_value", _array_text),
        ("kvlist_value", _kvlist_text),
    ):
        present = _present(values, name)
        if present.any():
            kind[present] = _LETTERS.index(_KINDS[name])
            at = np.flatnonzero(present)
            parts.append(cast(values.field(name).take(pa.array(at))))
            taken[at] = np.arange(total, total + len(at))
            total += len(at)
    text = parts[0] if len(parts) == 1 else pa.concat_arrays(parts).take(pa.array(taken))
    return pc.fill_null(text, ""), kind


def _present(values: pa.StructArray, name: str) -> np.ndarray:
    valid = np.asarray(values.field(name).is_valid())
    if values.null_count:
        valid = valid & np.asarray(values.is_valid())
    return valid


def _integer_text(values: pa.Array) -> pa.Array:
    return values.cast(pa.string())


def _double_text(values: pa.Array) -> pa.Array:
    # Python's repr is the shortest text that reads back the same, also for nan and inf.
    return pa.array([repr(value) for value in values.to_pylist()], pa.string())


def _bool_text(values: pa.Array) -> pa.Array:
    return pc.if_else(values, _TRUE, _FALSE)


def _bytes_text(values: pa.Array) -> pa.Array:
    return pa.array([value.hex() for value in values.to_pylist()], pa.string())


def _array_text(values: pa.Array) -> pa.Array:
    # ptars leaves the members of a recursive field as bytes: rare, so protobuf's classes do.
    rows = values.field("values").to_pylist()
    return pa.array(
        [json.dumps([plain_value(_parse(AnyValue, item)) for item in row or ()]) for row in rows],
        pa.string(),
    )


def _kvlist_text(values: pa.Array) -> pa.Array:
    rows = values.field("values").to_pylist()
    return pa.array(
        [json.dumps(dict(_plain_member(item) for item in row or ())) for row in rows],
        pa.string(),
    )


def _plain_member(item: bytes | dict[str, Any]) -> tuple[str, Any]:
    """Name and value of a kvlist's member.

    Inside an attribute ptars leaves it as bytes; a log's body is no ``KeyValue`` itself, so there
    ptars goes one level further and leaves only the member's value as bytes.
    """
    if isinstance(item, dict):
        return item["key"], plain_value(_parse(AnyValue, item["value"] or b""))
    pair = _parse(KeyValue, item)
    return pair.key, plain_value(pair.value)


def _parse(kind: type[Message], item: bytes) -> Any:
    try:
        return kind.FromString(item)
    except ProtobufError as error:
        raise DecodeError(f"a nested attribute value is not valid: {error}") from error


def plain_value(value: AnyValue) -> Any:
    """A nested value as JSON can say it, see :func:`json_value`."""
    name = value.WhichOneof("value")
    if name == "array_value":
        return [plain_value(item) for item in value.array_value.values]
    if name == "kvlist_value":
        return {pair.key: plain_value(pair.value) for pair in value.kvlist_value.values}
    if name == "bytes_value":
        return {"bytes": value.bytes_value.hex()}
    return json_value(getattr(value, name)) if name in _KINDS else None


def json_value(value: Any) -> Any:
    """Doubles that JSON has no number for become text, spelled as in protobuf's JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _escape(text: str) -> str:
    return text.replace(ESCAPE, ESCAPE + "0").replace(SEPARATOR, ESCAPE + "1")


def escaped(texts: pa.Array) -> pa.Array:
    """The texts with each separator escaped."""
    if not _has_separator(texts):
        return texts
    return pc.replace_substring(
        pc.replace_substring(texts, ESCAPE, ESCAPE + "0"), SEPARATOR, ESCAPE + "1"
    )


def _unescaped(texts: pa.Array) -> pa.Array:
    if not _has_separator(texts):
        return texts
    return pc.replace_substring(
        pc.replace_substring(texts, ESCAPE + "1", SEPARATOR), ESCAPE + "0", ESCAPE
    )


def _has_separator(texts: pa.Array) -> bool:
    """Whether U+001E or U+001F stands anywhere: one pass over the bytes, not one for each text."""
    data = texts.buffers()[2]
    if data is None:
        return False
    return bool(((np.frombuffer(data, dtype=np.uint8) >> 1) == ord(ESCAPE) >> 1).any())
