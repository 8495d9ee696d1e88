"""What the collector asks of a store: small, so that a search cluster can stand behind it too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

__all__ = ["RequestQuery", "Row", "SampleQuery", "Store", "StoreError", "StoreFullError"]

Row = dict[str, Any]
"""One row by column name, as model.py names and types them."""


class StoreError(Exception):
    """The store could not do what it was asked; nothing of that batch is in it."""


class StoreFullError(StoreError):
    """There is no space left; the sender should try again later."""


@dataclass(frozen=True, slots=True)
class RequestQuery:
    """Which requests to list, newest first. ``None`` means any.

    Attributes:
        since_ns: earliest start, nanoseconds since the Unix epoch.
        until_ns: latest start.
        user: the acting user, exactly.
        service: a service that took part.
        call: name of a span in it.
        errors: only requests with (or without) a span in error.
        min_duration_ns: at least this long from first start to last end.
        limit: most rows to return.
    """

    since_ns: int
    until_ns: int
    user: str | None = None
    service: str | None = None
    call: str | None = None
    errors: bool | None = None
    min_duration_ns: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class SampleQuery:
    """Which series to read. ``None`` means any.

    Attributes:
        since_ns: a sample of theirs was received since then, nanoseconds since the Unix epoch.
        name: of the metric, exactly.
        service: exactly.
        limit: most series.
    """

    since_ns: int
    name: str | None = None
    service: str | None = None
    limit: int = 1_000


class Store(Protocol):
    """A place that keeps telemetry. Every method may be called from any thread."""

    def append(self, tables: Mapping[str, pa.Table]) -> None:
        """Write rows into the named tables in one transaction; they are durable on return.

        Args:
            tables: table name (as in ``model.TABLES``) to rows of its schema.

        Raises:
            StoreFullError: when the disk is full.
            StoreError: when anything else went wrong. In both cases nothing was written.
        """
        ...

    def requests(self, query: RequestQuery) -> Sequence[Row]:
        """Summaries: trace_id, start_ns, duration_ns, user, service, call, spans, errors, busy_ns,
        elements, services (list of names).
        """
        ...

    def spans_of(self, trace_id: bytes) -> Sequence[Row]:
        """Every span of a request once (re-deliveries removed), by start; SPANS' columns and
        ``resource`` (attributes of the resource).
        """
        ...

    def logs_of(self, trace_id: bytes) -> Sequence[Row]:
        """Every log record of a request, by time; LOGS' columns."""
        ...

    def latest_samples(self, query: SampleQuery) -> Sequence[Row]:
        """The newest sample of each series, by name, service and attributes; SERIES' columns and
        SAMPLES' but ``received_ns``, with ``exemplars`` a list, those of all samples since then,
        newest first.
        """
        ...

    def user_of(self, trace_id: bytes) -> tuple[str | None, int | None]:
        """Whose request it is, and by which rank of precedence that is known."""
        ...

    def recent(self, table: str, limit: int) -> Sequence[Row]:
        """The newest rows of ``findings``, ``alerts`` or ``audit``, newest first."""
        ...

    def next_epoch(self, at_least: int) -> int:
        """A number of at least this that is greater than any given before, durable on return."""
        ...

    def sizes(self) -> Mapping[str, int]:
        """Rows by table, and ``bytes`` on disk."""
        ...

    def expire(self, now_ns: int) -> int:
        """Apply retention by age and size; the number of rows let go."""
        ...

    def close(self) -> None:
        """Flush and let go of the file."""
        ...
