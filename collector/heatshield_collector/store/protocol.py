"""What the collector asks of a store, in two small protocols that a search cluster can fulfil too.

:class:`TelemetryStore` keeps what services send and answers what people ask of it.
:class:`ControlStore` keeps what the collector itself decided. The embedded store implements both on
one file; at scale they live apart. Times are handed in: no store looks at a clock to answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa

from heatshield.call_key import CallKey
from heatshield.clock import Instant
from heatshield_alerts.matchers import Matcher

__all__ = [
    "INSTANCE_LABEL",
    "JOURNALS",
    "NAME_LABEL",
    "SERVICE_LABEL",
    "Baseline",
    "ControlStore",
    "FindingQuery",
    "KeptMode",
    "LogQuery",
    "Operation",
    "RequestQuery",
    "Row",
    "SampleQuery",
    "SeriesQuery",
    "Store",
    "StoreError",
    "StoreFullError",
    "TelemetryStore",
]  # fmt: skip

Row = dict[str, Any]
"""One row by column name, as model.py names and types them."""

JOURNALS: Final = ("findings", "alerts", "audit")
"""Tables of what the collector decided."""

NAME_LABEL: Final = "__name__"
SERVICE_LABEL: Final = "service"
INSTANCE_LABEL: Final = "instance"
"""Labels that every series has beside its attributes: its metric's name, its service and instance.
An attribute of one of these names is hidden by them."""


class StoreError(Exception):
    """The store could not do what it was asked; nothing of that batch is in it."""


class StoreFullError(StoreError):
    """There is no space left; the sender should try again later."""


@dataclass(frozen=True, slots=True)
class RequestQuery:
    """Which requests to list, newest first. ``None`` and empty mean any.

    Attributes:
        since_ns: earliest start of the request, nanoseconds since the Unix epoch.
        until_ns: latest start.
        user: the acting user, exactly.
        service: a service that took part.
        call: name of a span in it; of that service, where both are given.
        leave_out: a service, requests that began in which are left out.
        errors: only requests with (or without) a span in error.
        min_duration_ns: at least this long from first start to last end.
        max_duration_ns: at most this long.
        attributes: names and values, as text, that one span of it (the one of ``service`` and
            ``call``, where they are given) or that span's resource has.
        limit: most rows to return.
    """

    since_ns: int
    until_ns: int
    user: str | None = None
    service: str | None = None
    call: str | None = None
    leave_out: str | None = None
    errors: bool | None = None
    min_duration_ns: int = 0
    max_duration_ns: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    limit: int = 50


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which log records to list. ``None`` and empty mean any.

    Attributes:
        since_ns: earliest time of a record, nanoseconds since the Unix epoch.
        until_ns: latest time.
        service: exactly.
        user: exactly.
        trace_id: of the request it belongs to.
        min_severity: OTLP's SeverityNumber, at least.
        text: what its body contains, whatever the case of letters.
        attributes: names and values, as text, that it or its resource has.
        newest_first: else the oldest come first.
        limit: most rows to return.
    """

    since_ns: int
    until_ns: int
    service: str | None = None
    user: str | None = None
    trace_id: bytes | None = None
    min_severity: int = 0
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    newest_first: bool = True
    limit: int = 100


@dataclass(frozen=True, slots=True)
class SampleQuery:
    """Which series to read the newest sample of. ``None`` means any.

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


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """Which series to read over a range of time.

    Attributes:
        since_ns: earliest time of a sample, nanoseconds since the Unix epoch.
        until_ns: latest time.
        matchers: tests of labels, all of which a series passes: :data:`NAME_LABEL`,
            :data:`SERVICE_LABEL`, :data:`INSTANCE_LABEL` and attributes by name, as text.
        limit: most series.
    """

    since_ns: int
    until_ns: int
    matchers: Sequence[Matcher] = ()
    limit: int = 1_000


@dataclass(frozen=True, slots=True)
class FindingQuery:
    """Which findings to list. ``None`` and empty mean any.

    Attributes:
        klass: the class that it had last.
        user: exactly.
        service: exactly.
        leave_out: ids of findings that are not listed.
        limit: most rows to return.
    """

    klass: str | None = None
    user: str | None = None
    service: str | None = None
    leave_out: Sequence[str] = ()
    limit: int = 50


@dataclass(frozen=True, slots=True, order=True)
class Operation:
    """One operation of a service: a span's name, and OTLP's SpanKind."""

    name: str
    kind: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """A user's usual load on a call, kept over restarts.

    Attributes:
        key: the user on the call.
        load: busy seconds per second.
        at_ns: when it was measured, nanoseconds since the Unix epoch.
    """

    key: CallKey
    load: float
    at_ns: int


@dataclass(frozen=True, slots=True)
class KeptMode:
    """The platform's mode as a person set it, kept over restarts.

    Attributes:
        mode: ``shadow`` or ``protect``.
        configured: what the settings said then. Settings that say something else by now were
            changed later, and go before it.
        at_ns: when it was set, nanoseconds since the Unix epoch.
        by: who set it.
    """

    mode: str
    configured: str
    at_ns: int
    by: str


class TelemetryStore(Protocol):
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
        elements, services (list of names); newest first, of one start by trace id.
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

    def logs(self, query: LogQuery) -> Sequence[Row]:
        """Log records once each (re-deliveries removed), by time, those of one time by span,
        service, body, values, then the columns in their order; LOGS' columns.
        """
        ...

    def newest_spans(self, limit: int) -> pa.Table:
        """What tells apart the spans that were written last: trace_id, span_id, kind and service of
        at most so many, in no order.
        """
        ...

    def recorded_spans(self, since_ns: int, until_ns: int) -> Iterator[pa.Table]:
        """Spans that ended in a range of time, in no order and as often as they were delivered;
        tables of some thousand rows, SPANS' columns.

        Raises:
            StoreError: when they can't be read.
        """
        ...

    def user_of(self, trace_id: bytes) -> tuple[str | None, int | None]:
        """Whose request it is, and by which rank of precedence that is known: the user of the
        lowest rank, of several of one rank the first by name.
        """
        ...

    def users_like(self, user: str, limit: int) -> Sequence[str]:
        """Users of stored requests that are written most like this text, the most alike first."""
        ...

    def services(self, since_ns: int, until_ns: int) -> Sequence[str]:
        """Services with spans that began in a range of time, sorted."""
        ...

    def operations(self, service: str, since_ns: int, until_ns: int) -> Sequence[Operation]:
        """Operations of a service that began in a range of time, sorted."""
        ...

    def latest_samples(self, query: SampleQuery) -> Sequence[Row]:
        """The newest sample of each series, by name, service and attributes; SERIES' columns and
        SAMPLES' but ``received_ns``, with ``exemplars`` a list, those of all samples since then,
        newest first.
        """
        ...

    def series(self, query: SeriesQuery) -> Sequence[Row]:
        """Series by name, service, attributes and instance: SERIES' columns and ``samples``, the
        rows of SAMPLES in the range once each, by time. Series without such a sample are left out.
        """
        ...

    def label_names(self, since_ns: int, until_ns: int) -> Sequence[str]:
        """Names of labels of series with a sample in a range of time, sorted."""
        ...

    def label_values(self, name: str, since_ns: int, until_ns: int) -> Sequence[str]:
        """Values of a label among the series with a sample in a range of time, sorted."""
        ...


class ControlStore(Protocol):
    """A place that keeps what the collector decided. Every method may be called from any thread."""

    def record(self, journals: Mapping[str, pa.Table]) -> None:
        """Write rows of :data:`JOURNALS` in one transaction; durable on return.

        Args:
            journals: table name to rows of its schema.

        Raises:
            StoreFullError: when the disk is full.
            StoreError: when anything else went wrong. In both cases nothing was written.
        """
        ...

    def keep(self, kind: str, changed: Mapping[str, str | None]) -> None:
        """Keep small texts of one kind for the next start; each replaces what its key had. Durable
        on return.

        Args:
            kind: such as ``alert``.
            changed: texts by key; ``None``: the key has none any longer.

        Raises:
            StoreError: when it could not; then nothing has changed.
        """
        ...

    def kept(self, kind: str) -> Mapping[str, str]:
        """What was kept of one kind, by key, sorted by it."""
        ...

    def recent(self, table: str, limit: int) -> Sequence[Row]:
        """The newest rows of ``findings``, ``alerts`` or ``audit``, newest first.

        Raises:
            StoreError: when there is no such journal.
        """
        ...

    def findings(self, query: FindingQuery) -> Sequence[Row]:
        """FINDINGS' columns: of each finding the row that was written last, by when the findings
        were opened, newest first.
        """
        ...

    def next_epoch(self, at_least: int) -> int:
        """A number of at least this that is greater than any given before, durable on return."""
        ...

    def keep_mode(self, kept: KeptMode) -> None:
        """Keep the platform's mode over a restart, in place of what was kept. Durable on return."""
        ...

    def kept_mode(self) -> KeptMode | None:
        """The mode that was kept last; ``None``: a person has set none yet."""
        ...

    def keep_baselines(self, baselines: Sequence[Baseline]) -> None:
        """Keep these; each replaces what its key had. Durable on return."""
        ...

    def baselines(self) -> Sequence[Baseline]:
        """What was kept, one a key, sorted by the key's text."""
        ...


class Store(TelemetryStore, ControlStore, Protocol):
    """Both in one, and what its owner asks of it."""

    def sizes(self) -> Mapping[str, int]:
        """Rows by table, and ``bytes`` on disk. It counts every table: not for each scrape."""
        ...

    def used_bytes(self) -> int:
        """Bytes in use on disk, told in a time that does not depend on how many rows there are."""
        ...

    def expire(self, now: Instant) -> int:
        """Apply retention by age and size; the number of rows let go. While the wall clock has just
        jumped nothing is let go by its age.
        """
        ...

    def close(self) -> None:
        """Flush and let go of the file."""
        ...
