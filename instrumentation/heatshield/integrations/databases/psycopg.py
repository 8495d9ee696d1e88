"""psycopg 3, sync and async: a span a statement, with the rows it reads or writes.

Methods of psycopg's own cursor classes are wrapped, so that cursors of any factory, and those of a
service's subclasses, are covered and stay what they are. Also ``stream()``, ``copy()``, server-side
cursors and pipelines.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    asynccontextmanager,
    closing,
    contextmanager,
)
from functools import wraps
from typing import TYPE_CHECKING, Final, Protocol, cast
from weakref import WeakKeyDictionary

from heatshield.counters import fail_open
from heatshield.integrations.databases.sql_statements import Statement, Statements
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Original, Patches
from heatshield.integrations.services import Services
from heatshield.tracing.values import Attributes, Plain

if TYPE_CHECKING:
    from psycopg import BaseConnection
    from psycopg._cursor_base import BaseCursor
    from psycopg.pq.abc import PGresult

    Connection = BaseConnection[object]
    Cursor = BaseCursor[Connection, object]

__all__ = ["NAME", "install", "remove"]

NAME: Final = "psycopg"

_STATEMENTS: Final = Statements(NAME, OtelContrib("psycopg", "PsycopgInstrumentor"))
_PATCHES: Final = Patches()
_SYSTEM: Final = "postgresql"

_CONNECTIONS: Final[WeakKeyDictionary[Connection, Mapping[str, Plain]]] = WeakKeyDictionary()
"""What spans say of a connection."""

_READING: Final[WeakKeyDictionary[Cursor, Statement]] = WeakKeyDictionary()
"""Statements whose rows are still to come, by cursor: psycopg's have no place for more."""

Steps = Generator[object, object, object]
"""Steps of psycopg's own protocol, that it waits between."""


Rows = Generator[object, None, None]
AsyncRows = AsyncGenerator[object, None]


class _Composed(Protocol):
    """A query of ``psycopg.sql``."""

    def as_string(self, context: Cursor) -> str: ...


class _Template(Protocol):
    """A template string."""

    strings: Iterable[str]


def install(_services: Services) -> None:
    """Patch every kind of cursor; replaces an earlier patch.

    Raises:
        ImportError: if psycopg is not installed.
    """
    import psycopg
    from psycopg._cursor_base import BaseCursor
    from psycopg._server_cursor_base import ServerCursorMixin

    _PATCHES.undo()
    for cursor, server_cursor, around in (
        (psycopg.Cursor, psycopg.ServerCursor, _STATEMENTS.around),
        (psycopg.AsyncCursor, psycopg.AsyncServerCursor, _STATEMENTS.around_async),
    ):
        _PATCHES.wrap(cursor, "execute", around(_begin, _rows_or_later))
        _PATCHES.wrap(cursor, "executemany", around(_begin_many, _rows_or_later))
        _PATCHES.wrap(server_cursor, "execute", around(_begin, _rows_by_page))
    _PATCHES.wrap(ServerCursorMixin, "_fetch_gen", _fetching)
    _PATCHES.wrap(ServerCursorMixin, "_close_gen", _closing)
    _PATCHES.wrap(BaseCursor, "_set_results", _receiving)
    _PATCHES.wrap(psycopg.Cursor, "stream", _streaming)
    _PATCHES.wrap(psycopg.AsyncCursor, "stream", _streaming_async)
    _PATCHES.wrap(psycopg.Cursor, "copy", _copying)
    _PATCHES.wrap(psycopg.AsyncCursor, "copy", _copying_async)


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()
    _READING.clear()


# -- one statement ---------------------------------------------------------------------------------


def _begin(cursor: Cursor, query: object, *_args: object, **_kwargs: object) -> Statement | None:
    if _READING:
        _let_go(cursor)
    return _STATEMENTS.open(_text(query, cursor), _attributes_of(cursor.connection), system=_SYSTEM)


def _begin_many(
    cursor: Cursor, query: object, params_seq: object = (), *_args: object, **_kwargs: object
) -> Statement | None:
    if _READING:
        _let_go(cursor)
    batch = len(params_seq) if isinstance(params_seq, list | tuple) else 0
    return _STATEMENTS.open(
        _text(query, cursor), _attributes_of(cursor.connection), system=_SYSTEM, batch=batch
    )


def _text(query: object, cursor: Cursor) -> str | bytes:
    if isinstance(query, str | bytes):
        return query
    if hasattr(query, "as_string"):
        return cast("_Composed", query).as_string(cursor)
    return "?".join(cast("_Template", query).strings)


def _attributes_of(connection: Connection) -> Mapping[str, Plain]:
    known = _CONNECTIONS.get(connection)
    if known is None:
        info = connection.info
        found: Attributes = {"db.system.name": _SYSTEM, "db.namespace": info.dbname}
        if info.host:
            found |= {"server.address": info.host, "server.port": info.port}
        _CONNECTIONS[connection] = known = found
    return known


def _rows(cursor: Cursor) -> int:
    """Rows read or written by all statements of one ``execute``."""
    results = getattr(cursor, "_results", ())
    if len(results) > 1:
        return _rows_of(results)
    return max(0, int(cursor.rowcount))


def _rows_of(results: Iterable[PGresult]) -> int:
    return sum(result.ntuples or result.command_tuples or 0 for result in results)


def _rows_or_later(
    statement: Statement, _result: object, cursor: Cursor, *_args: object
) -> int | None:
    if cursor.connection.pgconn.pipeline_status and cursor.pgresult is None:
        _READING[cursor] = statement
        return None
    return _rows(cursor)


def _rows_by_page(statement: Statement, _result: object, cursor: Cursor, *_args: object) -> None:
    _READING[cursor] = statement


@fail_open(NAME, None)
def _let_go(cursor: Cursor) -> None:
    """End the cursor's earlier statement: no more of it is read."""
    statement = _READING.pop(cursor, None)
    if statement is not None:
        statement.end()


# -- rows that come later --------------------------------------------------------------------------


def _fetching(fetch: Callable[..., Steps]) -> Callable[..., Steps]:
    @wraps(fetch)
    def fetched(cursor: Cursor, num: int | None) -> Steps:
        statement = _READING.get(cursor)
        if statement is None:
            return (yield from fetch(cursor, num))
        statement.resume()
        try:
            records = cast("Sequence[object]", (yield from fetch(cursor, num)))
        except BaseException as error:
            statement.fail(error)
            raise
        if num is None or len(records) < num:
            statement.end(len(records))
        else:
            statement.pause(len(records))
        return records

    return fetched


def _closing(close: Callable[..., Steps]) -> Callable[..., Steps]:
    @wraps(close)
    def closed(cursor: Cursor) -> Steps:
        _let_go(cursor)
        return (yield from close(cursor))

    return closed


def _receiving(receive: Original) -> Original:
    """Count rows as results come: in a pipeline they come when the service waits for them."""

    @wraps(receive)
    def received(cursor: Cursor, results: Sequence[PGresult]) -> object:
        done = receive(cursor, results)
        if _READING:
            _count(cursor, results)
        return done

    return received


@fail_open(NAME, None)
def _count(cursor: Cursor, results: Sequence[PGresult]) -> None:
    statement = _READING.get(cursor)
    if statement is not None:
        rows = _rows_of(results)
        if getattr(cursor, "_execmany_returning", None) is None:
            statement.end(rows)
        else:
            statement.read(rows)  # of one of many parameters


def _streaming(stream: Callable[..., Rows]) -> Callable[..., Iterator[object]]:
    @wraps(stream)
    def streamed(cursor: Cursor, *args: object, **kwargs: object) -> Iterator[object]:
        rows = stream(cursor, *args, **kwargs)
        statement = _STATEMENTS.begun(_begin, cursor, *args, **kwargs)
        if statement is None:
            yield from rows
            return
        with closing(rows), _STATEMENTS.reading(statement):
            for row in rows:
                statement.pause(1)
                yield row
                statement.resume()

    return streamed


def _streaming_async(stream: Callable[..., AsyncRows]) -> Callable[..., AsyncIterator[object]]:
    @wraps(stream)
    async def streamed(cursor: Cursor, *args: object, **kwargs: object) -> AsyncIterator[object]:
        rows = stream(cursor, *args, **kwargs)
        statement = _STATEMENTS.begun(_begin, cursor, *args, **kwargs)
        if statement is None:
            async for row in rows:
                yield row
            return
        async with aclosing(rows):
            with _STATEMENTS.reading(statement):
                async for row in rows:
                    statement.pause(1)
                    yield row
                    statement.resume()

    return streamed


def _copying(copy: Callable[..., AbstractContextManager[object]]) -> Original:
    @wraps(copy)
    @contextmanager
    def copied(cursor: Cursor, *args: object, **kwargs: object) -> Iterator[object]:
        statement = _STATEMENTS.begun(_begin, cursor, *args, **kwargs)
        if statement is None:
            with copy(cursor, *args, **kwargs) as copying:
                yield copying
            return
        with _STATEMENTS.reading(statement):
            with copy(cursor, *args, **kwargs) as copying:
                yield copying
            statement.read(_rows(cursor))

    return copied


def _copying_async(copy: Callable[..., AbstractAsyncContextManager[object]]) -> Original:
    @wraps(copy)
    @asynccontextmanager
    async def copied(cursor: Cursor, *args: object, **kwargs: object) -> AsyncIterator[object]:
        statement = _STATEMENTS.begun(_begin, cursor, *args, **kwargs)
        if statement is None:
            async with copy(cursor, *args, **kwargs) as copying:
                yield copying
            return
        with _STATEMENTS.reading(statement):
            async with copy(cursor, *args, **kwargs) as copying:
                yield copying
            statement.read(_rows(cursor))

    return copied
