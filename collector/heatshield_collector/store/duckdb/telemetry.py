"""Telemetry in the embedded store: written in one transaction a commit, found by request."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import pyarrow as pa

from heatshield_collector.model import LOGS, SPANS, attributes_of
from heatshield_collector.store.duckdb import attributes, metrics
from heatshield_collector.store.duckdb.database import Database
from heatshield_collector.store.duckdb.requests import INT64_MAX, find_requests
from heatshield_collector.store.protocol import (
    LogQuery,
    Operation,
    RequestQuery,
    Row,
    SampleQuery,
    SeriesQuery,
)

__all__ = ["Telemetry"]

_LOG_FIRST: Final = ("span_id", "service", "body", "attribute_values")

_LOG_ORDER: Final = ", ".join(
    f'"{name}"'
    for name in dict.fromkeys((*_LOG_FIRST, *LOGS.names))
    if name not in ("time_ns", "received_ns")
)
"""All that a log record's sender said but its time, by which records of one time are ordered."""

_LOG_ONCE: Final = (
    "SELECT * REPLACE (min(received_ns) AS received_ns) FROM logs WHERE {} GROUP BY ALL"
)
"""A second delivery differs in nothing but when it was received; the first stands."""

SERIES_KNOWN: Final = 100_000
"""Series that are known to be stored; with more all are forgotten and looked for again."""

RECORDED_ROWS: Final = 20_000
"""Spans of a recording that are read at once."""

LOGS_AROUND_NS: Final = 60 * 10**9
"""Log records of a request come in at most this long before and after its spans: they are sent
apart, by other exporters with other delays."""


class Telemetry:
    """Implements :class:`heatshield_collector.store.protocol.TelemetryStore` on an open file.

    Args:
        database: the file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._series: set[int] = set()
        self._resources = {row[0] for row in database.select("SELECT resource_id FROM resources")}

    def append(self, tables: Mapping[str, pa.Table]) -> None:
        """Write rows into the named tables in one transaction; durable on return."""
        with self._database.transaction():
            resources = _fresh(tables.get("resources"), "resource_id", self._resources)
            series = _fresh(tables.get("series"), "series_id", self._series)
            for name, rows in {**tables, "resources": resources, "series": series}.items():
                if rows is not None and rows.num_rows:
                    self._database.insert(name, rows, _UNKNOWN if name == "series" else "")
        self._resources.update(_ids(resources, "resource_id"))
        if len(self._series) > SERIES_KNOWN:
            self._series.clear()
        self._series.update(_ids(series, "series_id"))

    def requests(self, query: RequestQuery) -> Sequence[Row]:
        """Summaries of requests, newest first."""
        return find_requests(self._database, query)

    def spans_of(self, trace_id: bytes) -> Sequence[Row]:
        """Every span of a request once, by start, with its resource's attributes."""
        since, until = self._received(trace_id)
        rows = self._database.rows(
            """
            SELECT spans.*, resources.attribute_keys AS resource_keys,
                   resources.attribute_values AS resource_values
            FROM spans LEFT JOIN resources USING (resource_id)
            WHERE received_ns BETWEEN $since AND $until AND trace_id = $trace_id
            QUALIFY row_number() OVER (
                PARTITION BY span_id, kind, service ORDER BY received_ns, spans.rowid
            ) = 1
            ORDER BY start_ns, duration_ns DESC, span_id, kind, service
            """,
            {"since": since, "until": until, "trace_id": trace_id},
        )
        for row in rows:
            row["resource"] = attributes_of(row.pop("resource_keys"), row.pop("resource_values"))
        return rows

    def logs_of(self, trace_id: bytes) -> Sequence[Row]:
        """Every log record of a request, by time."""
        since, until = self._received(trace_id)
        if since > until:  # no span has come
            since, until = 0, INT64_MAX
        else:
            since, until = since - LOGS_AROUND_NS, until + LOGS_AROUND_NS
        return self._database.rows(
            _LOG_ONCE.format("received_ns BETWEEN $since AND $until AND trace_id = $trace_id")
            + f" ORDER BY time_ns, {_LOG_ORDER}",
            {"since": since, "until": until, "trace_id": trace_id},
        )

    def logs(self, query: LogQuery) -> Sequence[Row]:
        """Log records once each, by time."""
        where, values = _log_conditions(query)
        order = "DESC" if query.newest_first else "ASC"
        return self._database.rows(
            f"{_LOG_ONCE.format(where)} ORDER BY time_ns {order}, {_LOG_ORDER} LIMIT $limit",
            {**values, "limit": query.limit},
        )

    def newest_spans(self, limit: int) -> pa.Table:
        """What tells apart the spans that were written last."""
        ((last,),) = self._database.select("SELECT coalesce(max(rowid), -1) FROM spans")
        with self._database.reading() as cursor:  # by where they lie: times may have jumped
            return cursor.sql(
                "SELECT trace_id, span_id, kind, service FROM spans WHERE rowid > $after",
                params={"after": last - limit},
            ).to_arrow_table()

    def recorded_spans(self, since_ns: int, until_ns: int) -> Iterator[pa.Table]:
        """Spans that ended in a range of time, a table at a time."""
        with self._database.reading() as cursor:
            reader = cursor.sql(
                "SELECT * FROM spans "
                "WHERE start_ns <= $until AND start_ns + duration_ns BETWEEN $since AND $until",
                params={"since": since_ns, "until": until_ns},
            ).to_arrow_reader(RECORDED_ROWS)
            for batch in reader:
                yield pa.Table.from_batches([batch]).select(SPANS.names).cast(SPANS)

    def user_of(self, trace_id: bytes) -> tuple[str | None, int | None]:
        """Whose request it is, and by which rank of precedence that is known."""
        found = self._database.select(
            'SELECT "user", user_rank FROM request_parts '
            'WHERE trace_id = $trace_id AND "user" IS NOT NULL '
            'ORDER BY user_rank, "user" LIMIT 1',
            {"trace_id": trace_id},
        )
        return (found[0][0], found[0][1]) if found else (None, None)

    def users_like(self, user: str, limit: int) -> Sequence[str]:
        """Users of stored requests that are written most like this text, the most alike first."""
        found = self._database.select(
            'SELECT "user" FROM (SELECT DISTINCT "user" FROM request_parts) '
            'WHERE "user" IS NOT NULL '
            'ORDER BY jaro_winkler_similarity("user", $user) DESC, "user" LIMIT $limit',
            {"user": user, "limit": limit},
        )
        return [row[0] for row in found]

    def services(self, since_ns: int, until_ns: int) -> Sequence[str]:
        """Services with spans that began in a range of time, sorted."""
        found = self._database.select(
            "SELECT DISTINCT service FROM spans WHERE start_ns BETWEEN $since AND $until "
            "ORDER BY service",
            {"since": since_ns, "until": until_ns},
        )
        return [row[0] for row in found]

    def operations(self, service: str, since_ns: int, until_ns: int) -> Sequence[Operation]:
        """Operations of a service that began in a range of time, sorted."""
        found = self._database.select(
            "SELECT DISTINCT name, kind FROM spans "
            "WHERE start_ns BETWEEN $since AND $until AND service = $service ORDER BY name, kind",
            {"since": since_ns, "until": until_ns, "service": service},
        )
        return [Operation(*row) for row in found]

    def latest_samples(self, query: SampleQuery) -> Sequence[Row]:
        """The newest sample of each series that has one of the time asked for."""
        return metrics.latest_samples(self._database.rows, query)

    def series(self, query: SeriesQuery) -> Sequence[Row]:
        """Series with their samples in a range of time."""
        return metrics.series(self._database.rows, query)

    def label_names(self, since_ns: int, until_ns: int) -> Sequence[str]:
        """Names of labels of series with a sample in a range of time, sorted."""
        return metrics.label_names(self._database.rows, since_ns, until_ns)

    def label_values(self, name: str, since_ns: int, until_ns: int) -> Sequence[str]:
        """Values of a label among the series with a sample in a range of time, sorted."""
        return metrics.label_values(self._database.rows, name, since_ns, until_ns)

    def forget_known(self, resources: set[int] | None) -> None:
        """Look for series anew, and for resources but these, as retention let some go."""
        self._series.clear()
        if resources is not None:
            self._resources = resources

    @property
    def known_resources(self) -> int:
        """How many resources are stored."""
        return len(self._resources)

    def _received(self, trace_id: bytes) -> tuple[int, int]:
        """When parts of a request came in, so that few row groups of spans are read."""
        (row,) = self._database.select(
            "SELECT min(received_ns), max(last_received_ns) FROM request_parts "
            "WHERE trace_id = $trace_id",
            {"trace_id": trace_id},
        )
        return (row[0], row[1]) if row[0] is not None else (0, -1)


_UNKNOWN: Final = "WHERE series_id NOT IN (SELECT series_id FROM series)"


def _fresh(rows: pa.Table | None, column: str, known: AbstractSet[int]) -> pa.Table | None:
    """The first row of each id that is not known."""
    if rows is None:
        return None
    first: dict[int, int] = {}
    for row, one in enumerate(rows.column(column).to_pylist()):
        if one not in known:
            first.setdefault(one, row)
    return rows.take(pa.array(first.values(), pa.int64()))


def _ids(rows: pa.Table | None, column: str) -> list[int]:
    return [] if rows is None else rows.column(column).to_pylist()


def _log_conditions(query: LogQuery) -> tuple[str, dict[str, Any]]:
    conditions, values = attributes.condition(query.attributes)
    conditions.append("time_ns BETWEEN $since AND $until AND severity >= $severity")
    values |= {
        "since": query.since_ns,
        "until": query.until_ns,
        "severity": query.min_severity,
    }
    for column, value in (
        ("service", query.service),
        ("user", query.user),
        ("trace_id", query.trace_id),
    ):
        if value is not None:
            conditions.append(f'"{column}" = ${column}')
            values[column] = value
    if query.text:
        conditions.append("contains(lower(body), lower($text))")
        values["text"] = query.text
    return " AND ".join(conditions), values
