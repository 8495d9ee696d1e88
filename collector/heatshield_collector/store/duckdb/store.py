"""The embedded store: one DuckDB file, one transaction a commit."""

import errno
import threading
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from heatshield_collector.model import TABLES, attributes_of
from heatshield_collector.store.duckdb import retention
from heatshield_collector.store.duckdb.samples import latest_samples
from heatshield_collector.store.duckdb.schema import migrate
from heatshield_collector.store.protocol import (
    RequestQuery,
    Row,
    SampleQuery,
    StoreError,
    StoreFullError,
)

__all__ = ["DuckDBStore"]

INT64_MAX: Final = 2**63 - 1

FILE_NAME: Final = "heatshield.duckdb"

CHECKPOINT_THRESHOLD: Final = "256MB"
"""Log size at which DuckDB folds its write-ahead log into the file, and meanwhile commits nothing:
1.1 s for these half a million spans, 3.8 s for a gigabyte. What is in the log is in memory, too. At
DuckDB's default of 16 MB a steady 80,000 spans/s would checkpoint three times a second, at 0.2 to
0.4 s each."""

MEMORY_LIMIT: Final = "1GB"
"""Most memory for DuckDB's buffers. By default it keeps what it has read and written until it has
80 % of the machine's memory; beyond this limit it reads again, or spills beside the file."""

_REQUESTS: Final = f"""
    SELECT trace_id, max(end_ns) - min(start_ns) AS duration_ns, {retention.SUMMED}
    FROM request_parts
    WHERE start_ns BETWEEN $since AND $until
    GROUP BY trace_id
"""  # noqa: S608 - composed of the store's own texts

_INTERNAL: Final = ("end_ns", "user_rank", "received_ns", "last_received_ns")
"""Sums over parts that are not for readers."""

SERIES_KNOWN: Final = 100_000
"""Series that are known to be stored; with more all are forgotten and looked for again."""

LOGS_AROUND_NS: Final = 60 * 10**9
"""Log records of a request come in at most this long before and after its spans: they are sent
apart, by other exporters with other delays."""


class DuckDBStore:
    """Implements :class:`heatshield_collector.store.protocol.Store` on one DuckDB file.

    Args:
        folder: where the file lives; made if it is absent.
        limits: how long and how much is kept.
        threads: processors that DuckDB may use for one statement. A second one makes a commit of
            12,000 spans dearer and slower (2.9 against 2.1 µs a span), and takes what decoding
            needs; queries of several people at once use as many processors in either case.

    Raises:
        StoreError: when the folder can't be written, another process has the file, or it was
            written by a newer heatshield.
    """

    def __init__(
        self, folder: Path, limits: retention.Limits | None = None, threads: int = 1
    ) -> None:
        self._limits = limits or retention.Limits()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = duckdb.connect(
                str(folder / FILE_NAME),
                config={
                    "threads": threads,
                    "checkpoint_threshold": CHECKPOINT_THRESHOLD,
                    "memory_limit": MEMORY_LIMIT,
                },
            )
        except (OSError, duckdb.Error) as error:
            raise StoreError(f"can't open the store in {folder}: {error}") from error
        try:
            migrate(self._database)
        except (StoreError, duckdb.Error) as error:
            self._database.close()
            raise StoreError(f"can't open the store in {folder}: {error}") from error
        self._writing = threading.Lock()
        self._writer = self._database.cursor()
        self._folded_ns = 0
        self._series: set[int] = set()
        self._resources = {row[0] for row in self._select("SELECT resource_id FROM resources")}

    def append(self, tables: Mapping[str, pa.Table]) -> None:
        """Write rows into the named tables in one transaction; durable on return."""
        with self._transaction():
            resources = _fresh(tables.get("resources"), "resource_id", self._resources)
            series = _fresh(tables.get("series"), "series_id", self._series)
            for name, rows in {**tables, "resources": resources, "series": series}.items():
                if rows is not None and rows.num_rows:
                    self._insert(name, rows)
        self._resources.update(_ids(resources, "resource_id"))
        if len(self._series) > SERIES_KNOWN:
            self._series.clear()
        self._series.update(_ids(series, "series_id"))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of what is written in it, or nothing.

        Raises:
            StoreError: whatever went wrong; the next transaction starts clean.
        """
        with self._writing:
            try:
                self._writer.begin()
                yield
                self._writer.commit()
            except Exception as error:
                self._abandon()
                raise _store_error(error) from error

    def _insert(self, name: str, rows: pa.Table) -> None:
        if name not in TABLES:
            raise StoreError(f"there is no table {name!r}")
        stored = TABLES[name].names
        # What travels with rows for others on their way is not stored.
        rows = rows.select([column for column in rows.column_names if column in stored])
        self._writer.register("incoming", rows)
        unknown = "WHERE series_id NOT IN (SELECT series_id FROM series)"
        self._writer.execute(
            f'INSERT INTO "{name}" BY NAME SELECT * FROM incoming '  # noqa: S608 - a known table's name
            f"{unknown if name == 'series' else ''}"
        )
        self._writer.unregister("incoming")

    def _abandon(self) -> None:
        try:
            self._writer.rollback()
            # Not before: in a transaction that failed this fails too, and would hide why.
            self._writer.unregister("incoming")
        except duckdb.Error:
            # DuckDB ends some transactions itself; a new cursor starts clean in either case.
            self._writer = self._database.cursor()

    def requests(self, query: RequestQuery) -> Sequence[Row]:
        """Summaries of requests, newest first."""
        where, more = _request_conditions(query)
        rows = self._rows(
            f"SELECT * FROM ({_REQUESTS}) WHERE {where} "  # noqa: S608 - composed of this file's own texts, every value is bound
            "ORDER BY start_ns DESC, trace_id LIMIT $limit",
            {
                "since": query.since_ns,
                "until": query.until_ns,
                "limit": query.limit,
                **more,
            },
        )
        services = self._services_of(rows)
        return [
            {name: value for name, value in row.items() if name not in _INTERNAL}
            | {"services": services.get(row["trace_id"], [])}
            for row in rows
        ]

    def spans_of(self, trace_id: bytes) -> Sequence[Row]:
        """Every span of a request once, by start, with its resource's attributes."""
        since, until = self._received(trace_id)
        rows = self._rows(
            """
            SELECT spans.*, resources.attribute_keys AS resource_keys,
                   resources.attribute_values AS resource_values
            FROM spans LEFT JOIN resources USING (resource_id)
            WHERE received_ns BETWEEN $since AND $until AND trace_id = $trace_id
            QUALIFY row_number() OVER (
                PARTITION BY span_id, kind, service ORDER BY received_ns
            ) = 1
            ORDER BY start_ns, duration_ns DESC
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
        return self._rows(
            "SELECT DISTINCT ON (time_ns, span_id, service, body, attribute_values) * FROM logs "
            "WHERE received_ns BETWEEN $since AND $until AND trace_id = $trace_id ORDER BY time_ns",
            {"since": since, "until": until, "trace_id": trace_id},
        )

    def latest_samples(self, query: SampleQuery) -> Sequence[Row]:
        """The newest sample of each series that has one of the time asked for."""
        return latest_samples(self._rows, query)

    def user_of(self, trace_id: bytes) -> tuple[str | None, int | None]:
        """Whose request it is, and by which rank of precedence that is known."""
        found = self._select(
            'SELECT "user", user_rank FROM request_parts '
            'WHERE trace_id = $trace_id AND "user" IS NOT NULL ORDER BY user_rank LIMIT 1',
            {"trace_id": trace_id},
        )
        return (found[0][0], found[0][1]) if found else (None, None)

    def recent(self, table: str, limit: int) -> Sequence[Row]:
        """The newest rows of findings, alerts or audit, newest first."""
        if table not in ("findings", "alerts", "audit"):
            raise StoreError(f"{table!r} is not a journal")
        return self._rows(
            f"SELECT * FROM {table} ORDER BY at_ns DESC LIMIT $limit",  # noqa: S608 - one of three names
            {"limit": limit},
        )

    def next_epoch(self, at_least: int) -> int:
        """A number of at least this that is greater than any given before, durable on return."""
        with self._transaction():
            found = self._writer.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
            epoch = max(at_least, int(found[0]) + 1 if found else 1)
            self._writer.execute("DELETE FROM meta WHERE name = 'epoch'")
            self._writer.execute("INSERT INTO meta VALUES ('epoch', ?)", [epoch])
        return epoch

    def sizes(self) -> Mapping[str, int]:
        """Rows by table, and ``bytes`` in use on disk."""
        cursor = self._database.cursor()
        counts = {name: retention.count(cursor, name) for name in TABLES}
        return {**counts, "bytes": retention.used_bytes(cursor)}

    def expire(self, now_ns: int) -> int:
        """Fold old parts of requests into one row each and apply retention; rows let go."""
        with self._writing:
            cursor = self._database.cursor()
            try:
                self._folded_ns = retention.fold_requests(cursor, self._folded_ns, now_ns)
                gone = retention.expire(cursor, self._limits, now_ns)
                if gone:
                    retention.keep_used_series(cursor)
                    self._series.clear()
                if gone and len(self._resources) > retention.RESOURCES_MANY:
                    self._resources = retention.keep_used_resources(cursor)
            except duckdb.Error as error:
                raise _store_error(error) from error
            finally:
                cursor.close()
        return gone

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of it."""
        with self._writing:
            self._writer.close()
            self._database.close()

    def _services_of(self, requests: Sequence[Row]) -> dict[bytes, list[str]]:
        """Which services have spans of each request, sorted.

        One range of receive times for all, as a constant: only then few row groups are read.
        """
        if not requests:
            return {}
        found = self._select(
            "SELECT trace_id, list_sort(list(DISTINCT service)) FROM spans "
            "WHERE received_ns BETWEEN $since AND $until "
            "AND trace_id IN (SELECT unnest($traces)) GROUP BY trace_id",
            {
                "since": min(row["received_ns"] for row in requests),
                "until": max(row["last_received_ns"] for row in requests),
                "traces": [row["trace_id"] for row in requests],
            },
        )
        return dict(found)

    def _received(self, trace_id: bytes) -> tuple[int, int]:
        """When parts of a request came in, so that few row groups of spans are read."""
        (row,) = self._select(
            "SELECT min(received_ns), max(last_received_ns) FROM request_parts "
            "WHERE trace_id = $trace_id",
            {"trace_id": trace_id},
        )
        return (row[0], row[1]) if row[0] is not None else (0, -1)

    def _select(self, sql: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        cursor = self._database.cursor()
        try:
            return cursor.execute(sql, values or {}).fetchall()
        except duckdb.Error as error:
            raise _store_error(error) from error
        finally:
            cursor.close()

    def _rows(self, sql: str, values: dict[str, Any]) -> list[Row]:
        cursor = self._database.cursor()
        try:
            result = cursor.execute(sql, values)
            names = [column[0] for column in result.description]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        except duckdb.Error as error:
            raise _store_error(error) from error
        finally:
            cursor.close()


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


def _request_conditions(query: RequestQuery) -> tuple[str, dict[str, Any]]:
    conditions = ["duration_ns >= $min_duration"]
    values: dict[str, Any] = {"min_duration": query.min_duration_ns}
    if query.user is not None:
        conditions.append('"user" = $user')
        values["user"] = query.user
    if query.errors is not None:
        conditions.append("errors > 0" if query.errors else "errors = 0")
    spans = []
    if query.service is not None:
        spans.append("service = $service")
        values["service"] = query.service
    if query.call is not None:
        spans.append("name = $call")
        values["call"] = query.call
    if spans:
        conditions.append(
            "trace_id IN (SELECT trace_id FROM spans "  # noqa: S608 - every value is bound
            f"WHERE start_ns >= $since AND {' AND '.join(spans)})"
        )
    return " AND ".join(conditions), values


def _store_error(error: Exception) -> StoreError:
    text = str(error)
    full = "No space left" in text or "out of disk space" in text.lower()
    if full or getattr(error, "errno", None) == errno.ENOSPC:
        return StoreFullError(f"the store's disk is full: {text}")
    return StoreError(text)
