"""asyncpg: a span a statement, with the rows it reads or writes; also of pools, copies and cursors.

A cursor is one statement and one span, however many pages it fetches.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from heatshield.integrations.databases.sql_statements import Statement, Statements
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "asyncpg"

_STATEMENTS: Final = Statements(NAME, OtelContrib("asyncpg", "AsyncPGInstrumentor"))
_PATCHES: Final = Patches()
_SYSTEM: Final = "postgresql"

_WHOSE: Final[WeakKeyDictionary[Any, Mapping[str, Any]]] = WeakKeyDictionary()
"""What spans say of a connection."""


def install(_services: Services) -> None:
    """Patch connections, prepared statements and cursors; replaces an earlier patch.

    Raises:
        ImportError: if asyncpg is not installed.
    """
    from asyncpg import cursor
    from asyncpg.connection import Connection
    from asyncpg.prepared_stmt import PreparedStatement

    _PATCHES.undo()
    around = _STATEMENTS.around_async
    for name, rows in _READS.items():
        _PATCHES.wrap(Connection, name, around(_begin, rows))
        _PATCHES.wrap(PreparedStatement, name, around(_begin_prepared, rows))
    _PATCHES.wrap(Connection, "execute", around(_begin, _rows_by_status))
    for name in ("_copy_in", "_copy_out"):
        _PATCHES.wrap(Connection, name, around(_begin, _rows_by_status))
    _PATCHES.wrap(Connection, "copy_records_to_table", around(_begin_copy, _rows_by_status))
    _PATCHES.wrap(Connection, "executemany", around(_begin_many, _rows_sent))
    _PATCHES.wrap(Connection, "fetchmany", around(_begin_many, _rows_fetched))
    _PATCHES.wrap(PreparedStatement, "executemany", around(_begin_prepared_many, _rows_sent))
    _PATCHES.wrap(PreparedStatement, "fetchmany", around(_begin_prepared_many, _rows_fetched))
    for name in ("Cursor", "CursorIterator"):
        _PATCHES.wrap(cursor, name, _traced_cursor)


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()


# -- statements ------------------------------------------------------------------------------------


def _begin(connection: Any, query: str, *_args: Any, **_kwargs: Any) -> Statement | None:
    if query == getattr(connection, "_reset_query", None):
        return None  # a pool cleans up; that is nobody's statement
    return _STATEMENTS.open(query, _whose(connection), system=_SYSTEM)


def _begin_many(
    connection: Any, query: str, args: Iterable[Any] = (), *_args: Any, **_kwargs: Any
) -> Statement | None:
    return _STATEMENTS.open(query, _whose(connection), system=_SYSTEM, batch=_length(args))


def _begin_copy(connection: Any, table_name: str, *_args: Any, **kwargs: Any) -> Statement | None:
    parts = [part for part in (kwargs.get("schema_name"), table_name) if part]
    table = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
    return _begin(connection, f"COPY {table} FROM STDIN")


def _begin_prepared(prepared: Any, *_args: Any, **_kwargs: Any) -> Statement | None:
    connection = prepared._connection  # noqa: SLF001  # nothing public leads to it
    return _STATEMENTS.open(prepared.get_query(), _whose(connection), system=_SYSTEM)


def _begin_prepared_many(
    prepared: Any, args: Iterable[Any] = (), *_args: Any, **_kwargs: Any
) -> Statement | None:
    connection = prepared._connection  # noqa: SLF001  # nothing public leads to it
    return _STATEMENTS.open(
        prepared.get_query(), _whose(connection), system=_SYSTEM, batch=_length(args)
    )


def _whose(connection: Any) -> Mapping[str, Any]:
    known = _WHOSE.get(connection)
    if known is None:
        found: dict[str, Any] = {"db.system.name": _SYSTEM}
        parameters = getattr(connection, "_params", None)
        if parameters is not None and parameters.database:
            found["db.namespace"] = parameters.database
        address = getattr(connection, "_addr", None)
        if isinstance(address, tuple):
            found["server.address"], found["server.port"] = address[:2]
        elif isinstance(address, str):  # a socket of Unix
            found["server.address"] = address
        _WHOSE[connection] = known = found
    return known


# -- rows ------------------------------------------------------------------------------------------


def _rows_fetched(_statement: Statement, records: Any, *_args: Any) -> int:
    return len(records)


def _row_fetched(_statement: Statement, record: Any, *_args: Any) -> int:
    return record is not None


def _rows_by_status(_statement: Statement, status: Any, *_args: Any) -> int:
    """From ``INSERT 0 5``, ``UPDATE 3``, ``COPY 7``."""
    last = status.rpartition(" ")[2] if isinstance(status, str) else ""
    return int(last) if last.isdecimal() else 0


def _rows_sent(_statement: Statement, _result: None, *args: Any) -> int:
    """As many as there are parameters: the server's counts are not kept by asyncpg."""
    return max(map(_length, args[1:]), default=0)


def _length(values: Any) -> int:
    return len(values) if isinstance(values, list | tuple) else 0


_READS: Final[Mapping[str, Callable[..., int]]] = {
    "fetch": _rows_fetched,
    "fetchval": _row_fetched,
    "fetchrow": _row_fetched,
}


# -- cursors ---------------------------------------------------------------------------------------


def _traced_cursor(original: Any) -> Any:
    """A subclass: asyncpg's cursors have no place to keep a statement in."""

    class Traced(original):  # type: ignore[misc]  # known at run time only
        """One statement, read page by page."""

        __slots__ = ("_heatshield",)

        async def _bind(self, timeout: Any) -> Any:  # noqa: ASYNC109  # asyncpg's signature
            return await self._in_span(super()._bind(timeout), 0, begins=True)

        async def _bind_exec(self, n: int, timeout: Any) -> Any:  # noqa: ASYNC109  # same
            return await self._in_span(super()._bind_exec(n, timeout), n, begins=True)

        async def _exec(self, n: int, timeout: Any) -> Any:  # noqa: ASYNC109  # same
            return await self._in_span(super()._exec(n, timeout), n)

        async def _in_span(self, work: Awaitable[Any], n: int, *, begins: bool = False) -> Any:
            if begins:
                self._heatshield = _STATEMENTS.begun(_begin, self._connection, self._query)
            statement = getattr(self, "_heatshield", None)
            if statement is None:
                return await work
            if not begins:
                statement.resume()
            try:
                records = await work
            except BaseException as error:
                statement.fail(error)
                raise
            if n and len(records) < n:
                statement.end(len(records))
            else:
                statement.pause(len(records) if n else 0)
            return records

    Traced.__name__ = Traced.__qualname__ = original.__name__
    Traced.__module__ = original.__module__
    return Traced
