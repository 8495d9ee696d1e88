"""One DuckDB file: opening and migrating it, one writer's transactions, readers of their own."""

import errno
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from heatshield_collector.model import TABLES
from heatshield_collector.store.duckdb.schema import fill_services, migrate
from heatshield_collector.store.interrupt import QueryEndedError, current_interrupt
from heatshield_collector.store.protocol import Row, StoreError, StoreFullError

__all__ = ["Database", "store_error"]

FILE_NAME: Final = "heatshield.duckdb"

CHECKPOINT_THRESHOLD: Final = "256MB"
"""Log size at which DuckDB folds its write-ahead log into the file, and meanwhile commits nothing:
1.1 s for these half a million spans, 3.8 s for a gigabyte. What is in the log is in memory, too. At
DuckDB's default of 16 MB a steady 80,000 spans/s would checkpoint three times a second, at 0.2 to
0.4 s each."""

MEMORY_LIMIT: Final = "1GB"
"""Most memory for DuckDB's buffers. By default it keeps what it has read and written until it has
80 % of the machine's memory; beyond this limit it reads again, or spills beside the file."""

QUERY_MEMORY: Final = "64MB"
"""Most memory that one asker's query keeps for what it sorts and groups. What it has beyond lies in
the buffers that all share, and is spilled when a commit needs them: with four that sorted 500 MB
each, in a pool of 500 MB, no commit of 20,000 rows failed."""

MAX_ROWS: Final = 200_000
"""Most rows of one query: each is some kB of Python where it is a span."""

_FETCHED_ROWS: Final = 5_000
"""Rows that are made Python's at once; between them a query can be ended."""


class Database:
    """An open file.

    Args:
        folder: where the file lives; made if it is absent.
        threads: processors that DuckDB may use for one statement. A second one makes a commit of
            12,000 spans dearer and slower (2.9 against 2.1 µs a span), and takes what decoding
            needs; several queries at once use as many processors in either case.

    Raises:
        StoreError: when the folder can't be written, another process has the file, or it was
            written by a newer heatshield.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = duckdb.connect(
                str(folder / FILE_NAME),
                config={
                    "threads": threads,
                    "checkpoint_threshold": CHECKPOINT_THRESHOLD,
                    "memory_limit": MEMORY_LIMIT,
                },
            )
        except (OSError, duckdb.Error) as error:
            raise StoreError(f"can't open the store in {folder}: {_cause(error)}") from error
        try:
            migrate(self._connection)
            fill_services(self._connection)
        except (StoreError, duckdb.Error) as error:
            self._connection.close()
            raise StoreError(f"can't open the store in {folder}: {error}") from error
        self._writing = threading.Lock()
        self._writer = self._connection.cursor()

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """All of what is written on the cursor in the block, or nothing.

        Raises:
            StoreError: whatever went wrong; the next transaction starts clean.
        """
        with self._writing:
            try:
                self._writer.begin()
                yield self._writer
                self._writer.commit()
            except Exception as error:
                self._abandon()
                raise store_error(error) from error

    @contextmanager
    def maintenance(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor for statements that begin and end transactions themselves, while no other writer
        does anything.

        Raises:
            StoreError: when DuckDB refuses one.
        """
        with self._writing:
            cursor = self._connection.cursor()
            try:
                yield cursor
            except duckdb.Error as error:
                raise store_error(error) from error
            finally:
                cursor.close()

    def insert(self, name: str, rows: pa.Table, where: str = "") -> None:
        """Insert rows by column name, within a transaction; columns not stored are left out.

        Args:
            name: of a table in ``model.TABLES``.
            rows: of its schema, or with further columns.
            where: which rows of ``incoming``, as SQL of the store's own.
        """
        if name not in TABLES:
            raise StoreError(f"there is no table {name!r}")
        stored = TABLES[name].names
        rows = rows.select([column for column in rows.column_names if column in stored])
        self._writer.register("incoming", rows)
        self._writer.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM incoming {where}')  # noqa: S608 - a known table's name
        self._writer.unregister("incoming")

    def _abandon(self) -> None:
        try:
            self._writer.rollback()
            # Not before: in a transaction that failed this fails too, and would hide why.
            self._writer.unregister("incoming")
        except duckdb.Error:
            # DuckDB ends some transactions itself; a new cursor starts clean in either case.
            self._writer = self._connection.cursor()

    def select(self, sql: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a query as tuples; every value is bound."""
        with self.reading() as cursor:
            return _fetched(cursor.execute(sql, values or {}))

    def rows(self, sql: str, values: Mapping[str, Any]) -> list[Row]:
        """Rows of a query by column name; every value is bound."""
        with self.reading() as cursor:
            result = cursor.execute(sql, values)
            names = [column[0] for column in result.description]
            return [dict(zip(names, row, strict=True)) for row in _fetched(result)]

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of its own, which no writer holds up. An asker's queries, which may be ended,
        have a bound on their memory as well: commits need what they would take.

        Raises:
            QueryEndedError: the asker no longer waits.
            StoreError: when DuckDB refuses a statement.
        """
        interrupt = current_interrupt()
        cursor = self._connection.cursor()
        try:
            if interrupt is None:
                yield cursor
            else:
                with interrupt.stops(cursor.interrupt):
                    cursor.execute(f"SET operator_memory_limit = '{QUERY_MEMORY}'")
                    yield cursor
        except duckdb.InterruptException as error:
            raise QueryEndedError("the query was ended") from error
        except duckdb.Error as error:
            raise store_error(error) from error
        finally:
            cursor.close()

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of it."""
        with self._writing:
            self._writer.close()
            self._connection.close()


def _fetched(result: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """The rows of a result; an asker's are bounded, and end when the asker has left."""
    interrupt = current_interrupt()
    if interrupt is None:
        return result.fetchall()
    rows: list[tuple[Any, ...]] = []
    while some := result.fetchmany(_FETCHED_ROWS):
        interrupt.check()
        rows += some
        if len(rows) > MAX_ROWS:
            raise StoreError(f"the answer has more than {MAX_ROWS} rows; ask for less")
    return rows


def _cause(error: Exception) -> str:
    """What is wrong with a folder, in words."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename} is a file, and a folder is needed (--data DIR)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


def store_error(error: Exception) -> StoreError:
    """What went wrong in the protocol's words: a full disk is told from the rest."""
    text = str(error)
    full = "No space left" in text or "out of disk space" in text.lower()
    if full or getattr(error, "errno", None) == errno.ENOSPC:
        return StoreFullError(f"the store's disk is full: {text}")
    return StoreError(text)
