"""Batches to payloads. A record that can't be encoded is dropped and counted, never its batch.

The resource is put on here and not where spans are made: a process that forked, or a tracer
provider that the service had set up itself, must still say which instance it is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from heatshield.counters import COUNTERS
from heatshield.export.logs import LogEvent
from heatshield.export.otlp import encode_logs, encode_spans
from heatshield.names import OTLP_LOGS_PATH, OTLP_TRACES_PATH
from heatshield.tracing.span import EndedSpan, Span
from heatshield.tracing.values import plain

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Payload", "encode"]


T = TypeVar("T")


class Payload(NamedTuple):
    """One OTLP request body."""

    path: str
    body: bytes
    records: int


def encode(
    spans: Sequence["EndedSpan"], logs: Sequence[LogEvent], resource: Mapping[str, str | int]
) -> list[Payload]:
    """One payload a signal, none for a signal without records.

    Args:
        spans: ours, or the SDK's ``ReadableSpan``.
        logs: log records.
        resource: what this process is.
    """
    payloads: list[Payload] = []
    if spans:
        payloads += _payload(OTLP_TRACES_PATH, spans, lambda rows: _spans(rows, resource))
    if logs:
        payloads += _payload(OTLP_LOGS_PATH, logs, lambda rows: encode_logs(rows, resource))
    return payloads


def _spans(rows: Sequence["EndedSpan"], resource: Mapping[str, str | int]) -> bytes:
    own = [row for row in rows if isinstance(row, Span)]
    body = encode_spans(own, resource) if own else b""
    if len(own) < len(rows):
        body += _foreign([row for row in rows if not isinstance(row, Span)], resource)
    return body


def _foreign(rows: Sequence["ReadableSpan"], resource: Mapping[str, str | int]) -> bytes:
    """Spans of the service's own provider, with what its resource says beside ours.

    Requests may be joined end to end: protobuf reads that as one with all their resources.
    """
    by_resource: dict[int, list[ReadableSpan]] = {}
    for row in rows:
        by_resource.setdefault(id(row.resource), []).append(row)
    return b"".join(
        encode_spans(
            [Span.read(row) for row in group],
            {**{k: plain(v) for k, v in group[0].resource.attributes.items()}, **resource},
        )
        for group in by_resource.values()
    )


def _payload(
    path: str, rows: Sequence[T], encoder: Callable[[Sequence[T]], bytes]
) -> Iterable[Payload]:
    try:
        return [Payload(path, encoder(rows), len(rows))]
    except Exception:  # noqa: BLE001  # a foreign span may hold anything
        if len(rows) == 1:
            COUNTERS.drop("not_encodable")
            return []
        half = len(rows) // 2
        return [*_payload(path, rows[:half], encoder), *_payload(path, rows[half:], encoder)]
