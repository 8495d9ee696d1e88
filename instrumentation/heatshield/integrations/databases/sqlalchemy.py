"""SQLAlchemy, sync and asyncio, Core and ORM: a span a statement, with the rows it reads or writes.

SQLAlchemy's own events say when a cursor executes, for engines that exist and those made later. The
driver's integration makes no span of what runs inside: this one covers every driver and ends at the
same moment. Rows are known with the statement where the driver buffers them; else they are counted
as SQLAlchemy's result fetches them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from functools import wraps
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakKeyDictionary

from heatshield.counters import fail_open
from heatshield.integrations.databases.sql_statements import Statement, Statements
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Original, Patches
from heatshield.integrations.services import Services
from heatshield.tracing.values import Attributes, Plain

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, CursorResult, Engine, ExceptionContext
    from sqlalchemy.engine.default import DefaultExecutionContext
    from sqlalchemy.engine.interfaces import DBAPICursor

    Result = CursorResult[object]

__all__ = ["NAME", "install", "remove"]

NAME: Final = "sqlalchemy"

_STATEMENTS: Final = Statements(NAME, OtelContrib("sqlalchemy", "SQLAlchemyInstrumentor"))
_PATCHES: Final = Patches()

_KEPT: Final = "_heatshield_statement"
"""Where an execution's statement is kept on its context."""

_ENGINES: Final[WeakKeyDictionary[Engine, Mapping[str, Plain]]] = WeakKeyDictionary()
"""What spans say of an engine."""

_SYSTEMS: Final[Mapping[str, str]] = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}
"""OpenTelemetry's names where SQLAlchemy has others."""

_BUFFERING: Final = frozenset(
    {"psycopg", "psycopg2", "psycopg2cffi", "asyncpg", "pg8000", "pymysql", "mysqldb", "cymysql",
     "aiomysql", "asyncmy"}
)  # fmt: skip
"""Drivers that have all rows, and say how many, when ``execute`` returns."""

_EVENTS: Final[list[tuple[str, Callable[..., None]]]] = []
"""What is listened to now."""


def install(_services: Services) -> None:
    """Listen to every engine; replaces an earlier installation.

    Raises:
        ImportError: if SQLAlchemy is not installed.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine, cursor

    remove()
    for name, listener in (
        ("before_cursor_execute", _before),
        ("after_cursor_execute", _after),
        ("handle_error", _failed),
    ):
        event.listen(Engine, name, listener)
        _EVENTS.append((name, listener))
    for strategy in (
        cursor.CursorFetchStrategy,
        cursor.BufferedRowCursorFetchStrategy,
        cursor.FullyBufferedCursorFetchStrategy,
    ):
        _PATCHES.wrap(strategy, "fetchone", _fetching_one)
        _PATCHES.wrap(strategy, "fetchmany", _fetching)
        _PATCHES.wrap(strategy, "fetchall", _fetching)
        _PATCHES.wrap(strategy, "soft_close", _closing)
        _PATCHES.wrap(strategy, "hard_close", _closing)


def remove() -> None:
    """Stop listening."""
    _PATCHES.undo()
    if _EVENTS:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        while _EVENTS:
            event.remove(Engine, *_EVENTS.pop())


# -- statements ------------------------------------------------------------------------------------


@fail_open(NAME, None)
def _before(
    connection: Connection,
    _cursor: object,
    statement: str,
    parameters: object,
    context: DefaultExecutionContext | None,
    *_: object,
) -> None:
    if context is None:
        return
    earlier: Statement | None = getattr(context, _KEPT, None)  # of the batch, or a default's
    if earlier is not None:
        earlier.end()
    batch = len(cast("Sized", parameters)) if _is_batch(context, parameters) else 0
    opened = _STATEMENTS.cover(
        statement, _attributes_of(connection.engine), system=connection.dialect.name, batch=batch
    )
    setattr(context, _KEPT, opened)


@fail_open(NAME, None)
def _after(
    connection: Connection,
    cursor: DBAPICursor,
    _statement: str,
    parameters: object,
    context: DefaultExecutionContext,
    *_: object,
) -> None:
    statement: Statement | None = getattr(context, _KEPT, None)
    if statement is None:
        return
    said: object = cursor.rowcount
    rows = said if isinstance(said, int) else -1
    if cursor.description is None:
        if rows < 0 and _is_batch(context, parameters):
            rows = len(cast("Sized", parameters))
        statement.end(max(0, rows))
    elif _is_buffered(connection, context) and rows >= 0:
        statement.end(rows)
    else:
        statement.pause()


@fail_open(NAME, None)
def _failed(error: ExceptionContext) -> None:
    statement: Statement | None = getattr(error.execution_context, _KEPT, None)
    if statement is not None and statement.span is not None:
        statement.fail(error.original_exception)


def _is_batch(context: DefaultExecutionContext, parameters: object) -> bool:
    """Whether each of the parameters is one execution's."""
    return context.execute_style.name == "EXECUTEMANY" and isinstance(parameters, list | tuple)


def _is_buffered(connection: Connection, context: DefaultExecutionContext) -> bool:
    return connection.dialect.driver in _BUFFERING and not getattr(
        context, "_is_server_side", False
    )


def _attributes_of(engine: Engine) -> Mapping[str, Plain]:
    known = _ENGINES.get(engine)
    if known is None:
        url, name = engine.url, engine.dialect.name
        found: Attributes = {
            "db.system.name": _SYSTEMS.get(name, name),
            "db.namespace": url.database,
            "server.address": url.host,
            "server.port": url.port,
        }
        known = {name: value for name, value in found.items() if value is not None}
        _ENGINES[engine] = known
    return known


# -- rows ------------------------------------------------------------------------------------------


def _reading(result: Result) -> Statement | None:
    """The statement whose rows a result reads, if they are counted here."""
    found: Statement | None = getattr(result.context, _KEPT, None)
    if found is None or found.running or found.span is None:
        return None  # or counted already by the strategy that calls this one
    return found


def _fetching_one(fetch: Original) -> Original:
    @wraps(fetch)
    def fetched(strategy: object, result: Result, *args: object, **kwargs: object) -> object:
        statement = _reading(result)
        row = fetch(strategy, result, *args, **kwargs)
        if statement is not None and row is not None:
            statement.read(1)
        return row

    return fetched


def _fetching(fetch: Callable[..., Sized]) -> Original:
    @wraps(fetch)
    def fetched(strategy: object, result: Result, *args: object, **kwargs: object) -> object:
        statement = _reading(result)
        if statement is None:
            return fetch(strategy, result, *args, **kwargs)
        statement.resume()
        try:
            rows = fetch(strategy, result, *args, **kwargs)
        except BaseException as error:
            statement.fail(error)
            raise
        size = kwargs.get("size", args[1] if len(args) > 1 else None)
        wanted = cast("int | None", size)
        closed = result._soft_closed  # noqa: SLF001  # nothing public says that it is exhausted
        if closed or (wanted is not None and len(rows) < wanted):
            statement.end(len(rows))
        else:
            statement.pause(len(rows))
        return rows

    return fetched


def _closing(close: Original) -> Original:
    @wraps(close)
    def closed(strategy: object, result: Result, *args: object, **kwargs: object) -> object:
        statement = _reading(result)
        if statement is not None:
            statement.end()
        return close(strategy, result, *args, **kwargs)

    return closed
