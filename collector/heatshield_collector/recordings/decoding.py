"""Decodes the pieces of a recording: a pure function, so that several processes can do it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import pyarrow as pa

from heatshield_collector.decode import DecodeError, decode_detected
from heatshield_collector.decode.otlp_json import BadSpanError, otlp_json_rows
from heatshield_collector.decode.span_columns import detected_table
from heatshield_collector.decode.zipkin import zipkin_rows
from heatshield_collector.recordings.compression import ZSTD_MAGIC
from heatshield_collector.recordings.framing import MAX_PIECE_BYTES
from heatshield_collector.recordings.problems import Problem
from heatshield_collector.recordings.sniff import Content

__all__ = ["Chunk", "Read", "decode"]

Rows = tuple[list[tuple[Any, ...]], list[str]]

TOLD_A_PIECE: Final = 3
"""Reasons that are told of one piece; the others are counted."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Pieces of one file that are decoded at once.

    Attributes:
        file: where they are from.
        content: of each.
        piece: what people call one.
        pieces: (number, bytes) of each.
    """

    file: str
    content: Content
    piece: str
    pieces: Sequence[tuple[int, bytes]]


@dataclass(slots=True)
class Read:
    """What came of a chunk.

    Attributes:
        table: ``span_columns.DETECTED``.
        problems: what was left out.
    """

    table: pa.Table
    problems: list[Problem] = field(default_factory=list)


def decode(chunk: Chunk) -> Read:
    """Decode a chunk; what is damaged in it is left out and told."""
    pieces = [(number, _inflated(piece)) for number, piece in chunk.pieces]
    if chunk.content == "protobuf":
        return _protobuf(chunk, pieces)
    return _json(chunk, pieces, otlp_json_rows if chunk.content == "otlp-json" else zipkin_rows)


def _inflated(piece: bytes) -> bytes:
    """The file exporter compresses each message by itself, where it compresses."""
    if piece[:4] != ZSTD_MAGIC:
        return piece
    try:
        with pa.CompressedInputStream(pa.BufferReader(piece), "zstd") as stream:
            return bytes(stream.read(MAX_PIECE_BYTES))
    except (OSError, pa.ArrowException):
        return piece  # which no format takes


def _protobuf(chunk: Chunk, pieces: list[tuple[int, bytes]]) -> Read:
    """All at once; where that fails each by itself, as one alone may be damaged."""
    bodies = [body for _, body in pieces]
    if any(body[:1] == b"{" for body in bodies):
        return _json(chunk, pieces, otlp_json_rows)
    try:
        table, left_out = decode_detected(bodies)
    except DecodeError as error:
        if len(pieces) == 1:
            number = pieces[0][0]
            problem = Problem(chunk.file, f"{chunk.piece} {number}", f"no OTLP request: {error}")
            return Read(detected_table([]), [problem])
        halves = pieces[: len(pieces) // 2], pieces[len(pieces) // 2 :]
        first, second = (_protobuf(chunk, half) for half in halves)
        return Read(
            pa.concat_tables([first.table, second.table]), [*first.problems, *second.problems]
        )
    problems = [
        Problem(
            chunk.file,
            f"{chunk.piece} {number}",
            f"{count} spans have no valid ids or times",
            count,
        )
        for (number, _), count in zip(pieces, left_out, strict=True)
        if count
    ]
    return Read(table, problems)


def _json(chunk: Chunk, pieces: list[tuple[int, bytes]], rows_of: Callable[[Any], Rows]) -> Read:
    tables: list[pa.Table] = []
    read = Read(detected_table([]))
    rows: list[tuple[Any, ...]] = []
    for number, body in pieces:
        place = f"{chunk.piece} {number}"
        try:
            found, bad = rows_of(orjson.loads(body))
        except orjson.JSONDecodeError as error:
            read.problems.append(Problem(chunk.file, place, f"not JSON: {error}"))
            continue
        except (BadSpanError, RecursionError) as error:
            read.problems.append(Problem(chunk.file, place, str(error)))
            continue
        read.problems += [Problem(chunk.file, place, one, 1) for one in bad[:TOLD_A_PIECE]]
        if more := len(bad[TOLD_A_PIECE:]):
            read.problems.append(Problem(chunk.file, place, f"{more} more spans are damaged", more))
        rows += found
    try:
        tables.append(detected_table(rows))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        tables += _one_by_one(chunk, rows, read)
    read.table = pa.concat_tables(tables) if len(tables) != 1 else tables[0]
    return read


def _one_by_one(chunk: Chunk, rows: list[tuple[Any, ...]], read: Read) -> list[pa.Table]:
    """The rows that are of the columns' types, as one of them is not."""
    tables = [detected_table([])]
    for row in rows:
        try:
            tables.append(detected_table([row]))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            first, last = chunk.pieces[0][0], chunk.pieces[-1][0]
            place = f"{chunk.piece}s {first} to {last}"
            read.problems.append(Problem(chunk.file, place, f"a span is damaged: {error}", 1))
    return tables
