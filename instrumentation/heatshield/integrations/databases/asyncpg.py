"""asyncpg: a span a statement, with the rows it reads or writes; also of pools, copies and cursors.

A cursor is one statement and one span, however many pages it fetches.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, cast
from weakref import WeakKeyDictionary

from heatshield.integrations.databases.sql_statements import Statement, Statements
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services
from heatshield.tracing.values import Attributes, Plain

__all__ = ["NAME", "install", "remove"]

NAME: Final = "asyncpg"

_STATEMENTS: Final = Statements(NAME, OtelContrib("asyncpg", "AsyncPGInstrumentor"))
_PATCHES: Final = Patches()
_SYSTEM: Final = "postgresql"

_CONNECTIONS: Final[WeakKeyDictionary[object, Attributes]] = WeakKeyDictionary()
"""What spans say of a connection."""


class _Prepared(Protocol):
    """What is used of a prepared statement."""

    _connection: object

    def get_query(self) -> str: ...


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


def _begin(connection: object, query: str, *_args: object, **_kwargs: object) -> Statement | None:
    if query == getattr(connection, "_reset_query", None):
        return None  # a pool cleans up; no user's statement
    return _STATEMENTS.open(query, _attributes_of(connection), system=_SYSTEM)


def _begin_many(
    connection: object,
    query: str,
    args: Iterable[object] = (),
    *_args: object,
    **_kwargs: object,
) -> Statement | None:
    return _STATEMENTS.open(query, _attributes_of(connection), system=_SYSTEM, batch=_length(args))


def _begin_copy(
    connection: object, table_name: str, *_args: object, **kwargs: object
) -> Statement | None:
    schema = cast("str | None", kwargs.get("schema_name"))
    parts = [part for part in (schema, table_name) if part]
    table = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
    return _begin(connection, f"COPY {table} FROM STDIN")


def _begin_prepared(prepared: _Prepared, *_args: object, **_kwargs: object) -> Statement | None:
    connection = prepared._connection  # noqa: SLF001  # nothing public leads to it
    return _STATEMENTS.open(prepared.get_query(), _attributes_of(connection), system=_SYSTEM)


def _begin_prepared_many(
    prepared: _Prepared, args: Iterable[object] = (), *_args: object, **_kwargs: object
) -> Statement | None:
    connection = prepared._connection  # noqa: SLF001  # nothing public leads to it
    return _STATEMENTS.open(
        prepared.get_query(), _attributes_of(connection), system=_SYSTEM, batch=_length(args)
    )


def _attributes_of(connection: object) -> Mapping[str, Plain]:
    known = _CONNECTIONS.get(connection)
    if known is None:
        found: Attributes = {"db.system.name": _SYSTEM}
        parameters = getattr(connection, "_params", None)
        if parameters is not None and parameters.database:
            found["db.namespace"] = parameters.database
        address = getattr(connection, "_addr", None)
        if isinstance(address, tuple):
            found["server.address"], found["server.port"] = address[:2]
        elif isinstance(address, str):  # a socket of Unix
            found["server.address"] = address
        _CONNECTIONS[connection] = known = found
    return known


# -- rows ------------------------------------------------------------------------------------------


def _rows_fetched(_statement: Statement, records: Sequence[object], *_args: object) -> int:
    return len(records)


def _row_fetched(_statement: Statement, record: object, *_args: object) -> int:
    return record is not None


def _rows_by_status(_statement: Statement, status: object, *_args: object) -> int:
    """From ``INSERT 0 5``, ``UPDATE 3``, ``COPY 7``."""
    last = status.rpartition(" ")[2] if isinstance(status, str) else ""
    return int(last) if last.isdecimal() else 0


def _rows_sent(_statement: Statement, _result: None, *args: object) -> int:
    """As many as there are parameters: the server's counts are not kept by asyncpg."""
    return max(map(_length, args[1:]), default=0)


def _length(values: object) -> int:
    return len(values) if isinstance(values, list | tuple) else 0


_READS: Final[Mapping[str, Callable[..., int]]] = {
    "fetch": _rows_fetched,
    "fetchval": _row_fetched,
    "fetchrow": _row_fetched,
}


# -- cursors ---------------------------------------------------------------------------------------


def _traced_cursor(original: Any) -> type:  # a class that is known at run time only
    """A subclass: asyncpg's cursors have no place to keep a statement in."""

    class Traced(original):  # type: ignore[misc]  # same
        """One statement, read page by page."""

        __slots__ = ("_heatshield",)

        async def _bind(self, timeout: object) -> Sequence[object]:  # noqa: ASYNC109  # asyncpg's signature
            return await self._in_span(super()._bind(timeout), 0, begins=True)

        async def _bind_exec(self, n: int, timeout: object) -> Sequence[object]:  # noqa: ASYNC109  # same
            return await self._in_span(super()._bind_exec(n, timeout), n, begins=True)

        async def _exec(self, n: int, timeout: object) -> Sequence[object]:  # noqa: ASYNC109  # same
            return await self._in_span(super()._exec(n, timeout), n)

        async def _in_span(
            self, work: Awaitable[Sequence[object]], n: int, *, begins: bool = False
        ) -> Sequence[object]:
            if begins:
                self._heatshield = _STATEMENTS.begun(_begin, self._connection, self._query)
            statement: Statement | None = getattr(self, "_heatshield", None)
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
